"""Stamps events, and keeps account of each until it is acknowledged or dropped."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import Counter, deque
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fleetwake.producer.check import EMPTY_BYTES, Checked
from fleetwake.producer.gaps import Gaps
from fleetwake.producer.sequences import Sequences
from fleetwake.schemas.event import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetwake.producer.settings import ProducerSettings

__all__ = ["Entry", "Intake", "resolve"]

# Gaps are told when the queue is this far below its limits.
_ROOM: Final = 0.9

# What the producer itself adds (gaps, close marks) and, with drop_oldest, what comes
# in before the worker has dropped the oldest may fill the queue up to this.
_SLACK: Final = 2


class Entry(NamedTuple):
    """An accepted event and its stamps. `ordinal` counts all events of a producer."""

    ordinal: int
    event: AuditEvent
    attributes: Mapping[str, str]
    size: int
    producer_id: str
    sequence: int
    recorded_at: int


class Intake:
    """
    The bounded queue between `emit` and the worker. Thread-safe; no I/O under its lock.

    The lock is reentrant because a signal handler or a finalizer may emit while its
    own thread is in here.
    """

    def __init__(self, producer_id: str, settings: ProducerSettings) -> None:
        self._settings = settings
        self._lock = threading.RLock()
        self._room = threading.Condition(self._lock)
        self._entries: deque[Entry] = deque()
        self._sequences = Sequences(producer_id, settings.max_sessions)
        self._gaps = Gaps(settings.max_sessions)
        self._flushes: list[_Flush] = []
        self._idle = True
        self._marked = not settings.mark_on_close
        self._end: Future[bool] = Future()
        self._over = False
        self.closed = False
        self.accepted = 0
        self.acknowledged = 0
        self.queued = 0
        self.queued_bytes = 0
        self.dropped: Counter[str] = Counter()

    def put(self, checked: Checked) -> bool:
        """
        Stamp and append an event, or drop it by the policy. True: wake the worker.

        Waits only where the policy is `block`. A dropped event has its sequence too,
        so that its loss can be seen.
        """
        with self._lock:
            fits = self._fits(checked.size) or self._make_room(checked.size)
            entry = self._stamp(checked)
            if fits and not self.closed:
                self._append(entry)
            else:
                self._lose(entry, "closed" if self.closed else "queue_full")
            self._evict()
            return self._must_wake()

    def take(self, count: int) -> list[Entry]:
        """Return the next entries. If none, the next `put` says to wake the worker."""
        with self._lock:
            count = min(count, len(self._entries))
            self._idle = not count
            return [self._entries.popleft() for _ in range(count)]

    def oldest(self) -> Entry | None:
        """Return the next entry and leave it there."""
        with self._lock:
            return self._entries[0] if self._entries else None

    def is_over(self) -> bool:
        """Tell whether the worker must drop what is oldest (policy drop_oldest)."""
        limits = self._settings
        return limits.on_full == "drop_oldest" and (
            self.queued > limits.queue_max_events
            or self.queued_bytes > limits.queue_max_bytes
        )

    def acknowledge(self, entries: Sequence[Entry]) -> bool:
        """Settle entries as delivered. True: wake the worker."""
        with self._lock:
            if not self._over:
                self.acknowledged += len(entries)
                self._settle(entries)
            return self._must_wake()

    def drop(self, entries: Sequence[Entry], reason: str) -> bool:
        """Settle entries as lost. True: wake the worker."""
        with self._lock:
            if not self._over:
                for entry in entries:
                    self._lose(entry, reason)
                self._settle(entries)
            return self._must_wake()

    def flush(self) -> Future[bool]:
        """Return what becomes True when all that was accepted so far is settled."""
        with self._lock:
            if self._over:
                return self._end
            flush = _Flush(self.accepted, self.queued)
            if not flush.is_over():
                self._flushes.append(flush)
            return flush.future

    def close(self) -> tuple[Future[bool], bool]:
        """
        Accept no more, and end the runs when all else is settled.

        Returns what becomes True when nothing is left to do, False when it was
        abandoned; and whether the worker must be woken.
        """
        with self._lock:
            self.closed = True
            self._room.notify_all()
            self._tell()
            return self._end, self._must_wake()

    def abandon(self) -> int:
        """Drop whatever is not settled, and return its number."""
        with self._lock:
            self._over = self.closed = True
            lost, self.queued, self.queued_bytes = self.queued, 0, 0
            if lost:
                self.dropped["closed"] += lost
            self._entries.clear()
            for flush in self._flushes:
                resolve(flush.future, result=False)
            self._flushes.clear()
            resolve(self._end, result=False)
            return lost

    def counts(self) -> dict[str, Any]:
        """Return the counts of `DeliveryStatistics` that add up, at one instant."""
        with self._lock:
            return {
                "accepted": self.accepted,
                "queued": self.queued,
                "queued_bytes": self.queued_bytes,
                "acknowledged": self.acknowledged,
                "dropped": dict(self.dropped),
            }

    def _fits(self, size: int, share: float = 1.0) -> bool:
        limits = self._settings
        return not self.queued or (
            self.queued < limits.queue_max_events * share
            and self.queued_bytes + size <= limits.queue_max_bytes * share
        )

    def _make_room(self, size: int) -> bool:
        limits = self._settings
        if limits.on_full == "drop_oldest":
            return self._fits(size, _SLACK)
        if limits.on_full == "block":
            return self._room.wait_for(
                lambda: self.closed or self._fits(size), limits.block_timeout_s
            )
        return False

    def _stamp(self, checked: Checked) -> Entry:
        run = self._sequences.advance(checked.event.session_id)
        self.accepted += 1
        return Entry(
            self.accepted,
            checked.event,
            checked.attributes,
            checked.size,
            run.producer_id,
            run.sequence,
            time.time_ns() // 1000,
        )

    def _append(self, entry: Entry) -> None:
        self._entries.append(entry)
        self.queued += 1
        self.queued_bytes += entry.size

    def _append_own(self, event: AuditEvent) -> None:
        checked = Checked(event, event.attributes, EMPTY_BYTES)
        self._append(self._stamp(checked))

    def _lose(self, entry: Entry, reason: str) -> None:
        self.dropped[reason] += 1
        self._gaps.note(entry.event, entry.producer_id, entry.sequence, reason)

    def _evict(self) -> None:
        session_id = self._sequences.crowded()
        if session_id is None:
            return
        if self._settings.mark_on_close and self._fits(EMPTY_BYTES, _SLACK):
            self._append_own(_close_mark(session_id))
        self._sequences.evict(session_id)

    def _settle(self, entries: Sequence[Entry]) -> None:
        self.queued -= len(entries)
        self.queued_bytes -= sum(entry.size for entry in entries)
        self._flushes = [one for one in self._flushes if not one.settle(entries)]
        if self._settings.on_full == "block":
            self._room.notify_all()
        self._tell()

    def _tell(self) -> None:
        """Append gaps if there is room; in the end close marks; then end the close."""
        if self._over:
            return
        if self._gaps and self._fits(0, _ROOM):
            room = math.ceil(self._settings.queue_max_events * _ROOM) - self.queued
            for event in self._gaps.take(room):
                self._append_own(event)
                self._evict()
        if self.closed and not self.queued:
            if not self._marked:
                self._marked = True
                for session_id in self._sequences:
                    self._append_own(_close_mark(session_id))
            if not self.queued:
                self._over = True
                resolve(self._end, result=True)

    def _must_wake(self) -> bool:
        wake = self._idle and bool(self._entries)
        self._idle = self._idle and not wake
        return wake


class _Flush:
    """Waits until all entries up to an ordinal are settled."""

    def __init__(self, ordinal: int, unsettled: int) -> None:
        self._ordinal = ordinal
        self._unsettled = unsettled
        self.future: Future[bool] = Future()

    def settle(self, entries: Sequence[Entry]) -> bool:
        """Take note of settled entries. True: it is over."""
        self._unsettled -= sum(entry.ordinal <= self._ordinal for entry in entries)
        return self.is_over()

    def is_over(self) -> bool:
        """Tell whether nothing is left to wait for, and resolve the future if so."""
        if self._unsettled <= 0:
            resolve(self.future, result=True)
        return self._unsettled <= 0


def resolve(future: Future[bool], *, result: bool) -> None:
    """Set a result unless there is one, or nobody waits any longer."""
    with contextlib.suppress(InvalidStateError):
        future.set_result(result)


def _close_mark(session_id: str) -> AuditEvent:
    return AuditEvent(
        source_event_type="producer.close",
        event_type="producer.close",
        session_id=session_id,
    )
