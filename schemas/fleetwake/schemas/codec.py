"""
From a record to bytes and back, one at a time and strictly.

`decode` is the reference: what it refuses is refused everywhere, and `columnar`
answers as it does, only faster. `framing` has the bytes before a datum.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from hashlib import sha256 as sha256_of
from io import BytesIO
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

import fastavro
from fastavro.read import SchemaResolutionError

from fleetwake.schemas import records
from fleetwake.schemas.bulk import event_bodies
from fleetwake.schemas.checks import (
    MAX_TIME_US,
    check_datum,
    event_datum,
    mend_doubles,
    mend_texts,
    own_schema,
    record_datum,
)
from fleetwake.schemas.errors import (
    DigestMismatchError,
    InvalidEventError,
    MalformedBodyError,
    OversizedFrameError,
    TrailingBytesError,
    UnsupportedSchemaError,
)
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.framing import confluent_header, single_object_header, unframe
from fleetwake.schemas.layout import columns, plain_schema, promotes
from fleetwake.schemas.lookup import PackagedSchemas, Schema, SchemaLookup, current
from fleetwake.schemas.text import well_formed
from fleetwake.schemas.topics import MAX_RECORD_BYTES
from fleetwake.schemas.writer import event_body

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetwake.schemas.layout import Json, Kind

__all__ = [
    "EVENT_COLUMNS",
    "MAX_VALUE_BYTES",
    "SHA256_HEADER",
    "EventEncoder",
    "PackagedSchemas",
    "Schema",
    "SchemaLookup",
    "confluent_header",
    "decode",
    "decode_record",
    "encode",
    "encode_fields",
    "encode_record",
    "plain_event_schema",
    "schema_of",
    "single_object_header",
    "well_formed",
]

SHA256_HEADER: Final = "fleetwake-sha256"
"""The Kafka header with the SHA-256 (32 bytes) of the whole value, frame included."""

MAX_VALUE_BYTES: Final = 2 * MAX_RECORD_BYTES
"""What a reader takes: the `max.message.bytes` of our topics."""

# What fastavro raises on bytes that are no datum, by a run over 10^6 mutated frames.
# Its own words are not for a log: they hold lengths made of content, and addresses.
_NO_DATUM: Final[dict[type[Exception], str]] = {
    EOFError: "it ends too early",
    IndexError: "a union has no such branch",
    UnicodeDecodeError: "a text is not UTF-8",
    SchemaResolutionError: "a value does not have the type that we read",
    OverflowError: "a number is out of range",
    ValueError: "a value is not readable",
}

# Fewer are as fast one by one.
_FEW: Final = 8

R = TypeVar("R", bound=records.OtherRecord)


class _Writer(NamedTuple):
    """A writer schema, ready to read with, or the problem with it."""

    plain: dict[str, Json]
    parsed: Any = None
    is_ours: bool = False
    problem: str | None = None


class EventEncoder:
    """
    Encodes events behind a frame header of your choice. Threads may share it.

    Lone surrogates become U+FFFD, and NaN and infinities in `duration_ms` and
    `cost_usd` null: the source's record in `payload` still has them as escaped text.
    """

    def __init__(self, header: bytes) -> None:
        self._header = header

    def __call__(self, event: AuditEvent) -> bytes:
        """
        Return the frame: the header and the datum. Costs 10 us.

        Raises:
            InvalidEventError: the event is not as docs/spec.md demands. Names the
                field.
        """
        return self._header + (event_body(event) or _strict_body(event))

    def batch(self, columns: Sequence[Sequence[Any]]) -> list[bytes | None]:
        """
        Return the frames of many events in half the time; None: encode it by itself.

        Where one of them is so, the others take the time of one by one.

        Args:
            columns: the fields, each of all events.

        Raises:
            Exception: whatever an object that does not belong there raises.
        """
        if columns and len(columns[0]) >= _FEW:
            frames = event_bodies(self._header, columns)
            if frames is not None:
                return [*frames]
        bodies = map(event_body, zip(*columns, strict=True))
        return [body and self._header + body for body in bodies]


def encode(event: AuditEvent) -> bytes:
    """Encode an event in the single-object encoding, as `EventEncoder` does."""
    return _encode(event)


def encode_record(record: records.OtherRecord) -> bytes:
    """
    Encode any other record in the single-object encoding.

    Raises:
        InvalidEventError: a field is of a wrong type, or a number that Avro lacks.
    """
    datum = record_datum(record)
    name = type(record).__name__
    ours, header = _ours(name), _header(name)
    try:
        return header + _write(ours, datum)
    except UnicodeEncodeError:
        return header + _write(ours, mend_texts(datum))


def encode_fields(
    record: type[records.OtherRecord], fields: Mapping[str, Json]
) -> bytes:
    """
    Encode all fields of a record whose types the caller knows, four times as fast.

    Nothing is checked but what fastavro finds; texts must be well formed.
    """
    return _header(record.__name__) + _write(_ours(record.__name__), fields)


def decode(
    value: bytes,
    lookup: SchemaLookup,
    *,
    sha256: bytes | None = None,
    max_bytes: int = MAX_VALUE_BYTES,
) -> AuditEvent:
    """
    Decode one event of any version, in either framing.

    Fields that its writer did not know get their defaults; fields that we do not know
    are dropped. What comes out can be held by every column: times lie between the
    years 1970 and 9999, NaN and infinities are null. Whether the words make sense
    (a known `event_type`, a filled `session_id`) is not asked: a newer writer may
    know more of them.

    Raises:
        OversizedFrameError: `value` is longer than `max_bytes`.
        DigestMismatchError: `sha256` is given and is not that of `value`.
        UnknownFramingError, TruncatedFrameError: it has no frame header.
        UnknownSchemaError: `lookup` does not know the schema; ask for it, try again.
        UnsupportedSchemaError: the schema is not one of an event that we read.
        MalformedBodyError: the body is not a datum of the schema.
        TrailingBytesError: the body goes on after the datum.
    """
    if len(value) > max_bytes:
        raise OversizedFrameError(len(value), max_bytes)
    if sha256 is not None and sha256_of(value).digest() != sha256:
        raise DigestMismatchError
    schema, start = unframe(value, lookup)
    writer = _writer(schema, "AuditEvent")
    datum = _read(writer, _EVENT, value[start:])
    # Datums of our own schema have our order, and a call by keywords costs 12 us.
    event = AuditEvent._make(datum.values()) if writer.is_ours else AuditEvent(**datum)
    if not _fits_columns(event):
        mend_doubles(datum)
        _check_read(_EVENT, datum)
        event = AuditEvent(**datum)
    return event


def decode_record(cls: type[R], value: bytes, lookup: SchemaLookup) -> R:
    """
    Decode any other record, as `decode` does an event.

    Raises:
        InvalidRecordError: one of those of `decode`.
    """
    if len(value) > MAX_VALUE_BYTES:
        raise OversizedFrameError(len(value), MAX_VALUE_BYTES)
    schema, start = unframe(value, lookup)
    ours = _ours(cls.__name__)
    datum = _read(_writer(schema, cls.__name__), ours, value[start:])
    _check_read(ours, datum)
    for name, item in records.LISTS.get(cls.__name__, {}).items():
        datum[name] = tuple(item(**one) for one in datum[name])
    return cls(**datum)


def schema_of(record: type[AuditEvent | records.OtherRecord]) -> Schema:
    """Return the schema that we write records of this type with."""
    return current()[record.__name__]


def plain_event_schema(schema: Schema) -> dict[str, Json]:
    """
    Return the plain form of a schema of events.

    Raises:
        UnsupportedSchemaError: it is not one of an event that we read.
    """
    return _writer(schema, "AuditEvent").plain


def _writer(schema: Schema, record: str) -> _Writer:
    writer = _prepared(schema, record)
    if writer.problem:
        reference = f"{schema.name} {schema.fingerprint.hex()}".rstrip()
        raise UnsupportedSchemaError(reference, writer.problem)
    return writer


@lru_cache(maxsize=256)
def _prepared(schema: Schema, record: str) -> _Writer:
    ours = _ours(record).plain
    try:
        plain = plain_schema(schema.text)
        if problem := _mismatch(plain, ours):
            return _Writer(plain, problem=problem)
        is_ours = _layout(plain) == _layout(ours)
        return _Writer(plain, fastavro.parse_schema(plain), is_ours)
    except ValueError as error:
        return _Writer({}, problem=str(error))


def _mismatch(writer: dict[str, Json], ours: dict[str, Json]) -> str | None:
    if writer["name"] != ours["name"]:
        return f"it is not that of {ours['name']}"
    known: dict[str, Kind] = {column.name: column.kind for column in columns(ours)}
    nested = "array" in known.values()
    for column in columns(writer):
        kind = known.get(column.name, column.kind)
        if not promotes(column.kind, kind) or (kind == "array" and not nested):
            return f"its field {column.name!r} is {column.kind}"
    return None


def _layout(plain: dict[str, Json]) -> list[tuple[str, Json]]:
    return [(field["name"], field["type"]) for field in plain["fields"]]


@cache
def _header(record: str) -> bytes:
    return single_object_header(current()[record])


@cache
def _ours(record: str) -> _Writer:
    plain = own_schema(record)
    return _Writer(plain, fastavro.parse_schema(plain), is_ours=True)


def _strict_body(event: AuditEvent) -> bytes:
    datum = event_datum(event)
    try:
        return _write(_EVENT, datum)
    except UnicodeEncodeError:
        return _write(_EVENT, mend_texts(datum))


def _write(writer: _Writer, datum: Mapping[str, Json]) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, writer.parsed, datum, strict=True)
    return out.getvalue()


def _read(writer: _Writer, reader: _Writer, body: bytes) -> dict[str, Json]:
    stream = BytesIO(body)
    resolved = None if writer.is_ours else reader.parsed
    try:
        datum = fastavro.schemaless_reader(stream, writer.parsed, resolved)
    except tuple(_NO_DATUM) as error:
        words = (text for kind, text in _NO_DATUM.items() if isinstance(error, kind))
        raise MalformedBodyError(next(words)) from error
    if extra := len(body) - stream.tell():
        raise TrailingBytesError(extra)
    return cast("dict[str, Json]", datum)


def _check_read(reader: _Writer, datum: dict[str, Json]) -> None:
    try:
        check_datum(reader.plain, datum)
    except InvalidEventError as error:
        raise MalformedBodyError(str(error)) from error


def _fits_columns(event: AuditEvent) -> bool:
    return (
        0 <= event.occurred_at <= MAX_TIME_US
        and 0 <= event.recorded_at <= MAX_TIME_US
        and all(number is None or -(2**31) <= number < 2**31 for number in _ints(event))
        and all(number is None or math.isfinite(number) for number in _doubles(event))
    )


def _of_kind(kind: str) -> itemgetter[tuple[Any, ...]]:
    return itemgetter(*(at for at, c in enumerate(EVENT_COLUMNS) if c.kind == kind))


_EVENT: Final = _ours("AuditEvent")
EVENT_COLUMNS: Final = columns(_EVENT.plain)
"""The fields of `audit_event.avsc`, in its order."""

_ints: Final = _of_kind("int")
_doubles: Final = _of_kind("double")
_encode: Final = EventEncoder(single_object_header(schema_of(AuditEvent)))
