"""The events that a loop rule wants to see, picked from a batch column by column."""
# pyright: basic, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from fleetwake.consumers.loops import metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetwake.consumers.runtime.service import EventBatch

__all__ = [
    "ANSWER",
    "ASK",
    "CONDENSED",
    "END",
    "FAILURE",
    "MESSAGE",
    "NOT_RUN",
    "RESPONSE",
    "TURN",
    "USER",
    "Row",
    "rows_of",
]

ASK: Final = 0
ANSWER: Final = 1
FAILURE: Final = 2
NOT_RUN: Final = 3
USER: Final = 4
TURN: Final = 5
END: Final = 6
CONDENSED: Final = 7
MESSAGE: Final = 8
RESPONSE: Final = 9

# A confirmation is a pause of a call, and the first that some sources tell of it.
# Not here: tool.persistence_failed speaks of the record of a call, never of a new one.
_KINDS: Final = {
    "tool.attempt": ASK,
    "tool.confirmation": ASK,
    "tool.complete": ANSWER,
    "tool.cached": ANSWER,
    "tool.replayed": ANSWER,
    "tool.failure": FAILURE,
    "tool.blocked": NOT_RUN,
    "tool.invalidated": NOT_RUN,
    "user.input": USER,
    "turn.start": TURN,
    "session.end": END,
    "context.condensed": CONDENSED,
    "assistant.message": MESSAGE,
    "model.response": RESPONSE,
}
_KIND_BY_INDEX: Final = tuple(_KINDS.values())
_EVENT_TYPES: Final = pa.array(list(_KINDS), pa.string())
_MAX_ID_BYTES: Final = 1024
"""Alerts repeat ids: longer ones would not fit into a record."""


class Row(NamedTuple):
    """One event: the columns that rules need, and where it stands in the log."""

    kind: int
    session_id: str
    producer_id: str
    sequence: int
    event_id: str
    occurred_at: int
    agent_id: str | None
    turn_id: str | None
    round_id: str | None
    tool_name: str | None
    tool_call_id: str | None
    arguments_digest: int | None
    outcome: str
    outcome_digest: int | None
    result_chars: int | None
    error_kind: str | None
    error_class_digest: int | None
    text_digest: int | None
    text_repeats: int | None
    digest_basis: str | None
    fingerprint_version: int | None
    offset: int
    timestamp_ms: int


_COLUMNS: Final = Row._fields[1:-2]


def rows_of(batch: EventBatch) -> Iterator[Row]:
    """Yield the rows of `batch` that rules need, in offset order."""
    events = batch.events
    if events is None:
        return
    kinds = pc.index_in(events.column("event_type"), value_set=_EVENT_TYPES)
    wanted = pc.indices_nonzero(pc.and_(pc.is_valid(kinds), _short_ids(events)))
    if not len(wanted):
        return
    columns = [_values(events.column(name).take(wanted)) for name in _COLUMNS]
    # A batch without invalid records has its rows and records at the same places.
    records = [batch.records[batch.rows[row]] for row in wanted.to_pylist()]
    yield from map(
        Row._make,
        zip(
            [_KIND_BY_INDEX[kind] for kind in kinds.take(wanted).to_pylist()],
            *columns,
            [record.offset for record in records],
            [record.timestamp_ms for record in records],
            strict=True,
        ),
    )


def _values(column: pa.Array) -> list[Any]:
    # A datetime costs as much as all the other columns together.
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values: list[Any] = column.to_pylist()
    return values


def _short_ids(events: pa.RecordBatch) -> pa.Array:
    """Say which rows have ids that an alert can hold; count the others."""
    lengths = [
        pc.binary_length(events.column(name)) for name in ("session_id", "event_id")
    ]
    short = pc.less_equal(pc.max_element_wise(*lengths), _MAX_ID_BYTES)
    if long := len(short) - (pc.sum(short).as_py() or 0):
        metrics.UNUSABLE.inc(long)
    return short
