r"""
Digests that find a loop without showing what was said. Version 1.

Two calls repeat each other when their arguments and their outcomes have the same
digests. Any language can make them; `vectors/fingerprint-v1.json` has inputs, the
bytes that are hashed, and the digests.

A digest is BLAKE2b of some bytes with `digest_size` 8, keyed if a key is set (at most
64 bytes, so that digests of guessable content cannot be tried out), read as a signed
big-endian integer, and written in JSON as its 16 hex digits. No salt, no person. In
what follows *text* is UTF-8 in which each lone surrogate is U+FFFD.

**Canonical JSON** is RFC 8785 of a value in which

- an integer beyond +-(2^53 - 1) became text, its decimal digits as they stand; NaN,
  Infinity and -Infinity became these words as text (RFC 8785 has neither);
- text of more than 8,192 bytes became `sha256:`, the hex SHA-256, `:` and its length;
- whatever stands more than 64 levels deep became the text `...`;
- what JSON does not know (a date, a path) became its text.

A *JSON text* has at most 65,536 code points (to parse 5 MB holds the GIL for 50 ms),
and is parsed by RFC 8259, so that NaN makes it no JSON; the last of two equal names
wins; a number without fraction and exponent is an integer.

**Arguments**: canonical JSON. Text is parsed as JSON text first; what is none is
hashed as it stands.

**Outcome**: if the value, or the JSON text that it is, is an object or an array, then
canonical JSON without the names in `VOLATILE_NAMES` (compared in lower case, without
`_` and `-`) on any level; other text as it stands. Then each match of these, one rule
after the other, on bytes, leftmost and greedy:

    [0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}              ->  <uuid>
    0[xX][0-9a-fA-F]+                                               ->  <hex>
    [0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}, then perhaps
        :[0-9]{2}([.,][0-9]+)?, then perhaps Z|[+-][0-9]{2}:?[0-9]{2}  ->  <time>

and in an error, where these numbers are no progress, also

    \b(line|attempt|pid|port|after)("?[ \t=:#(]+)[0-9]+([.][0-9]+)?
        in any case, \b as in ASCII                                 ->  \1\2<n>
    [:#][0-9]+(:[0-9]+)*, not after a quotation mark                ->  <n>

Other numbers stay: "10 % done" is progress, and "9 failed" is not "8 failed". No
outcome at all has no digest; an empty one has.

**Error class**: the first 1,024 code points of the error with <uuid> and <hex>
replaced and each run of digits <n>; of this, the first 200 code points.

**Text**: each run of ASCII white space one space, none at the ends.

Outcome and text read the first 8,192 bytes only (a regular expression over 5 MB holds
the GIL for half a second). If there are more: the bytes so far, a zero byte, the
length of the whole in decimal, a zero byte, and the hex SHA-256 of the rest.
"""

from __future__ import annotations

import re
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, Final, TypeAlias

from fleetwake.schemas.canonical import NO_JSON, canonical, parsed, utf8

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "FINGERPRINT_VERSION",
    "PREVIEW_CHARS",
    "VOLATILE_NAMES",
    "arguments_digest",
    "error_class_digest",
    "outcome_digest",
    "preview",
    "text_digest",
]

PREVIEW_CHARS: Final = 200
"""Of a preview, in code points."""

FINGERPRINT_VERSION: Final = 1
"""Raised when a digest of the same input changes. Versions never compare equal."""

# Names under which real tools answer with something new each time. `id`, `count` and
# `date` are not among them: an answer about another object is progress.
VOLATILE_NAMES: Final = frozenset(
    {
        *("requestid", "traceid", "spanid", "correlationid", "messageid", "runid"),
        *("sessionid", "eventid", "callid", "toolcallid", "invocationid", "uuid"),
        *("nonce", "etag"),
        *("timestamp", "ts", "time", "datetime", "createdat", "updatedat"),
        *("modifiedat", "startedat", "endedat", "finishedat", "completedat"),
        *("starttime", "endtime", "expiresat", "lastmodified"),
        *("duration", "durationms", "durations", "durationseconds", "elapsed"),
        *("elapsedms", "elapsedseconds", "elapsedtime", "latency", "latencyms"),
        *("took", "tookms", "executiontime", "responsetime", "walltime", "runtime"),
        *("pid", "ppid", "tid", "cwd"),
        *("attempt", "attempts", "retry", "retries", "retrycount"),
        *("sequence", "seq", "counter"),
    }
)

_HEAD_BYTES: Final = 8_192
_CLASS_CHARS: Final = 1_024

_OPENERS: Final = frozenset("{[")

_Rule: TypeAlias = tuple[re.Pattern[bytes], bytes, tuple[bytes, ...]]
"""A pattern, what replaces it, and letters of which each match has one."""

_HEX: Final = rb"[0-9a-fA-F]"
_IDS: Final[tuple[_Rule, ...]] = (
    (
        re.compile(_HEX + rb"{8}(?:-" + _HEX + rb"{4}){3}-" + _HEX + rb"{12}"),
        b"<uuid>",
        (b"-",),
    ),
    (re.compile(rb"0[xX]" + _HEX + rb"+"), b"<hex>", (b"0x", b"0X")),
)
_OUTCOME: Final[tuple[_Rule, ...]] = (
    *_IDS,
    (
        re.compile(
            rb"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}"
            rb"(?::[0-9]{2}(?:[.,][0-9]+)?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?"
        ),
        b"<time>",
        (b"-",),
    ),
)
_ERROR: Final[tuple[_Rule, ...]] = (
    *_OUTCOME,
    (
        re.compile(
            rb'\b(line|attempt|pid|port|after)("?[ \t=:#(]+)[0-9]+(?:[.][0-9]+)?',
            re.IGNORECASE,
        ),
        rb"\1\2<n>",
        (b"",),
    ),
    (re.compile(rb'(?<!")[:#][0-9]+(?::[0-9]+)*'), b"<n>", (b":", b"#")),
)
_ERROR_CLASS: Final[tuple[_Rule, ...]] = (
    *_IDS,
    (re.compile(rb"[0-9]+"), b"<n>", (b"",)),
)


def arguments_digest(value: object, *, key: bytes = b"") -> int:
    """Return the digest of a call's arguments: JSON text, or what it stands for."""
    return _digest(_arguments_form(value), key)


def outcome_digest(value: object, *, is_error: bool, key: bytes = b"") -> int | None:
    """
    Return the digest of what a call came to, whole, before any cut and redaction.

    None is a missing outcome: it has no digest, and is never equal to another.
    """
    if value is None:
        return None
    return _digest(_outcome_form(value, is_error=is_error), key)


def error_class_digest(text: str, *, key: bytes = b"") -> int:
    """Return the digest of an error without its numbers, to compare across calls."""
    return _digest(_error_class_form(text), key)


def text_digest(text: str, *, key: bytes = b"") -> int:
    """Return the digest of what a model or a user said."""
    return _digest(_text_form(text), key)


def preview(text: str) -> str:
    """Return the first 200 code points."""
    return text[:PREVIEW_CHARS]


def _digest(form: bytes, key: bytes) -> int:
    digest = blake2b(form, digest_size=8, key=key).digest()
    return int.from_bytes(digest, "big", signed=True)


def _arguments_form(value: object) -> bytes:
    plain = parsed(value) if isinstance(value, str) else value
    return utf8(str(value)) if plain is NO_JSON else canonical(plain)


def _outcome_form(value: object, *, is_error: bool) -> bytes:
    rules = _ERROR if is_error else _OUTCOME
    return _head(_whole_outcome(value), lambda head: _replaced(head, rules))


def _whole_outcome(value: object) -> bytes:
    # Only these begin an object or an array; most outcomes are prose.
    if isinstance(value, str) and value.lstrip()[:1] not in _OPENERS:
        return utf8(value)
    plain = parsed(value) if isinstance(value, str) else value
    if isinstance(value, str) and plain is NO_JSON:
        return utf8(value)
    return canonical(plain, VOLATILE_NAMES)


def _error_class_form(text: str) -> bytes:
    replaced = _replaced(utf8(text[:_CLASS_CHARS]), _ERROR_CLASS)
    return replaced.decode()[:PREVIEW_CHARS].encode()


def _text_form(text: str) -> bytes:
    return _head(utf8(text), lambda head: b" ".join(head.split()))


def _head(whole: bytes, normalise: Callable[[bytes], bytes]) -> bytes:
    head = normalise(whole[:_HEAD_BYTES])
    if len(whole) <= _HEAD_BYTES:
        return head
    rest = sha256(whole[_HEAD_BYTES:]).hexdigest()
    return b"%b\0%d\0%b" % (head, len(whole), rest.encode())


def _replaced(text: bytes, rules: tuple[_Rule, ...]) -> bytes:
    for pattern, replacement, needles in rules:
        if any(needle in text for needle in needles):
            text = pattern.sub(replacement, text)
    return text
