"""What rules see of the events of a batch, taken from it column by column."""
# pyright: basic, reportAttributeAccessIssue=false

from __future__ import annotations

import re
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
    "CLOSED",
    "CONDENSED",
    "CONFIRM",
    "DELEGATED",
    "END",
    "FAILURE",
    "LIFE",
    "MESSAGE",
    "NOT_RUN",
    "PROGRESS",
    "REPORTED",
    "REQUEST",
    "RESPONSE",
    "RETURNED",
    "TURN",
    "TURN_END",
    "USER",
    "Place",
    "Row",
    "rows_of",
]

ASK: Final = 0
CONFIRM: Final = 1
ANSWER: Final = 2
FAILURE: Final = 3
NOT_RUN: Final = 4
"""Up to here a record of a call; of what comes after, rules only hear."""
USER: Final = 5
TURN: Final = 6
CONDENSED: Final = 7
MESSAGE: Final = 8
RESPONSE: Final = 9
REPORTED: Final = 10
"""Up to here what some rule counts; the rest says that something is under way."""
END: Final = 11
TURN_END: Final = 12
REQUEST: Final = 13
DELEGATED: Final = 14
RETURNED: Final = 15
PROGRESS: Final = 16
CLOSED: Final = 17
LIFE: Final = 18
"""Any other event, of which rules know nothing but that it came."""

_NAME: Final = re.compile(r"[\w.:-]{1,64}", re.ASCII)

# A confirmation is a pause of a call, and the first that some sources tell of it.
# Not here: tool.persistence_failed speaks of the record of a call, never of a new one.
_KINDS: Final = {
    "tool.attempt": ASK,
    "tool.confirmation": CONFIRM,
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
    "model.error": RESPONSE,
    "loop.warning": REPORTED,
    "loop.block": REPORTED,
    "turn.end": TURN_END,
    "model.request": REQUEST,
    "delegation.start": DELEGATED,
    "delegation.end": RETURNED,
    "tool.progress": PROGRESS,
    "producer.close": CLOSED,
}
_KIND_BY_INDEX: Final = (*_KINDS.values(), LIFE)
_EVENT_TYPES: Final = pa.array(list(_KINDS), pa.string())
_MAX_ID_BYTES: Final = 1024
"""Alerts repeat ids: longer ones would not fit into a record."""


class Row(NamedTuple):
    """
    One event: the columns that rules need, and where it stands in the log.

    `pattern` is that of a loop that the source reports.
    """

    kind: int
    session_id: str
    producer_id: str
    sequence: int
    event_id: str
    occurred_at: int
    agent_id: str | None
    agent_to: str | None
    turn_id: str | None
    round_id: str | None
    span_id: str | None
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
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    severity: str
    pattern: str | None
    offset: int
    timestamp_ms: int


class Place(NamedTuple):
    """Where an event stands, as alerts tell it."""

    session_id: str
    event_id: str
    occurred_at: int
    offset: int
    timestamp_ms: int


_COLUMNS: Final = Row._fields[1:-3]


def rows_of(batch: EventBatch) -> Iterator[Row]:
    """Yield the rows of `batch` that rules can use, in offset order."""
    events = batch.events
    if events is None or not events.num_rows:
        return
    kinds = pc.index_in(events.column("event_type"), value_set=_EVENT_TYPES)
    kinds = kinds.fill_null(len(_EVENT_TYPES))
    offset, stamp = batch.positions()
    short = _short_ids(events)
    if not pc.all(short).as_py():
        wanted = pc.indices_nonzero(short)
        events, kinds = events.take(wanted), kinds.take(wanted)
        offset, stamp = offset[wanted.to_numpy()], stamp[wanted.to_numpy()]
    names = [_KIND_BY_INDEX[kind] for kind in kinds.to_pylist()]
    yield from map(
        Row._make,
        zip(
            names,
            *(_values(events.column(name)) for name in _COLUMNS),
            _patterns(events, names),
            offset.tolist(),
            stamp.tolist(),
            strict=True,
        ),
    )


def _patterns(events: pa.RecordBatch, kinds: list[int]) -> list[str | None]:
    """
    Read the attribute `pattern` of the few rows that have one.

    It goes into alerts, which have no content: what is no name is none.
    """
    patterns: list[str | None] = [None] * len(kinds)
    if REPORTED in kinds:
        attributes = events.column("attributes")
        for row, kind in enumerate(kinds):
            if kind == REPORTED:
                told = dict(attributes[row].as_py() or ()).get("pattern")
                patterns[row] = told if told and _NAME.fullmatch(told) else None
    return patterns


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
