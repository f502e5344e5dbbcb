"""The sessions of one partition: folded in memory, snapshots out."""

from __future__ import annotations

import asyncio
import heapq
import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from prometheus_client import Counter

from fleetwake.consumers.facts import SessionFold, Silence
from fleetwake.consumers.facts.batches import take_events
from fleetwake.consumers.facts.encoding import encode_facts
from fleetwake.consumers.facts.rows import MAX_SESSION_ID_BYTES, keyed
from fleetwake.consumers.metrics.sessions_published import read_back, read_record
from fleetwake.consumers.metrics.tally import Known, Tally
from fleetwake.consumers.runtime.service import OutRecord
from fleetwake.schemas.codec import PackagedSchemas, decode_record
from fleetwake.schemas.errors import FleetwakeError
from fleetwake.schemas.records import LoopAlert, SessionFacts, Verdict
from fleetwake.schemas.topics import ALERTS, EVENTS, SESSIONS, VERDICTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fleetwake.consumers.metrics.sessions_published import Published
    from fleetwake.consumers.metrics.settings import MetricsSettings
    from fleetwake.consumers.runtime.service import EventBatch, PartitionStart

__all__ = ["FORGOTTEN", "OWNER_HEADER", "PartitionSessions"]

OWNER_HEADER: Final = "fleetwake-owner"
"""Which processor has published a record: a few bytes, drawn anew by each."""

FORGOTTEN = Counter(
    "fleetwake_sessions_forgotten_total",
    "Sessions taken out of the sessions topic: silent for long, or too many.",
    ["why"],
)


class PartitionSessions:
    """
    A part of the metrics service: the facts of the sessions of one partition.

    Sessions that time alone cannot change any more (ended, idle, lost) are kept as
    the bytes that were published. One that was silent for `session_retention_h` is
    forgotten, and its record with it; if it speaks again, it is a new one.
    """

    def __init__(self, start: PartitionStart, settings: MetricsSettings) -> None:
        self._start = start
        self._silence = Silence(
            idle_ms=int(settings.session_idle_s * 1000),
            lost_ms=int(settings.session_lost_s * 1000),
        )
        self._kept_ms = int(settings.session_retention_h * 3_600_000)
        self._most = settings.max_sessions
        self._schemas = PackagedSchemas()
        self._known: OrderedDict[str, Known] = OrderedDict()
        """By their last event, oldest first."""
        self._folds: dict[str, SessionFold] = {}
        self._asleep: dict[str, bytes] = {}
        self._restored_to = 0
        self._mark = (OWNER_HEADER, secrets.token_bytes(4))
        """Of what we publish."""
        self._changed: dict[str, None] = {}
        self._forgotten: dict[str, None] = {}
        self._due: dict[str, int] = {}
        self._queue: list[tuple[int, str]] = []
        """A heap of when to judge whom; what `_due` does not say is out of date."""
        self._log_ms = 0
        """The broker's time of the last record."""
        self._now_ms = 0
        """That, or later; back again when a wall clock that was ahead is set right."""
        self._tally = Tally()

    async def restore(self) -> None:
        """
        Read back what was published.

        Raises:
            RetriableError: the sessions topic cannot be read now.
            UnknownSchemaError: a newer release has written a session.
            FleetwakeError: it holds offsets that the events topic does not have.
        """
        start = self._start
        records = start.reader.read(SESSIONS, start.partition)
        found, self._restored_to = await read_back(records, start.partition)
        by_silence = sorted(found, key=lambda one: one.last_ms)
        await asyncio.to_thread(self._take_back, by_silence)

    def _take_back(self, found: Sequence[Published]) -> None:
        """Go on from what was published, longest silent first."""
        self._check(max((one.facts.applied_through for one in found), default=-1))
        self._now_ms = self._log_ms = max((one.last_ms for one in found), default=0)
        for last_ms, facts, value, is_last in found:
            self._folds[facts.session_id] = SessionFold.of(facts, self._silence)
            if self._judge(facts.session_id, last_ms) or not is_last:
                # Its time came, or it was written over, while nobody was there.
                self._changed[facts.session_id] = None
            else:
                self._put_to_sleep(facts.session_id, value)

    @property
    def resume_from(self) -> None:
        """The group's committed offset; sessions skip what they hold beyond it."""
        return

    def process(self, batch: EventBatch, /) -> None:
        """Take events, alerts or verdicts into the sessions that they are of."""
        if batch.replayed:
            # All below what was committed is in what was published, or forgotten.
            return
        if batch.topic == SESSIONS:
            # When we published says nothing of how far the log is.
            self._mend(batch)
            return
        self._log_ms = max(self._log_ms, batch.records[-1].timestamp_ms)
        self._now_ms = self._log_ms
        if batch.topic == EVENTS:
            if (events := keyed(batch)) is not None:
                self._take_in(take_events(events, self._fold))
        elif batch.topic == ALERTS:
            self._take_in(dict(self._alerts(batch)))
        elif batch.topic == VERDICTS:
            self._take_in(dict(self._verdicts(batch)))

    def tick(self, now_ms: int, /) -> bool:
        """Judge those whom silence may have changed; see `Ticking`."""
        self._now_ms = max(self._log_ms, now_ms)
        queue = self._queue
        while queue and queue[0][0] <= self._now_ms:
            at, session_id = heapq.heappop(queue)
            if self._due.get(session_id) != at:
                continue
            del self._due[session_id]
            before = self._known[session_id]
            self._judge(session_id, before.last_ms)
            if self._known[session_id] != before:
                self._changed[session_id] = None
            elif session_id not in self._due and session_id not in self._changed:
                value = encode_facts(self._folds[session_id].facts())
                self._put_to_sleep(session_id, value)
        self._forget()
        return bool(self._changed or self._forgotten)

    async def flush(self) -> None:
        """
        Publish the sessions that were changed since the last flush.

        Raises:
            RetriableError: not all was acknowledged; the same is published again.
        """
        records = await asyncio.to_thread(lambda: list(self._records()))
        if not records:
            return
        await self._start.publisher.publish(records)
        self._changed.clear()
        self._forgotten.clear()
        for one in records:
            if one.value is not None:
                self._put_to_sleep((one.key or b"").decode(), one.value)

    def at_work(self) -> Iterator[SessionFacts]:
        """Yield the facts of all that time or events may still change."""
        for fold in self._folds.values():
            yield fold.facts()

    def _mend(self, batch: EventBatch) -> None:
        """
        Publish again what another process has written over.

        One that was frozen publishes what it knew when it wakes up, after us, and
        compaction keeps the last record of a key, whatever it holds.
        """
        for record in batch.records:
            if record.offset < self._restored_to or self._mark in record.headers:
                continue
            session_id = (record.key or b"").decode(errors="replace")
            facts = read_record(SessionFacts, record)
            if not self._knows(session_id):
                if facts is not None:
                    self._forgotten[session_id] = None
            elif record.value != self._value(session_id):
                # If it is the same: of two that are both alive neither would stop.
                held = self._fold(session_id).applied_through
                if facts is None or facts.applied_through <= held:
                    self._changed[session_id] = None

    def _value(self, session_id: str) -> bytes:
        asleep = self._asleep.get(session_id)
        return asleep or encode_facts(self._folds[session_id].facts())

    def _take_in(self, touched: Mapping[str, int]) -> None:
        """Judge sessions that something was heard of; the times are of the last."""
        for session_id, last_ms in touched.items():
            self._judge(session_id, max(last_ms, self._last_ms(session_id)))
            self._known.move_to_end(session_id)
            self._changed[session_id] = None
            self._forgotten.pop(session_id, None)
        self._forget()

    def _records(self) -> Iterator[OutRecord]:
        partition, marks = self._start.partition, (self._mark,)
        for session_id in self._changed:
            value = self._value(session_id)
            yield OutRecord(SESSIONS, session_id.encode(), value, partition, marks)
        for session_id in self._forgotten:
            yield OutRecord(SESSIONS, session_id.encode(), None, partition, marks)

    def _alerts(self, batch: EventBatch) -> Iterator[tuple[str, int]]:
        for record in batch.records:
            alert = read_record(LoopAlert, record)
            if alert is None or not _is_ours(alert.session_id):
                continue
            if alert.state != "resolved" or self._knows(alert.session_id):
                self._fold(alert.session_id).hear_alert(alert)
                last_ms = self._last_ms(alert.session_id) or record.timestamp_ms
                yield alert.session_id, last_ms

    def _verdicts(self, batch: EventBatch) -> Iterator[tuple[str, int]]:
        for record in batch.records:
            verdict = read_record(Verdict, record)
            if verdict is None or not _is_ours(verdict.session_id):
                continue
            if verdict.blocks or self._knows(verdict.session_id):
                self._fold(verdict.session_id).hear_verdict(verdict)
                last_ms = self._last_ms(verdict.session_id) or record.timestamp_ms
                yield verdict.session_id, last_ms

    def _last_ms(self, session_id: str) -> int:
        known = self._known.get(session_id)
        return known.last_ms if known else 0

    def _knows(self, session_id: str) -> bool:
        return session_id in self._folds or session_id in self._asleep

    def _fold(self, session_id: str) -> SessionFold:
        fold = self._folds.get(session_id)
        if fold is not None:
            return fold
        asleep = self._asleep.pop(session_id, None)
        if asleep is None:
            fold = SessionFold.new(session_id, self._start.partition, self._silence)
        else:
            facts = decode_record(SessionFacts, asleep, self._schemas)
            fold = SessionFold.of(facts, self._silence)
        self._folds[session_id] = fold
        return fold

    def _judge(self, session_id: str, last_ms: int) -> bool:
        """Return whether its state has changed."""
        fold = self._folds[session_id]
        is_other = fold.judge(self._now_ms)
        due = fold.changes_at_ms(self._now_ms)
        alerts = fold.alerts
        levels = tuple([one.level for one in alerts]) if alerts else ()
        known = Known(last_ms, fold.state, levels)
        self._tally.change(self._known.get(session_id), known)
        self._known[session_id] = known
        before = self._due.get(session_id)
        if due is not None and (before is None or due < before):
            self._due[session_id] = due
            heapq.heappush(self._queue, (due, session_id))
        return is_other

    def _put_to_sleep(self, session_id: str, published: bytes) -> None:
        """Keep it as bytes, if time does not change it."""
        if session_id not in self._due:
            del self._folds[session_id]
            self._asleep[session_id] = published

    def _forget(self) -> None:
        """Let go of those that were silent for too long, and of those too many."""
        while self._known:
            session_id, known = next(iter(self._known.items()))
            if self._now_ms - known.last_ms > self._kept_ms:
                FORGOTTEN.labels("silent").inc()
            elif len(self._known) > self._most:
                FORGOTTEN.labels("too many").inc()
            else:
                return
            self._tally.change(self._known.pop(session_id), None)
            for held in (self._folds, self._asleep, self._changed, self._due):
                held.pop(session_id, None)
            self._forgotten[session_id] = None

    def _check(self, applied_through: int) -> None:
        start = self._start
        if applied_through >= start.log_end:
            raise FleetwakeError(
                f"published sessions hold events up to offset {applied_through} of "
                f"{start.topic_name}[{start.partition}], which ends at "
                f"{start.log_end}: the topic was made anew. Run `fleetwake reset`, or "
                "use another topic prefix"
            )


def _is_ours(session_id: str) -> bool:
    """Fleet alerts have no session; and a long one is no key."""
    return 0 < len(session_id.encode()) <= MAX_SESSION_ID_BYTES
