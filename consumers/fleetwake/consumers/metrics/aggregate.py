"""From a batch of events to sums by window, agent and tool, column by column."""
# pyright: basic, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from fleetwake.consumers.metrics.windows import WINDOW_S, Counts, Group, Pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetwake.consumers.runtime.service import EventBatch

__all__ = [
    "BLOCK_TYPES",
    "CALL_TYPES",
    "ERROR_TYPES",
    "FAILURE_TYPES",
    "Aggregate",
    "aggregate",
]

CALL_TYPES: Final = frozenset(
    {
        "tool.complete",
        "tool.failure",
        "tool.blocked",
        "tool.cached",
        "tool.replayed",
        "tool.invalidated",
    }
)
"""
The ends of a call, each of which counts as one: whether an attempt was told before,
and by which record, differs between sources, its end does not.
"""

ERROR_TYPES: Final = frozenset({"error", "model.error"})
"""Failures, whatever their outcome says."""

FAILURE_TYPES: Final = frozenset({"tool.complete", "tool.failure"})
"""
Failures by their outcome. That a scope, a turn or a delegation ended in an error is a
second view of what failed inside.
"""

BLOCK_TYPES: Final = frozenset(
    {"loop.block", "permission.decision", "policy.decision", "tool.blocked"}
)
"""Blocks by their outcome."""

_CALLS: Final = pa.array(sorted(CALL_TYPES))
_ERRORS: Final = pa.array(sorted(ERROR_TYPES))
_CAN_FAIL: Final = pa.array(sorted(FAILURE_TYPES))
_CAN_BLOCK: Final = pa.array(sorted(BLOCK_TYPES))
_FAILED: Final = pa.array(["failure", "timeout"])
_BLOCKED: Final = pa.array(["blocked", "denied"])

_MAX_AHEAD_US: Final = 5 * 60 * 1_000_000
"""A clock may be so far ahead of the broker's (docs/guarantees.md)."""

_MAX_TOKENS: Final = 1_000_000_000_000
"""Of one event. What is above, or below zero, is no count: sums must stay longs."""


class Aggregate(NamedTuple):
    """
    The sums of a batch, in the order in which its groups begin.

    `newest` is the latest window up to the end of the batch; `late` events, which are
    in no group, fell into windows that were no longer kept.
    """

    groups: Iterator[Group]
    newest: int
    late: int


def aggregate(
    batch: EventBatch, newest: int | None, *, kept: int, apart: bool
) -> Aggregate | None:
    """
    Sum the events of `batch`; None if it has none.

    `newest` is the latest window before the batch, and `kept` how many windows before
    the latest one are kept. With `apart` each event is a group of its own.
    """
    events = batch.events
    if events is None or not events.num_rows:
        return None
    offsets = pa.array([batch.records[row].offset for row in batch.rows], pa.int64())
    window = _windows(batch, events)
    latest = pc.cumulative_max(window, start=newest)
    in_time = pc.greater_equal(window, pc.subtract(latest, kept))
    late = len(window) - pc.sum(in_time).as_py()
    if late:
        events, window, offsets = (
            column.filter(in_time) for column in (events, window, offsets)
        )
    groups = _groups(events, window, offsets, apart=apart)
    return Aggregate(groups, latest[-1].as_py(), late)


def _windows(batch: EventBatch, events: pa.RecordBatch) -> pa.Array:
    """The window of each row: when it happened, unless its clock is ahead."""
    happened = events.column("occurred_at").cast(pa.int64())
    appended = [batch.records[row].timestamp_ms * 1000 for row in batch.rows]
    latest = pc.add(pa.array(appended, pa.int64()), _MAX_AHEAD_US)
    happened = pc.max_element_wise(pc.min_element_wise(happened, latest), 0)
    return pc.divide(happened, WINDOW_S * 1_000_000)


def _groups(
    events: pa.RecordBatch, window: pa.Array, offset: pa.Array, *, apart: bool
) -> Iterator[Group]:
    agent, tool = (
        events.column(name).dictionary_encode(null_encoding="encode")
        for name in ("agent_id", "tool_name")
    )
    columns = {
        "window": window,
        "agent": agent.indices,
        "tool": tool.indices,
        "offset": offset,
    } | _measures(events)
    keys = ["window", "agent", "tool", *(["offset"] if apart else [])]
    sums = [("offset", "min"), ("offset", "max")]
    sums += [(name, "sum") for name in Counts._fields]
    table = pa.table(columns).group_by(keys, use_threads=False).aggregate(sums)
    # In the order of the events, so that the limit of rows admits the same ones
    # however they come in batches.
    table = table.sort_by("offset_min")
    agents, tools = agent.dictionary.to_pylist(), tool.dictionary.to_pylist()
    names = ["window", "agent", "tool", "offset_max"]
    names += [f"{name}_sum" for name in Counts._fields]
    rows = zip(*(table[name].to_pylist() for name in names), strict=True)
    for minute, agent_index, tool_index, last_offset, *counts in rows:
        pair = Pair(agents[agent_index], tools[tool_index])
        yield Group(minute, pair, last_offset, Counts._make(counts))


def _measures(events: pa.RecordBatch) -> dict[str, pa.Array]:
    """What each event adds to each of `Counts`."""
    kind, outcome = events.column("event_type"), events.column("outcome")
    failed = pc.is_in(outcome, value_set=_FAILED)
    blocked = pc.is_in(outcome, value_set=_BLOCKED)
    return {
        "events": pa.repeat(1, events.num_rows),
        "calls": pc.is_in(kind, value_set=_CALLS),
        "failures": pc.or_(
            pc.is_in(kind, value_set=_ERRORS),
            pc.and_(pc.is_in(kind, value_set=_CAN_FAIL), failed),
        ),
        "blocks": pc.and_(pc.is_in(kind, value_set=_CAN_BLOCK), blocked),
    } | {
        name: _tokens(events.column(name))
        for name in Counts._fields
        if name.endswith("_tokens")
    }


def _tokens(column: pa.Array) -> pa.Array:
    ends = pc.min_max(column).as_py()
    if ends["min"] is None or (ends["min"] >= 0 and ends["max"] <= _MAX_TOKENS):
        return pc.fill_null(column, 0)
    plausible = pc.and_(pc.greater_equal(column, 0), pc.less_equal(column, _MAX_TOKENS))
    return pc.if_else(pc.fill_null(plausible, False), column, 0)
