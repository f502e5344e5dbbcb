"""What a stream sink of NeMo Relay sends, read back into records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias, cast

from fleetwake.producer.adapters.formats import Record, parse_record
from fleetwake.producer.adapters.mapping import Mapped, UnmappableError
from fleetwake.producer.content import NOT_FINITE, plain_json
from fleetwake.producer.dead_letter import DeadLetter
from fleetwake.schemas.errors import FleetwakeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fleetwake.producer.adapters.atof.adapter import AtofAdapter

__all__ = ["MAX_LINE_BYTES", "ContentTypeError", "map_http", "read_http"]

Chunk: TypeAlias = "str | bytes | bytearray | memoryview"

MAX_LINE_BYTES: Final = 16 * 1024 * 1024
"""Of one record; a longer one becomes a dead letter."""

_MAX_LETTER_BYTES: Final = 1024 * 1024
_CONTENT_TYPES: Final = frozenset(
    {"", "application/x-ndjson", "application/ndjson", "application/json"}
)


class ContentTypeError(FleetwakeError):
    """Raised when a body is not said to be lines of JSON. Over HTTP: status 415."""


def map_http(
    adapter: AtofAdapter,
    body: Chunk | Iterable[Chunk],
    content_type: str = "",
    *,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> Iterator[Mapped | DeadLetter]:
    """
    Yield the events of a body, and what makes none; arguments as for `read_http`.

    An event in whose record NaN or an infinity became text has the note `not_finite`.

    Raises:
        ContentTypeError: at once, before anything is read.
        TypeError: likewise, the body is neither text nor bytes nor chunks of them.
    """
    return _map(adapter, read_http(body, content_type, max_line_bytes=max_line_bytes))


def _map(
    adapter: AtofAdapter, records: Iterable[Record | DeadLetter]
) -> Iterator[Mapped | DeadLetter]:
    for one in records:
        if isinstance(one, DeadLetter):
            yield one
            continue
        try:
            ((event, content),) = adapter.map(one.fields, ordinal=0)
        except UnmappableError as error:
            line = plain_json(one.fields)[0].encode()
            yield _letter(line, error.reason, str(error))
        else:
            note = content.note if one.is_finite else NOT_FINITE
            yield Mapped(event, content._replace(note=note))


def read_http(
    body: Chunk | Iterable[Chunk],
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
        body: whole, or its chunks as they come, of bytes or of text (a websocket's
            messages are text); compression must be undone.
        content_type: of the request; parameters do not matter. Empty: not known.
        max_line_bytes: what a line may have. What is beyond it is not held.

    Raises:
        ContentTypeError: at once, before anything is read.
        TypeError: likewise, the body is neither text nor bytes nor chunks of them.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in _CONTENT_TYPES:
        raise ContentTypeError(
            "the body must be application/x-ndjson: a JSON object on each line"
        )
    if isinstance(body, (str, bytes, bytearray, memoryview)):
        return _read((cast("Chunk", body),), max_line_bytes)
    return _read(iter(body), max_line_bytes)


def _read(
    chunks: Iterable[Chunk], max_line_bytes: int
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


def _lines(chunks: Iterable[Chunk], max_line_bytes: int) -> Iterator[bytes]:
    """Yield lines without their ends; of one that is too long, the beginning."""
    rest = bytearray()
    for chunk in chunks:
        *whole, tail = _bytes_of(chunk).split(b"\n")
        for line in whole:
            _append(rest, line, max_line_bytes)
            yield bytes(rest)
            rest.clear()
        _append(rest, tail, max_line_bytes)
    if rest:
        yield bytes(rest)


def _bytes_of(chunk: Chunk) -> bytes:
    if isinstance(chunk, str):
        # A lone surrogate makes its line a dead letter, as over HTTP.
        return chunk.encode("utf-8", "surrogatepass")
    return chunk if isinstance(chunk, bytes) else bytes(memoryview(chunk))


def _append(rest: bytearray, part: bytes, max_line_bytes: int) -> None:
    # One byte more than allowed tells that it was too long.
    rest += part[: max_line_bytes + 1 - len(rest)]


def _letter(line: bytes, reason: str, error: str) -> DeadLetter:
    return DeadLetter(
        line[:_MAX_LETTER_BYTES], reason, error, origin={"source": "atof"}
    )
