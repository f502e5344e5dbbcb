"""
Cuts what is too long: long strings inside a payload first, so that it stays JSON.

A text is cut in two steps: roughly before redaction, so that a result of 5 MB does not
hold up a thread, and to its size after it, so that a credential at the end of what
stays is found whole.
"""

from __future__ import annotations

import json
import re
from typing import Final

__all__ = [
    "MARGIN_CHARS",
    "MAX_TEXT_CHARS",
    "capped_payload",
    "capped_text",
    "rough_payload",
]

MAX_TEXT_CHARS: Final = 8_192
"""Of `error_message`, `reason` and each attribute."""

MARGIN_CHARS: Final = 8_192
"""What the rough cut leaves beyond the final one. Longer than any credential."""

_ROUGH_CHARS: Final = 1_048_576
_LONGEST_CHARS: Final = 65_536
_SHORTEST_CHARS: Final = 64
_HEAD_CHARS: Final = 4_096
_MAX_STRINGS: Final = 100_000
_MARK: Final = "...[fleetwake: "
_CUT: Final = re.compile(r"\.\.\.\[fleetwake: ([0-9]{1,19}) characters cut\]$")
_CUT_CHARS: Final = 64
_ESCAPE_CHARS: Final = 6
# In steps, so that `re` does not hold the GIL for all of a string.
_CHARACTERS: Final = re.compile(r'(?:[^"\\]++|\\.){0,4096}+', re.DOTALL)


def capped_text(text: str, chars: int = MAX_TEXT_CHARS) -> str:
    """Return at most so many characters of a text, and then how many were cut."""
    if len(text) <= chars:
        return text
    earlier = _CUT.search(text, max(chars, len(text) - _CUT_CHARS))
    end, cut = (earlier.start(), int(earlier[1])) if earlier else (len(text), 0)
    return f"{text[:chars]}...[fleetwake: {end - chars + cut} characters cut]"


def rough_payload(payload: str) -> str:
    """Return a payload that is quick to redact: strings cut, or else a marker."""
    if len(payload) <= _ROUGH_CHARS:
        return payload
    strings = _long_strings(payload)
    cut = _with_shorter(payload, strings, _LONGEST_CHARS + MARGIN_CHARS)
    return cut if len(cut) <= _ROUGH_CHARS else _marker(payload, len(payload))


def capped_payload(payload: str, max_bytes: int, chars: int | None = None) -> str:
    """
    Return a payload of at most so many bytes of UTF-8.

    Strings in it are cut to 65,536 characters, half of that, and so on, until it
    fits. If that does not help, `{"fleetwake_cut": {"chars": ..., "head": ...}}`
    stands in its place; `chars` is the true length, if this is cut already.
    """
    if _size(payload) <= max_bytes and _MARK not in payload:
        return payload
    strings = _long_strings(payload)
    longest = _LONGEST_CHARS
    while longest >= _SHORTEST_CHARS:
        cut = _with_shorter(payload, strings, longest)
        if _size(cut) <= max_bytes:
            return cut
        longest //= 2
    return _marker(payload, chars or len(payload), max_bytes // 4)


def _long_strings(payload: str) -> list[tuple[int, int]]:
    """Find the strings longer than we ever cut to, without their quotation marks."""
    found: list[tuple[int, int]] = []
    at = payload.find('"')
    for _ in range(_MAX_STRINGS):
        end = _end_of_string(payload, at + 1) if at >= 0 else -1
        if end < 0:
            break
        if end - at > _SHORTEST_CHARS:
            found.append((at + 1, end))
        at = payload.find('"', end + 1)
    return found


def _end_of_string(payload: str, at: int) -> int:
    end = payload.find('"', at)
    if end < 0 or payload[end - 1] != "\\":
        return end
    while (match := _CHARACTERS.match(payload, at)) and match.end() > at:
        at = match.end()
    return at if payload.startswith('"', at) else -1


def _with_shorter(payload: str, strings: list[tuple[int, int]], chars: int) -> str:
    parts: list[str] = []
    done = 0
    for start, end in strings:
        if end - start > chars:
            parts += [payload[done:start], _shorter(payload[start:end], chars)]
            done = end
    return "".join([*parts, payload[done:]])


def _shorter(raw: str, chars: int) -> str:
    """Cut a JSON string, as it stands in the JSON, between two characters."""
    for at in range(chars, chars - _ESCAPE_CHARS, -1):
        try:
            json.loads(f'"{raw[:at]}"', strict=False)
        except ValueError:
            continue
        return capped_text(raw, at)
    return capped_text("", 0)


def _size(payload: str) -> int:
    if payload.isascii():
        return len(payload)
    return len(payload.encode("utf-8", "replace"))


def _marker(payload: str, chars: int, head_chars: int = _HEAD_CHARS) -> str:
    cut: dict[str, object] = {"chars": chars}
    if payload[:1] in {"{", "["}:
        cut["head"] = payload[: min(head_chars, _HEAD_CHARS)]
    return json.dumps({"fleetwake_cut": cut})
