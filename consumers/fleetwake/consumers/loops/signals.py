"""
What a partition tells the rules across sessions of its own.

Few things: a failure of a known kind once per session, tool and 10 s; each hand-over
between agents; each alert that opens; and once per 10 s what was spent and how many
sessions act. A healthy call makes no signal. Seconds are counted by the broker's append
time, so that they are the same wherever a batch ends.
"""
# pyright: basic, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from fleetwake.consumers.loops import metrics
from fleetwake.consumers.loops.calls import answer_of
from fleetwake.consumers.loops.fleet.activity import Activity
from fleetwake.consumers.loops.fleet.outbox import FLEET, signal_id
from fleetwake.schemas.records import Signal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetwake.consumers.loops.fleet.outbox import Outbox
    from fleetwake.consumers.runtime.service import EventBatch
    from fleetwake.schemas.records import LoopAlert

__all__ = ["Signals"]

_SPAN_MS: Final = 10_000
_STALE_US: Final = 300_000_000
"""Tokens that reach the log so late were spent at another time: a spool drains."""
_MAX_NAME: Final = 256
_MAX_ID_BYTES: Final = 1024
_MAX_KINDS: Final = 1_000
"""Of failures in 10 s: tool and kind of error."""
_MAX_SESSIONS: Final = 256
"""Of one kind of failure in 10 s: more than any limit."""
_MAX_FAILURES: Final = 2_000
"""Of all kinds in 10 s."""

_HAND_OVERS: Final = {
    "delegation.start": "delegate",
    "delegation.end": "return",
    "agent.switch": "switch",
}
_RESPONSE: Final = "model.response"
_ANSWERS: Final = pa.array(["tool.complete", "tool.cached"], pa.string())
_OTHERS: Final = pa.array([*_HAND_OVERS, _RESPONSE, "tool.failure"], pa.string())
_FAILED: Final = pa.array(["failure", "timeout"], pa.string())


class _Told(NamedTuple):
    """What a signal may be made of."""

    event_type: str
    session_id: str
    event_id: str
    occurred_at: int
    parent_session_id: str | None
    root_session_id: str | None
    agent_from: str | None
    agent_to: str | None
    tool_name: str | None
    error_class_digest: int | None
    arguments_digest: int | None
    fingerprint_version: int | None
    input_tokens: int | None
    output_tokens: int | None
    timestamp_ms: int
    offset: int


_COLUMNS: Final = _Told._fields[:-2]


class _Span:
    """What 10 s of a partition had."""

    __slots__ = ("count", "event_id", "failures", "number", "offset", "tokens")

    def __init__(self, number: int) -> None:
        self.number = number
        self.tokens = 0
        self.event_id = ""
        """The first that tokens were spent on, and where it stands."""
        self.offset = 0
        self.failures: dict[tuple[str, int], set[str]] = {}
        self.count = 0
        """Of the failures that were told."""


class Signals:
    """Makes the signals of one partition."""

    def __init__(self, partition: int, outbox: Outbox) -> None:
        self._partition = partition
        self._outbox = outbox
        self._span: _Span | None = None
        self._activity = Activity()

    @property
    def needed(self) -> int | None:
        """The offset of the first event whose tokens are not told yet."""
        return self._span.offset if self._span and self._span.tokens else None

    def take(self, batch: EventBatch) -> None:
        """Take the next events of the partition."""
        self._activity.take(batch)
        for one in _told(batch):
            span = self._span_of(one.timestamp_ms)
            if one.event_type in _HAND_OVERS:
                self._hand_over(one)
            elif one.event_type == _RESPONSE:
                _spend(span, one)
            else:
                self._failure(span, one)
        self._span_of(batch.records.timestamps_ms[-1])
        self._activity.forget()

    def tick(self, now_ms: int) -> None:
        """Learn that no event came before `now_ms`; clocks may differ by 10 s."""
        if self._span is not None and now_ms // _SPAN_MS > self._span.number + 1:
            self._close(self._span)
            self._span = None

    def opened(self, alert: LoopAlert) -> None:
        """Take an alert of a session that opens."""
        tool = alert.tool_name
        if tool and "mode" not in alert.attributes:
            signal = Signal(
                signal_id=signal_id("loop", alert.alert_id),
                kind="loop",
                key=tool,
                session_id=alert.session_id,
                tool_name=tool,
                rule=alert.rule,
                occurred_at=min(alert.last_occurred_at, alert.last_appended_at),
                event_id=alert.first_event_id,
                source_partition=self._partition,
            )
            self._outbox.signal(signal)

    def _span_of(self, now_ms: int) -> _Span:
        number, span = now_ms // _SPAN_MS, self._span
        if span is None or number > span.number:
            if span is not None:
                self._close(span)
            span = self._span = _Span(number)
        return span

    def _close(self, span: _Span) -> None:
        """Tell what was spent, if any, and how many sessions act."""
        began_ms = span.number * _SPAN_MS
        active = self._activity.active(began_ms)
        if span.tokens or active:
            signal = Signal(
                signal_id=signal_id("spend", self._partition, span.number),
                kind="spend",
                key=FLEET,
                session_id="",
                occurred_at=began_ms * 1000,
                amount=float(span.tokens),
                attributes={"active": f"{active}"},
                event_id=span.event_id,
                source_partition=self._partition,
            )
            self._outbox.signal(signal)

    def _failure(self, span: _Span, one: _Told) -> None:
        tool, digest = (one.tool_name or "")[:_MAX_NAME], one.error_class_digest
        if not tool or digest is None:
            return
        kind = tool, answer_of(digest, one.fingerprint_version)
        if span.count >= _MAX_FAILURES or (
            kind not in span.failures and len(span.failures) >= _MAX_KINDS
        ):
            return
        sessions = span.failures.setdefault(kind, set())
        if one.session_id in sessions or len(sessions) >= _MAX_SESSIONS:
            return
        sessions.add(one.session_id)
        span.count += 1
        signal = Signal(
            signal_id=signal_id("error", one.session_id, one.event_id),
            kind="error",
            key=tool,
            session_id=one.session_id,
            tool_name=tool,
            error_class_digest=kind[1],
            occurred_at=_when(one),
            amount=float(self._activity.working(tool, one.timestamp_ms)),
            event_id=one.event_id,
            source_partition=self._partition,
        )
        self._outbox.signal(signal)

    def _hand_over(self, one: _Told) -> None:
        digest = one.arguments_digest
        signal = Signal(
            signal_id=signal_id(one.event_type, one.session_id, one.event_id),
            kind=_HAND_OVERS[one.event_type],
            key=one.root_session_id or one.parent_session_id or one.session_id,
            session_id=one.session_id,
            occurred_at=_when(one),
            event_id=one.event_id,
            source_partition=self._partition,
            parent_session_id=one.parent_session_id,
            agent_from=one.agent_from and one.agent_from[:_MAX_NAME],
            agent_to=one.agent_to and one.agent_to[:_MAX_NAME],
            task_digest=None
            if digest is None
            else answer_of(digest, one.fingerprint_version),
        )
        self._outbox.signal(signal)


def _spend(span: _Span, one: _Told) -> None:
    tokens = (one.input_tokens or 0) + (one.output_tokens or 0)
    if tokens <= 0:
        return
    if one.timestamp_ms * 1000 - one.occurred_at > _STALE_US:
        metrics.SIGNALS_LATE.inc()
        return
    if not span.tokens:
        span.event_id, span.offset = one.event_id, one.offset
    span.tokens += tokens


def _when(one: _Told) -> int:
    """A source's clock may be ahead; the broker's says when that cannot be."""
    return max(0, min(one.occurred_at, one.timestamp_ms * 1000))


def _told(batch: EventBatch) -> Iterator[_Told]:
    """Yield the events of a batch that a signal may be made of."""
    events = batch.events
    if events is None:
        return
    kinds = events.column("event_type")
    failed = pc.and_(
        pc.is_in(kinds, _ANSWERS), pc.is_in(events.column("outcome"), _FAILED)
    )
    wanted = pc.or_(pc.is_in(kinds, _OTHERS), failed)
    rows = pc.indices_nonzero(pc.and_(wanted, _short_ids(events)))
    if not len(rows):
        return
    columns = [_values(events.column(name).take(rows)) for name in _COLUMNS]
    offset, stamp = batch.positions()
    at = rows.to_numpy()
    yield from map(
        _Told._make,
        zip(
            *columns,
            stamp[at].tolist(),
            offset[at].tolist(),
            strict=True,
        ),
    )


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values: list[Any] = column.to_pylist()
    return values


def _short_ids(events: pa.RecordBatch) -> pa.Array:
    """Say which rows have ids that a key and an alert can hold."""
    ids = ("session_id", "event_id", "root_session_id", "parent_session_id")
    lengths = [pc.binary_length(events.column(name)) for name in ids]
    return pc.less_equal(pc.max_element_wise(*lengths), _MAX_ID_BYTES)
