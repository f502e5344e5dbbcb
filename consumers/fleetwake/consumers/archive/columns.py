"""
The columns of the raw files: where a record was, what it says, what it is made of.

`record_sha256` is the SHA-256 of these bytes, integers big-endian and signed, so that
no two records have the same ones:

    length of the topic's name (4 bytes), its name in UTF-8,
    partition (4), offset (8),
    length of the key (4; -1 where it is null), the key,
    length of the value (4; -1 where it is null), the value
"""
# pyright: reportUnknownParameterType=false

from __future__ import annotations

import struct
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from fleetwake.schemas.arrow import EVENT_SCHEMA, Array, compute
from fleetwake.schemas.errors import InvalidRecordError, UnknownSchemaError
from fleetwake.schemas.framing import CONFLUENT, unframe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fleetwake.consumers.runtime.service import EventBatch

__all__ = ["ARCHIVE_SCHEMA", "record_digests", "to_table"]

_TIME = pa.timestamp("ms", "UTC")
_PLACE = (
    pa.field("kafka_topic", pa.string(), nullable=False),
    pa.field("kafka_partition", pa.int32(), nullable=False),
    pa.field("kafka_offset", pa.int64(), nullable=False),
    pa.field("kafka_timestamp", _TIME, nullable=False),
)
# Null where a record could not be read, so all of them may be.
_EVENT = tuple(one.with_nullable(True) for one in EVENT_SCHEMA)
_RECORD = (
    pa.field("kafka_key", pa.binary()),
    pa.field("kafka_value", pa.binary()),
    pa.field("writer_schema", pa.string()),
    pa.field("record_sha256", pa.binary(32), nullable=False),
    pa.field("duplicate_of", pa.int64()),
    pa.field("invalid_reason", pa.string()),
    pa.field("invalid_error", pa.string()),
    pa.field("content_key", pa.string()),
)

ARCHIVE_SCHEMA: Final = pa.schema([*_PLACE, *_EVENT, *_RECORD])
"""
Columns are only ever added, and may be null then: readers unite files by name.

`kafka_value` is null where the value is (a tombstone has `invalid_reason`
`tombstone`) or where the deployment does not keep values; a record that could not be
read keeps its value always, has an `invalid_reason`, and nulls for the event.
`writer_schema` is the schema that the value's frame names: `fingerprint:` and 16 hex
digits, or `id:` and a registry's number. `duplicate_of`: see `duplicates.py`.

Where `content_key` names a key, the row is sealed (docs/erasure.md): `kafka_value` is
the value, encrypted, and content is null.
"""

_MAX_ERROR_CHARS = 1_000


def record_digests(
    topic: str,
    partition: int,
    offsets: Iterable[int],
    keys: Iterable[bytes | None],
    values: Iterable[bytes | None],
) -> list[bytes]:
    """Compute `record_sha256` of records. Costs 1 us and their hashing, each."""
    name = topic.encode()
    place = sha256(struct.pack(f">i{len(name)}si", len(name), name, partition)).copy
    offset_and_length = struct.Struct(">qi").pack
    length = struct.Struct(">i").pack
    null = length(-1)
    digests: list[bytes] = []
    # Written flat: a call for each record would cost as much as its hashing.
    for offset, key, value in zip(offsets, keys, values, strict=True):
        digest = place()
        digest.update(
            offset_and_length(offset, -1 if key is None else len(key))
            + (key or b"")
            + (null if value is None else length(len(value)))
        )
        if value:
            digest.update(value)
        digests.append(digest.digest())
    return digests


def to_table(batch: EventBatch, topic: str, *, keep_bytes: bool) -> pa.Table:
    """
    Make a table of `ARCHIVE_SCHEMA`: one row for each record, in offset order.

    `duplicate_of` is null; whoever knows the records before these fills it in.
    """
    records, rows = batch.records, len(batch.records)
    values = pa.array(records.values, pa.binary())
    errors = {record.offset: error for record, error in batch.invalid}
    found = [errors.get(one) for one in records.offsets] if errors else []
    return pa.Table.from_arrays(
        [
            pa.repeat(topic, rows),
            pa.repeat(pa.scalar(batch.partition, pa.int32()), rows),
            pa.array(records.offsets, pa.int64()),
            pa.array(records.timestamps_ms, pa.int64()).cast(_TIME),
            *_events(batch).columns,
            pa.array(records.keys, pa.binary()),
            values if keep_bytes else _only_invalid(records.values, found),
            _writer_schemas(values),
            pa.array(
                record_digests(
                    topic,
                    batch.partition,
                    records.offsets,
                    records.keys,
                    records.values,
                ),
                pa.binary(32),
            ),
            pa.nulls(rows, pa.int64()),
            *_reasons(found, rows),
            pa.nulls(rows, pa.string()),
        ],
        schema=ARCHIVE_SCHEMA,
    )


def _events(batch: EventBatch) -> pa.RecordBatch:
    """Give each record a row: of nulls where it could not be read."""
    assert batch.events is not None  # noqa: S101  # the events topic is always decoded
    if len(batch.rows) == len(batch.records):
        return batch.events
    taken: list[int | None] = [None] * len(batch.records)
    for row, at in enumerate(batch.rows):
        taken[at] = row
    return batch.events.take(pa.array(taken, pa.int64()))  # a null takes nulls


def _only_invalid(
    values: Sequence[bytes | None], found: Sequence[InvalidRecordError | None]
) -> Array:
    if not found:
        return pa.nulls(len(values), pa.binary())
    kept = [
        value if error else None for value, error in zip(values, found, strict=True)
    ]
    return pa.array(kept, pa.binary())


def _reasons(
    found: Sequence[InvalidRecordError | None], rows: int
) -> tuple[Array, Array]:
    if not found:
        return pa.nulls(rows, pa.string()), pa.nulls(rows, pa.string())
    return (
        pa.array([one and one.reason for one in found], pa.string()),
        pa.array([one and _text(one) for one in found], pa.string()),
    )


def _writer_schemas(values: Array) -> Array:
    """Name the schema of each frame; a few bytes are looked at, and few differ."""
    heads = compute.if_else(
        compute.starts_with(values, pattern=CONFLUENT),
        compute.binary_slice(values, 0, 5),
        compute.binary_slice(values, 0, 10),
    ).dictionary_encode()
    names = pa.array([_reference(one.as_py()) for one in heads.dictionary], pa.string())
    return names.take(heads.indices)


def _reference(head: bytes) -> str | None:
    try:
        unframe(head, _KnowsNothing())
    except UnknownSchemaError as error:
        return error.reference
    except InvalidRecordError:
        pass
    return None


class _KnowsNothing:
    def by_id(self, _: int) -> None:
        return None

    def by_fingerprint(self, _: bytes) -> None:
        return None


def _text(error: InvalidRecordError) -> str:
    # Whatever hostile bytes put into it, it must fit into a column.
    return str(error)[:_MAX_ERROR_CHARS].encode(errors="replace").decode()
