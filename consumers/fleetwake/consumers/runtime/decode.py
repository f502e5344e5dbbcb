"""From records to a batch: decode, and look up the schemas that are new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fleetwake.consumers.runtime.service import EventBatch, InvalidRecord, Records
from fleetwake.schemas.codec import SchemaLookup
from fleetwake.schemas.columnar import decode_batch
from fleetwake.schemas.errors import UnknownSchemaError
from fleetwake.schemas.topics import EVENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.consumers.runtime.service import Record
    from fleetwake.schemas.topics import Topic

__all__ = ["Schemas", "decode", "oldest_event", "unknown_schemas"]


class Schemas(SchemaLookup, Protocol):
    """A look-up that can learn."""

    async def refresh(self, *references: str) -> None:
        """
        Ask the schemas topic and the registry for what `references` name.

        Raises:
            RetriableError: they cannot be asked now.
        """
        ...


def decode(
    topic: Topic,
    partition: int,
    records: Sequence[Record],
    schemas: SchemaLookup,
    *,
    replayed: bool,
) -> EventBatch:
    """
    Make the batch of `records`. Costs CPU: runs in a worker thread.

    Only the events topic is decoded here: the others are small, and each service
    knows their record.
    """
    records = Records.of(records)
    if topic != EVENTS:
        return EventBatch(
            topic=topic,
            partition=partition,
            records=records,
            events=None,
            rows=(),
            replayed=replayed,
        )
    decoded = decode_batch(records.values, schemas, digests=records.digests)
    return EventBatch(
        topic=topic,
        partition=partition,
        records=records,
        events=decoded.events,
        rows=decoded.rows,
        invalid=[InvalidRecord(records[at], error) for at, error in decoded.invalid],
        replayed=replayed,
    )


def unknown_schemas(batch: EventBatch) -> set[str]:
    """Name the schemas that the batch needs and the look-up does not know yet."""
    return {
        error.reference
        for _, error in batch.invalid
        if isinstance(error, UnknownSchemaError)
    }


def oldest_event(batch: EventBatch) -> int | None:
    """When the oldest event of a batch happened, UTC microseconds; None: has none."""
    events = batch.events
    if events is None or not events.num_rows:
        return None
    happened = events.column("occurred_at").cast("int64").to_numpy()
    return int(happened.min())
