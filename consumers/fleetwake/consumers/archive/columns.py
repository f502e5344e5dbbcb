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

from fleetwake.schemas.columnar import EVENT_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetwake.consumers.runtime.service import EventBatch, Record
    from fleetwake.schemas.errors import InvalidRecordError

__all__ = ["ARCHIVE_SCHEMA", "digester", "to_table"]

_PLACE = (
    pa.field("kafka_topic", pa.string(), nullable=False),
    pa.field("kafka_partition", pa.int32(), nullable=False),
    pa.field("kafka_offset", pa.int64(), nullable=False),
    pa.field("kafka_timestamp", pa.timestamp("ms", "UTC"), nullable=False),
)
# Null where a record could not be read, so all of them may be.
_EVENT = tuple(one.with_nullable(True) for one in EVENT_SCHEMA)
_RECORD = (
    pa.field("kafka_key", pa.binary()),
    pa.field("kafka_value", pa.binary()),
    pa.field("record_sha256", pa.binary(32), nullable=False),
    pa.field("invalid_reason", pa.string()),
    pa.field("invalid_error", pa.string()),
)

ARCHIVE_SCHEMA: Final = pa.schema([*_PLACE, *_EVENT, *_RECORD])
"""
Columns are only ever added, and may be null then: readers unite files by name.

`kafka_value` is null where the value is (a tombstone has `invalid_reason`
`tombstone`) or where the deployment does not keep values; a record that could not be
read keeps its value always, has an `invalid_reason`, and nulls for the event.
"""

_MAX_ERROR_CHARS = 1_000


def digester(topic: str, partition: int) -> Callable[[Record], bytes]:
    """Make the function that computes `record_sha256` for a partition."""
    name = topic.encode()
    place = struct.pack(f">i{len(name)}si", len(name), name, partition)
    offset_and_length = struct.Struct(">qi").pack
    length = struct.Struct(">i").pack
    null = length(-1)

    def digest(record: Record) -> bytes:
        offset, _, key, value, _ = record
        return sha256(
            b"".join(
                (
                    place,
                    offset_and_length(offset, -1 if key is None else len(key)),
                    key or b"",
                    null if value is None else length(len(value)),
                    value or b"",
                )
            )
        ).digest()

    return digest


def to_table(
    batch: EventBatch,
    topic: str,
    digest: Callable[[Record], bytes],
    *,
    keep_bytes: bool,
) -> pa.Table:
    """Make a table of `ARCHIVE_SCHEMA`: one row for each record, in offset order."""
    records = batch.records
    rows = len(records)
    errors = {record.offset: error for record, error in batch.invalid}
    found = [errors.get(one.offset) for one in records] if errors else [None] * rows
    return pa.Table.from_arrays(
        [
            pa.repeat(topic, rows),
            pa.repeat(pa.scalar(batch.partition, pa.int32()), rows),
            pa.array([one.offset for one in records], pa.int64()),
            pa.array([one.timestamp_ms for one in records], pa.timestamp("ms", "UTC")),
            *_events(batch).columns,
            pa.array([one.key for one in records], pa.binary()),
            pa.array(
                [
                    one.value if keep_bytes or error else None
                    for one, error in zip(records, found, strict=True)
                ],
                pa.binary(),
            ),
            pa.array([digest(one) for one in records], pa.binary(32)),
            pa.array([one and one.reason for one in found], pa.string()),
            pa.array([one and _text(one) for one in found], pa.string()),
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


def _text(error: InvalidRecordError) -> str:
    # Whatever hostile bytes put into it, it must fit into a column.
    return str(error)[:_MAX_ERROR_CHARS].encode(errors="replace").decode()
