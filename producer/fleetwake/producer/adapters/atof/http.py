"""What a stream sink of NeMo Relay sends, read back into records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetwake.producer.adapters.formats import Record, parse_record
from fleetwake.producer.adapters.mapping import UnmappableError
from fleetwake.producer.dead_letter import DeadLetter
from fleetwake.schemas.errors import FleetwakeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["MAX_LINE_BYTES", "ContentTypeError", "read_http"]

MAX_LINE_BYTES: Final = 16 * 1024 * 1024
"""Of one record; a longer one becomes a dead letter."""

_MAX_LETTER_BYTES: Final = 1024 * 1024
_CONTENT_TYPES: Final = frozenset(
    {"", "application/x-ndjson", "application/ndjson", "application/json"}
)


class ContentTypeError(FleetwakeError):
    """Raised when a body is not said to be lines of JSON. Over HTTP: status 415."""


def read_http(
    body: bytes | Iterable[bytes],
    content_type: str = "",
    *,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> Iterator[Record | DeadLetter]:
    """
    Yield the records of a body, each as soon as its line is there, and what is none.

    Serves all three transports of Relay's sink: `http_post` (a body has one line),
    `ndjson` (one long body; its chunks end anywhere) and `websocket` (each message is a
    body). A broken line does not stop the ones after it; the last line may lack its
    end. The names of fields may be those of the policy `replace_dots`: `AtofAdapter`
    knows both.

    Args:
        body: whole, or its chunks as they come; compression must be undone.
        content_type: of the request; parameters do not matter. Empty: not known.
        max_line_bytes: what a line may have. What is beyond it is not held.

    Raises:
        ContentTypeError: at once, before anything is read.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in _CONTENT_TYPES:
        raise ContentTypeError(
            "the body must be application/x-ndjson: a JSON object on each line"
        )
    chunks = (body,) if isinstance(body, (bytes, bytearray)) else body
    return _read(chunks, max_line_bytes)


def _read(
    chunks: Iterable[bytes], max_line_bytes: int
) -> Iterator[Record | DeadLetter]:
    for line in _lines(chunks, max_line_bytes):
        if len(line) > max_line_bytes:
            yield _letter(
                line, "line_too_long", f"it has more than {max_line_bytes} bytes"
            )
        elif line.strip():
            try:
                yield parse_record(line)
            except UnmappableError as error:
                yield _letter(line, error.reason, str(error))


def _lines(chunks: Iterable[bytes], max_line_bytes: int) -> Iterator[bytes]:
    """Yield lines without their ends; of one that is too long, the beginning."""
    rest = bytearray()
    for chunk in chunks:
        *whole, tail = chunk.split(b"\n")
        for line in whole:
            _append(rest, line, max_line_bytes)
            yield bytes(rest)
            rest.clear()
        _append(rest, tail, max_line_bytes)
    if rest:
        yield bytes(rest)


def _append(rest: bytearray, part: bytes, max_line_bytes: int) -> None:
    # One byte more than allowed tells that it was too long.
    rest += part[: max_line_bytes + 1 - len(rest)]


def _letter(line: bytes, reason: str, error: str) -> DeadLetter:
    return DeadLetter(
        line[:_MAX_LETTER_BYTES], reason, error, origin={"source": "atof"}
    )
