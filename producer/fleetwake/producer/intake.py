"""Stamps events, and keeps account of all until they are acknowledged or dropped."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import defaultdict, deque
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from fleetwake.producer.check import EMPTY_BYTES, Checked
from fleetwake.producer.entry import Entry, Flush, Letter, first_at, resolve
from fleetwake.producer.gaps import Gaps, loss_of
from fleetwake.producer.room import Room
from fleetwake.producer.sequences import Sequences
from fleetwake.schemas.event import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.producer.dead_letter import DeadLetter
    from fleetwake.producer.gaps import Loss
    from fleetwake.producer.settings import ProducerSettings

__all__ = ["Intake"]

# Gaps are told when the queue is this far below its limits.
_ROOM: Final = 0.9

# Who waits goes on when so many places are free, or a tenth: for each place by itself
# all who wait would be woken.
_PLACES: Final = 500

_HALF: Final = 0.5

# What the producer itself adds (gaps, close marks) and, with drop_oldest, what comes
# in before the oldest was dropped may fill the queue up to this.
_SLACK: Final = 2

_TAKE_BYTES: Final = 1024 * 1024

# As `_make` does, which is a call of Python more.
_entry_of = partial(tuple.__new__, Entry)


class Intake:
    """
    The bounded queue between `emit` and the writer. Thread-safe; no I/O under its lock.

    What it holds counts against its bounds until it is in the spool or settled, that
    is acknowledged or dropped. The lock is reentrant because a signal handler or a
    finalizer may emit while its own thread is in here.
    """

    def __init__(self, producer_id: str, settings: ProducerSettings) -> None:
        # Copies: a model of pydantic takes ten times as long to read.
        self._max_events = settings.queue_max_events
        self._max_bytes = settings.queue_max_bytes
        self._on_full = settings.on_full
        self._blocks = settings.on_full == "block"
        self._mark_on_close = settings.mark_on_close
        self._lock = threading.RLock()
        self._reopens_at = max(_ROOM, 1 - _PLACES / self._max_events)
        self._room = Room(self._lock, settings.block_timeout_s)
        self._queue: deque[Entry | Letter | Flush] = deque()
        self._sequences = Sequences(producer_id, settings.max_sessions)
        self._gaps = Gaps(settings.max_sessions)
        self._flushes: list[Flush] = []
        # The writer waits for the bell; else it looks again by itself, soon.
        self._resting = True
        self._taken_at: int | None = None
        # The one of the standard library's that may be used within itself, as in a
        # signal handler.
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._marked = False
        self._end: Future[bool] = Future()
        self._ending = False
        self._over = False
        self._is_stuck = False
        self.closed = False
        self.accepted = 0
        self.acknowledged = 0
        self.held = 0
        self.held_bytes = 0
        self.spooled = 0
        self.spooled_bytes = 0
        self.dropped: defaultdict[str, int] = defaultdict(int)

    @property
    def queued(self) -> int:
        """Accepted, neither acknowledged nor dropped."""
        return self.held + self.spooled

    def put(self, checked: Checked) -> None:
        """
        Stamp and append an event, or drop it by the policy.

        Waits only where the policy is `block`. A dropped event has its sequence too,
        so that its loss can be seen.
        """
        with self._lock:
            size = checked.size
            try:
                fits = (
                    self.held < self._max_events
                    and self.held_bytes + size <= self._max_bytes
                    and not self._blocks
                ) or self._make_room(size)
                if self._marked or self._over:
                    self._count_late()
                elif fits and not self.closed:
                    self._accept(checked)
                else:
                    self._lose(checked, "closed" if self.closed else "queue_full")
                if self._sequences.is_crowded:
                    self._evict()
            except BaseException:
                self._room.free()
                raise
            finally:
                if self._resting:
                    self._ring()

    def put_letter(self, letter: DeadLetter, size: int) -> None:
        """Append a dead letter, or drop it by the policy."""
        with self._lock:
            try:
                fits = self._make_room(size)
                one = Letter(letter, size, time.time_ns() // 1000)
            except BaseException:
                self._room.free()
                raise
            # As in `_accept`: no call before the last line of any way.
            self.accepted += 1
            if self.closed:
                self.dropped["closed"] += 1
            elif not fits:
                self.dropped["queue_full"] += 1
            else:
                self.held += 1
                self.held_bytes += size
                self._queue.append(one)
            self._ring()

    def take(self, count: int) -> list[Entry | Letter | Flush]:
        """
        Return what is next, about 1 MiB and `count` at most. For one thread.

        What was taken before is stored, or given up, by then.
        """
        taken: list[Entry | Letter | Flush] = []
        size = 0
        with self._lock:
            while self._queue and len(taken) < count and size < _TAKE_BYTES:
                one = self._queue.popleft()
                taken.append(one)
                size += one.size
            self._taken_at = first_at(taken)
            self._resting = self._resting and not taken
        return taken

    def rest(self) -> bool:
        """Have the next event end a `wait`; False: look once more before that."""
        with self._lock:
            rested, self._resting = self._resting, True
            return rested

    def wait(self, timeout_s: float | None) -> bool:
        """
        Wait for `ring`, after `rest` also for something to take.

        False: that took too long.
        """
        with contextlib.suppress(Empty):
            self._bell.get(timeout=timeout_s)
            return True
        return False

    def ring(self) -> None:
        """End a `wait`, this one or the next."""
        if self._bell.empty():
            self._bell.put(None)

    def ring_if_resting(self) -> None:
        """End a `wait` that would be long. From any thread, without a lock."""
        if self._resting:
            self.ring()

    def oldest(self) -> int | None:
        """Return when the first that is not stored yet was accepted, in us."""
        with self._lock:
            if not self.held:
                return None
            return self._taken_at or first_at(self._queue)

    def is_over(self) -> bool:
        """Tell whether what is oldest must be dropped (policy drop_oldest)."""
        return self._on_full == "drop_oldest" and (
            self.held > self._max_events or self.held_bytes > self._max_bytes
        )

    def is_awaited(self) -> bool:
        """Tell whether somebody waits for what is accepted. Without a lock."""
        return self.closed or not all(one.future.done() for one in self._flushes)

    def is_half_full(self) -> bool:
        """Tell whether it is time to store what is queued, whatever is missing."""
        return not self._fits(0, _HALF)

    def weigh(self, size: int, encoded: int) -> None:
        """Count `encoded` bytes in place of the `size` that events had."""
        with self._lock:
            if not self._over:
                self.held_bytes += encoded - size

    def release(self, count: int, size: int) -> None:
        """Take note of what is in the spool now."""
        with self._lock:
            if self._settle(count, size, spooled=False):
                self.spooled += count
                self.spooled_bytes += size
                self._settled()
            self._ring()

    def acknowledge(self, count: int, size: int, *, spooled: bool) -> None:
        """Settle what was delivered."""
        with self._lock:
            if self._settle(count, size, spooled=spooled):
                self.acknowledged += count
                self._is_stuck = False
                self._settled()
            self._ring()

    def count_again(self, count: int, size: int) -> None:
        """Count as accepted and spooled what a damaged spool holds more than once."""
        with self._lock:
            self.accepted += count
            self.spooled += count
            self.spooled_bytes += size

    def drop(
        self,
        lost: Sequence[Loss | None],
        size: int,
        reason: str,
        *,
        spooled: bool = False,
    ) -> None:
        """
        Settle some as lost; None stands for what was no event.

        After the reason `spool_full`, gaps are kept until something is delivered: till
        then they would be lost as well.
        """
        with self._lock:
            if self._settle(len(lost), size, spooled=spooled):
                self.dropped[reason] += len(lost)
                for one in lost:
                    if one is not None:
                        self._gaps.note(one, reason)
                self._is_stuck = self.spooled > 0 and (
                    self._is_stuck or reason == "spool_full"
                )
                self._settled()
            self._ring()

    def note(self, lost: Sequence[Loss | None], reason: str) -> None:
        """Tell the loss of events of another producer."""
        with self._lock:
            for one in lost:
                if one is not None:
                    self._gaps.note(one, reason)
            self._tell()
            self._ring()

    def flush(self) -> Future[bool]:
        """Return what becomes True when all that was accepted so far is settled."""
        with self._lock:
            if self._over:
                return self._end
            flush = Flush()
            if self.queued:
                self._flushes = [one for one in self._flushes if not one.future.done()]
                self._flushes.append(flush)
                self._queue.append(flush)
            else:
                resolve(flush.future, result=True)
            self.ring()
            return flush.future

    def close(self) -> Future[bool]:
        """
        Accept no more, and end the runs when all else is settled.

        Returns what becomes True when nothing is left to do, False when it was
        abandoned.
        """
        with self._lock:
            self.closed = True
            self._room.free()
            self._tell()
            self._ring()
            return self._end

    def end(self) -> None:
        """End the runs at once: what is queued now is all that there will be."""
        with self._lock:
            self.closed = True
            self._room.free()
            if self._over or self._ending:
                return
            for event in self._gaps.take(self._max_events):
                self._accept_own(event)
            self._mark()
            self._ending = True

    def abandon(self) -> int:
        """Drop what is neither settled nor in the spool, and return its number."""
        with self._lock:
            self._over = self.closed = True
            self._room.free()
            lost, self.held, self.held_bytes = self.held, 0, 0
            if lost:
                self.dropped["closed"] += lost
            self._queue.clear()
            for flush in self._flushes:
                resolve(flush.future, result=False)
            self._flushes.clear()
            resolve(self._end, result=False)
            return lost

    def counts(self) -> dict[str, Any]:
        """Return what `DeliveryStatistics` have from here, at one instant."""
        with self._lock:
            oldest = self.oldest()
            age_us = time.time_ns() // 1000 - oldest if oldest else 0
            return {
                "unstored_age_s": max(0, age_us) / 1e6,
                "accepted": self.accepted,
                "queued": self.queued,
                "queued_bytes": self.held_bytes + self.spooled_bytes,
                "spooled": self.spooled,
                "spooled_bytes": self.spooled_bytes,
                "acknowledged": self.acknowledged,
                "dropped": dict(self.dropped),
            }

    def _fits(self, size: int, share: float = 1.0) -> bool:
        return not self.held or (
            self.held < self._max_events * share
            and self.held_bytes + size <= self._max_bytes * share
        )

    def _make_room(self, size: int) -> bool:
        if self._blocks:
            fits = not self._room.is_awaited and self._fits(size)
            return fits or self._room.wait(size, partial(self._fits_behind, size))
        share = _SLACK if self._on_full == "drop_oldest" else 1
        return self._fits(size, share)

    def _fits_behind(self, size: int, ahead: int, ahead_bytes: int) -> bool:
        if self.closed or not ahead:
            return self.closed or self._fits(size)
        return (
            self.held + ahead < self._max_events
            and self.held_bytes + ahead_bytes + size <= self._max_bytes
        )

    def _accept(self, checked: Checked) -> None:
        """
        Stamp and append an event: wholly or not at all, in order.

        A signal handler may emit or raise in here. CPython runs it after calls and at
        the ends of loops: not between the test of the sequence and `append`, so what
        it did before is seen, and what it does then comes behind.
        """
        event, attributes, size, content = checked
        while True:
            run = self._sequences.run(event.session_id)
            id_, sequence = run.producer_id, run.sequence + 1
            now = time.time_ns() // 1000
            entry = _entry_of((event, attributes, size, id_, sequence, now, content))
            if run.sequence + 1 == sequence:
                run.sequence = sequence
                self.accepted += 1
                self.held += 1
                self.held_bytes += size
                self._queue.append(entry)
                return

    def _lose(self, checked: Checked, reason: str) -> None:
        """Use up a sequence, so that the loss can be seen; see `_accept`."""
        event = checked.event
        run = self._sequences.run(event.session_id)
        run.sequence = sequence = run.sequence + 1
        self.accepted += 1
        self.dropped[reason] += 1
        self._gaps.note(loss_of(event, run.producer_id, sequence), reason)

    def _count_late(self) -> None:
        # Without a sequence: the session's run has ended.
        self.accepted += 1
        self.dropped["closed"] += 1

    def _accept_own(self, event: AuditEvent) -> None:
        self._accept(Checked(event, event.attributes, EMPTY_BYTES))

    def _evict(self) -> None:
        session_id = self._sequences.crowded()
        if session_id is None:
            return
        marks = self._mark_on_close and not (self._marked or self._over)
        try:
            if marks and self._fits(EMPTY_BYTES, _SLACK):
                self._accept_own(_close_mark(session_id))
        finally:
            self._sequences.evict(session_id)

    def _settle(self, count: int, size: int, *, spooled: bool) -> bool:
        if spooled:
            self.spooled -= count
            self.spooled_bytes -= size
        elif not self._over:
            self.held -= count
            self.held_bytes -= size
        return spooled or not self._over

    def _settled(self) -> None:
        if self._room.is_awaited and self._fits(0, self._reopens_at):
            self._room.free()
        self._tell()

    def _tell(self) -> None:
        """Append gaps if there is room; in the end close marks; then end the close."""
        if self._over or self._ending:
            return
        may_tell = not (self._marked or self._is_stuck)
        if self._gaps and may_tell and self._fits(0, _ROOM):
            room = math.ceil(self._max_events * _ROOM) - self.held
            for event in self._gaps.take(room):
                self._accept_own(event)
                self._evict()
        if self.closed and self.queued <= 0:
            self._mark()
            if self.queued <= 0:
                self._over = True
                resolve(self._end, result=True)

    def _mark(self) -> None:
        if self._marked:
            return
        # From here on no other event is accepted: nothing comes behind the marks.
        self._marked = True
        if self._mark_on_close:
            for session_id in self._sequences:
                self._accept_own(_close_mark(session_id))

    def _ring(self) -> None:
        if self._queue and (self._resting or self.closed):
            # In this order: a signal handler may raise between them.
            self.ring()
            self._resting = False


def _close_mark(session_id: str) -> AuditEvent:
    return AuditEvent(
        source_event_type="producer.close",
        event_type="producer.close",
        session_id=session_id,
    )
