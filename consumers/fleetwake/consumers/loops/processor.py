"""The loops of one partition: sessions in memory, alerts out, the log held back."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from itertools import count
from typing import TYPE_CHECKING, Final

from fleetwake.consumers.loops import metrics
from fleetwake.consumers.loops.alerts import to_alert, to_record
from fleetwake.consumers.loops.rows import END, rows_of
from fleetwake.consumers.loops.rules_source import RulesSource
from fleetwake.consumers.loops.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetwake.consumers.loops.rows import Row
    from fleetwake.consumers.loops.rules.rule import Finding
    from fleetwake.consumers.loops.settings import LoopsSettings
    from fleetwake.consumers.runtime.service import EventBatch, PartitionStart, Record
    from fleetwake.schemas.records import LoopAlert

__all__ = ["PartitionLoops"]

_FEW: Final = 100


class PartitionLoops:
    """
    A processor that watches the sessions of one partition.

    Which alerts come out depends on the log alone, not on how it is cut into batches
    nor on where a replay began. Two things are outside of that: sessions beyond
    `max_sessions`, and a broker whose clock steps back by more than `idle_s`.
    """

    def __init__(
        self,
        start: PartitionStart,
        settings: LoopsSettings,
        source: RulesSource | None = None,
    ) -> None:
        self._source = source or RulesSource(settings.rules)
        self._rules = self._source.rules
        self._partition = start.partition
        self._publisher = start.publisher
        self._settings = settings
        self._idle_ms = int(settings.idle_s * 1000)
        self._idle_records = settings.idle_records
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        """By their last event, oldest first."""
        self._holds: list[tuple[int, int, Session]] = []
        """A heap: one entry for each session, at or below what it needs."""
        self._serial = count()
        self._pending: list[LoopAlert] = []

    @property
    def resume_from(self) -> None:
        """The group's committed offset, and what it says to replay."""
        return

    def process(self, batch: EventBatch, /) -> None:
        """Show every event to its session; findings of a replay are not told again."""
        self._adopt()
        duplicates = 0
        for row in rows_of(batch):
            session = self._session(row, muted=batch.replayed)
            if session.is_duplicate(row):
                duplicates += 1
                continue
            self._sessions.move_to_end(row.session_id)
            if row.kind == END:
                found = session.reset(row.offset)
                session.last = row
                self._forget(row.session_id)
            else:
                found = session.take(row)
            if found:
                self._tell(found, row, muted=batch.replayed)
        if duplicates:
            metrics.DUPLICATES.inc(duplicates)
        self._sweep(batch)

    async def flush(self) -> int | None:
        """
        Publish what was found; return the oldest offset that a session needs.

        Raises:
            RetriableError: not all was acknowledged; the same is published again.
        """
        telling = tuple(self._pending)
        if telling:
            await self._publisher.publish([to_record(alert) for alert in telling])
            for alert in telling:
                metrics.ALERTS.labels(alert.rule, alert.state, alert.level).inc()
            del self._pending[: len(telling)]
        return self._oldest_needed()

    def _adopt(self) -> None:
        """Go on by the rules that the file has now."""
        rules = self._source.poll()
        if rules is self._rules:
            return
        self._rules = rules
        for session in self._sessions.values():
            session.adopt(rules)

    def _session(self, row: Row, *, muted: bool) -> Session:
        """Find the session of `row`; one that was idle for too long starts anew."""
        session = self._sessions.get(row.session_id)
        if session is not None:
            if not self._is_idle(session, row):
                return session
            self._drop(session, "idle", muted=muted)
        session = self._sessions[row.session_id] = Session(row, self._rules)
        heapq.heappush(self._holds, (row.offset, next(self._serial), session))
        return session

    def _is_idle(self, session: Session, now: Row | Record) -> bool:
        last = session.last
        return (
            now.timestamp_ms - last.timestamp_ms > self._idle_ms
            or now.offset - last.offset > self._idle_records
        )

    def _sweep(self, batch: EventBatch) -> None:
        """Drop what will be idle at its next event, and what is too much."""
        newest = batch.records[-1]
        while self._sessions:
            session = next(iter(self._sessions.values()))
            if self._is_idle(session, newest):
                self._drop(session, "idle", muted=batch.replayed)
            elif len(self._sessions) > self._settings.max_sessions:
                self._drop(session, "too many", muted=batch.replayed)
            else:
                return

    def _drop(self, session: Session, why: str, *, muted: bool) -> None:
        metrics.FORGOTTEN.labels(why).inc()
        self._tell(session.reset(session.last.offset), session.last, muted=muted)
        self._forget(session.last.session_id)

    def _forget(self, session_id: str) -> None:
        self._sessions.pop(session_id).is_live = False

    def _tell(self, found: Iterable[Finding], last: Row, *, muted: bool) -> None:
        if not muted:
            self._pending += [to_alert(one, last, self._partition) for one in found]

    def _oldest_needed(self) -> int | None:
        """
        Find the lowest `Session.needed`.

        What a session needs only grows, so an entry that is out of date is too low:
        it is put right when it comes to the top. Below a session that lives for long
        the entries of many dead ones would gather.
        """
        if len(self._holds) > 2 * len(self._sessions) + _FEW:
            self._holds = [entry for entry in self._holds if entry[-1].is_live]
            heapq.heapify(self._holds)
        holds = self._holds
        while holds:
            offset, serial, session = holds[0]
            if not session.is_live:
                heapq.heappop(holds)
            elif session.needed > offset:
                heapq.heapreplace(holds, (session.needed, serial, session))
            else:
                return offset
        return None
