"""One partition of the fleet: its sessions folded, its alerts and its rest noted."""
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

import pyarrow.compute as pc
import structlog

from fleetwake.consumers.facts import SessionFold, rows_of
from fleetwake.schemas.codec import PackagedSchemas, decode_record
from fleetwake.schemas.errors import InvalidRecordError
from fleetwake.schemas.records import LoopAlert, SessionFacts, Verdict
from fleetwake.schemas.topics import ALERTS, DEAD_LETTERS, EVENTS, SESSIONS, VERDICTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fleetwake.consumers.fleet.pipeline import Tallies
    from fleetwake.consumers.fleet.recent import Recent
    from fleetwake.consumers.fleet.table import FleetTable
    from fleetwake.consumers.runtime.service import EventBatch, PartitionStart, Record
    from fleetwake.schemas.topics import Topic

__all__ = ["PartitionFleet"]

_JUDGE_EVERY_MS: Final = 1_000
_KEPT_ENDED_MS: Final = 3_600_000
_KEPT_SILENT_MS: Final = 24 * 3_600_000
_OVERLAP: Final = 10_000
"""Events that are read although facts hold them: timelines show them."""
_AT_ONCE: Final = 1_000
"""Rows that are folded before who reads the table gets a turn."""

_R = TypeVar("_R", SessionFacts, LoopAlert, Verdict)
_T = TypeVar("_T")

_log = structlog.get_logger("fleetwake.fleet")


class PartitionFleet:
    """
    A processor that keeps the page's table right for one partition.

    It goes on from the session facts that the metrics service publishes: what they hold
    is not counted again, and where they hold more than was folded here, they are right.
    Topics are read in any order: alerts and verdicts are kept for sessions to come.
    """

    def __init__(
        self,
        start: PartitionStart,
        table: FleetTable,
        recent: Recent,
        tallies: Tallies,
        *,
        read_back: int,
    ) -> None:
        self._start = start
        self._table = table
        self._recent = recent
        self._tallies = tallies
        self._read_back = read_back
        self._schemas = PackagedSchemas()
        self._folds: dict[str, SessionFold] = {}
        self._open_alerts: dict[str, dict[str, LoopAlert]] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._applied = -1
        self._restored_through = -1
        self._judged_ms = 0
        self._take: Mapping[Topic, Callable[[Record], None]] = {
            SESSIONS: self._take_facts,
            ALERTS: self._take_alert,
            VERDICTS: self._take_verdict,
            DEAD_LETTERS: tallies.dead_letter,
        }
        table.opened(start.partition)

    async def restore(self) -> None:
        """
        Go on from what is published of the sessions.

        Raises:
            RetriableError: the topic cannot be read now.
        """
        latest: dict[bytes | None, Record] = {}
        async for record in self._start.reader.read(SESSIONS, self._start.partition):
            latest[record.key] = record
            self._restored_through = record.offset
        await asyncio.to_thread(self._restore, list(latest.values()))

    def _restore(self, records: list[Record]) -> None:
        for some in _parts(records):
            with self._table.lock:
                for record in some:
                    self._adopt(record)

    @property
    def resume_from(self) -> int:
        """
        Of what the facts hold, a little; without facts, as much as the settings say.

        What is read although it is known is shown in timelines, and counts once.
        """
        start = self._start
        least = start.log_end - self._read_back
        is_known = 0 <= self._applied < start.log_end
        known = self._applied + 1 - _OVERLAP if is_known else 0
        return max(start.log_start, least, known)

    def process(self, batch: EventBatch, /) -> None:
        """Fold a batch of any of the topics."""
        self._table.heard(self._start.partition)
        if batch.topic == EVENTS:
            self._recent.add(batch)
            self._count_gaps(batch)
            self._fold(batch)
            return
        for some in _parts(batch.records):
            with self._table.lock:
                for record in some:
                    self._take[batch.topic](record)

    def tick(self, now_ms: int, /) -> bool:
        """Judge what silence means."""
        with self._table.lock:
            self._judge(now_ms)
            self._table.caught_up(self._start.partition)
            self._table.heard(self._start.partition)
        return False

    async def flush(self) -> None:
        """Nothing: there is only memory."""

    def _fold(self, batch: EventBatch) -> None:
        newest_ms = batch.records[-1].timestamp_ms
        for some in _parts(list(rows_of(batch))):
            with self._table.lock:
                changed: dict[str, SessionFold] = {}
                for row in some:
                    session_id = row.session_id
                    fold = self._folds.get(session_id) or self._new(session_id)
                    fold.take(row)
                    changed[session_id] = fold
                for session_id, fold in changed.items():
                    fold.judge(max(self._judged_ms, newest_ms))
                    self._table.changed(session_id, fold)
        with self._table.lock:
            self._table.counted(batch.positions()[1].tolist())
            self._judge(newest_ms)

    def _count_gaps(self, batch: EventBatch) -> None:
        assert batch.events is not None  # noqa: S101  # events are always decoded
        gaps = pc.equal(batch.events.column("event_type"), "gap")
        if pc.any(gaps).as_py():
            for reason in batch.events.column("reason").filter(gaps).to_pylist():
                self._tallies.gap(reason)

    def _judge(self, now_ms: int) -> None:
        """Show what time alone has changed, and leave out what is long over."""
        if now_ms - self._judged_ms < _JUDGE_EVERY_MS:
            return
        self._judged_ms = now_ms
        for session_id, fold in list(self._folds.items()):
            if fold.judge(now_ms):
                self._table.changed(session_id, fold)
            if _is_over(fold, now_ms) or not self._table.holds(session_id):
                del self._folds[session_id]
                self._table.left(session_id)

    def _take_facts(self, record: Record) -> None:
        if record.offset > self._restored_through:
            self._adopt(record)

    def _adopt(self, record: Record) -> None:
        """Take what is published of a session, if it holds more than we know."""
        facts = self._read(SessionFacts, record)
        if facts is None:
            return
        self._applied = max(self._applied, facts.applied_through)
        session_id = facts.session_id
        held = self._folds.get(session_id)
        if held is not None and held.applied_through >= facts.applied_through:
            return
        fold = SessionFold.of(facts)
        if _is_over(fold, time.time_ns() // 1_000_000):
            return
        self._folds[session_id] = fold
        self._tell(session_id, fold)
        self._show(session_id, fold)

    def _take_alert(self, record: Record) -> None:
        alert = self._read(LoopAlert, record)
        if alert is None:
            return
        # Commands on it go there, whatever its writer says.
        alert = replace(alert, source_partition=self._start.partition)
        self._table.alerted(alert)
        if alert.session_id:
            self._note_alert(alert)
        fold = self._folds.get(alert.session_id)
        if fold is not None:
            fold.hear_alert(alert)
            self._show(alert.session_id, fold)

    def _take_verdict(self, record: Record) -> None:
        verdict = self._read(Verdict, record)
        if verdict is None:
            return
        self._verdicts[verdict.session_id] = verdict
        fold = self._folds.get(verdict.session_id)
        if fold is not None:
            fold.hear_verdict(verdict)
            self._show(verdict.session_id, fold)

    def _new(self, session_id: str) -> SessionFold:
        fold = SessionFold.new(session_id, partition=self._start.partition)
        self._folds[session_id] = fold
        self._tell(session_id, fold)
        return fold

    def _tell(self, session_id: str, fold: SessionFold) -> None:
        """Tell a session what was said of it: facts may be older than that."""
        for one in fold.alerts:
            known = self._table.alert(one.alert_id)
            if known is not None:
                fold.hear_alert(known)
        for alert in self._open_alerts.get(session_id, {}).values():
            fold.hear_alert(alert)
        verdict = self._verdicts.get(session_id)
        if verdict is not None:
            fold.hear_verdict(verdict)

    def _note_alert(self, alert: LoopAlert) -> None:
        opened = self._open_alerts.setdefault(alert.session_id, {})
        if alert.state == "resolved":
            opened.pop(alert.alert_id, None)
        else:
            opened[alert.alert_id] = alert
        if not opened:
            del self._open_alerts[alert.session_id]

    def _show(self, session_id: str, fold: SessionFold) -> None:
        fold.judge(max(self._judged_ms, fold.last_appended_at // 1000))
        self._table.changed(session_id, fold)

    def _read(self, kind: type[_R], record: Record) -> _R | None:
        if record.value is None:
            return None
        try:
            return decode_record(kind, record.value, self._schemas)
        except InvalidRecordError as exc:
            _log.warning("record.unreadable", kind=kind.__name__, why=exc.reason)
            return None


def _is_over(fold: SessionFold, now_ms: int) -> bool:
    """Whether a session has ended, or fallen silent, so long ago that nobody looks."""
    silent_ms = now_ms - fold.last_appended_at // 1000
    return silent_ms > (_KEPT_ENDED_MS if fold.state == "ended" else _KEPT_SILENT_MS)


def _parts(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for first in range(0, len(items), _AT_ONCE):
        yield items[first : first + _AT_ONCE]
        # A lock that is let go and taken again at once is never somebody else's.
        time.sleep(0)
