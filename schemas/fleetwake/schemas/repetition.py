r"""
How often a text repeats itself, found in linear time. Belongs to version 1 of digests.

The *words* of a text are the first 8,192 bytes of its UTF-8 (each lone surrogate as
U+FFFD), split at runs of ASCII white space. A *phrase* is 1 to 64 words. The number is
the largest n such that a phrase stands n times in a row: 1 if nothing is repeated, 0
if there are no words. "no no no" has 3, "a b a b" has 2.
"""

from __future__ import annotations

from operator import eq
from typing import Final

from fleetwake.schemas.text import well_formed

__all__ = ["text_repeats"]

_HEAD_BYTES: Final = 8_192
_MAX_PHRASE: Final = 64


def text_repeats(text: str) -> int:
    """Return how often the most repeated phrase of a text stands in a row."""
    words = _head(text).split()
    numbers: dict[bytes, int] = {}
    row = bytes([numbers.setdefault(word, len(numbers)) & 255 for word in words])
    count = len(row)
    if count == len(numbers):
        return min(count, 1)
    # One exclusive-or of two large integers compares all words with those `size`
    # further on. Equal words give a zero; whether a zero is that, is looked at later.
    whole = int.from_bytes(row, "little")
    repeats = 1
    for size in range(1, _MAX_PHRASE + 1):
        if size * (repeats + 1) > count:
            break
        differences = (whole ^ whole >> (8 * size)).to_bytes(count, "little")
        if differences.find(bytes(size * repeats), 0, count - size) >= 0:
            repeats = max(repeats, _longest_run(words, size) // size + 1)
    return repeats


def _longest_run(words: list[bytes], size: int) -> int:
    same = bytes(map(eq, words, words[size:]))
    return max(map(len, same.split(b"\0")))


def _head(text: str) -> bytes:
    head = text[:_HEAD_BYTES]
    try:
        return head.encode()[:_HEAD_BYTES]
    except UnicodeEncodeError:
        return well_formed(head).encode()[:_HEAD_BYTES]
