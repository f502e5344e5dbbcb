r"""
How often a text repeats itself, found in linear time. Belongs to version 1 of digests.

The *prose* of a text is the first 8,192 bytes of its UTF-8 (each lone surrogate as
U+FFFD), cut at line feeds, without the lines in which repetition is no sign of a loop:

- those in a fence, from a line that begins with three backticks or tildes to the next
  such line or the end, both included;
- those that begin (after up to three spaces) as a list item (`-`, `*`, `+`, U+2022 or
  digits with `.` or `)`, then a space or tab), as a heading (`#`) or a quotation (`>`);
- those that begin with four spaces or a tab, that have a `|` in them, as rows of tables
  have, or no ASCII letter, no digit and no byte of 128 or more.

The *words* are the prose split at runs of ASCII white space; in place of one of more
than 40 bytes, as of a language without spaces, its characters. A *phrase* is 1 to 64
words. The number is the largest n such that a phrase stands n times in a row and these
words, with one space between two, have 200 bytes or more: 1 if there is none, 0 if the
first 8,192 bytes are white space. Forty times "I am done." has 40, three times has 1.
"""

from __future__ import annotations

import re
from itertools import accumulate
from operator import eq
from typing import Final

from fleetwake.schemas.text import well_formed

__all__ = ["text_repeats"]

_HEAD_BYTES: Final = 8_192
_MAX_PHRASE: Final = 64
_LEAST_BYTES: Final = 200
_LONG_WORD_BYTES: Final = 40

_CHARACTER: Final = re.compile(rb"[\x00-\x7f\xc0-\xff][\x80-\xbf]*")
_FENCE: Final = re.compile(rb" {0,3}(?:```|~~~)")
_MARKUP: Final = re.compile(
    rb" {4}|\t| {0,3}(?:#|>|(?:[-*+]|\xe2\x80\xa2|[0-9]+[.)])[ \t])"
    rb"|[^0-9A-Za-z\x80-\xff]*\Z"
)


def text_repeats(text: str) -> int:
    """Return how often the most repeated phrase of a text stands in a row."""
    head = _head(text)
    words = _words(_prose(head))
    numbers: dict[bytes, int] = {}
    row = bytes([numbers.setdefault(word, len(numbers)) & 255 for word in words])
    count = len(row)
    ends = list(accumulate(map(len, words), initial=0))
    if count == len(numbers) or ends[-1] + count <= _LEAST_BYTES:
        return 0 if head.isspace() or not head else 1
    # One exclusive-or of two large integers compares all words with those `size`
    # further on. Equal words give a zero; whether a zero is that, is looked at later.
    whole = int.from_bytes(row, "little")
    # So many words at least fill the bytes.
    least = _LEAST_BYTES // (max(map(len, numbers)) + 1)
    repeats = 1
    for size in range(1, _MAX_PHRASE + 1):
        if size * (repeats + 1) > count:
            break
        differences = (whole ^ whole >> (8 * size)).to_bytes(count, "little")
        zeros = bytes(max(size * repeats, least - size))
        if differences.find(zeros, 0, count - size) >= 0:
            repeats = max(repeats, _most_often(words, size, ends))
    return repeats


def _most_often(words: list[bytes], size: int, ends: list[int]) -> int:
    same = bytes(map(eq, words, words[size:]))
    most = 1
    for run in re.finditer(b"\1+", same):
        first, last = run.span()
        times = (last - first) // size + 1
        if times > most:
            length = times * size
            starts = range(first, last + size - length + 1)
            letters = max(ends[at + length] - ends[at] for at in starts)
            if letters + length > _LEAST_BYTES:
                most = times
    return most


def _words(prose: bytes) -> list[bytes]:
    words = prose.split()
    if max(map(len, words), default=0) <= _LONG_WORD_BYTES:
        return words
    return [
        part
        for word in words
        for part in (
            (word,) if len(word) <= _LONG_WORD_BYTES else _CHARACTER.findall(word)
        )
    ]


def _prose(head: bytes) -> bytes:
    prose: list[bytes] = []
    is_fenced = False
    for line in head.split(b"\n"):
        if _FENCE.match(line):
            is_fenced = not is_fenced
        elif not (is_fenced or b"|" in line or _MARKUP.match(line)):
            prose.append(line)
    return b"\n".join(prose)


def _head(text: str) -> bytes:
    head = text[:_HEAD_BYTES]
    try:
        return head.encode()[:_HEAD_BYTES]
    except UnicodeEncodeError:
        return well_formed(head).encode()[:_HEAD_BYTES]
