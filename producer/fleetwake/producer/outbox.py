"""What was encoded and is not settled: between the writer and the delivery."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from fleetwake.producer.consignment import Consignment, finished, losses
from fleetwake.producer.entry import Flush, resolve
from fleetwake.producer.parcel import parcels
from fleetwake.producer.spool import SpoolError, SpoolFullError
from fleetwake.schemas.errors import FleetwakeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fleetwake.producer.intake import Intake
    from fleetwake.producer.parcel import Parcel
    from fleetwake.producer.spool import Spool, Spooled
    from fleetwake.producer.statistics import ErrorLog

__all__ = ["Outbox"]

logger = logging.getLogger("fleetwake.producer")

# Spooled records that are in memory as well, on their way or about to be.
_WINDOW_BYTES: Final = 8 * 1024 * 1024
_READ_BYTES: Final = 1024 * 1024

# A batch takes this part of its spool at most, or else is one record: a small spool
# would have no room for as much as is encoded together, be it empty.
_PARTS: Final = 8

# A spool that cannot be written is tried again after this.
_AGAIN_S: Final = 1.0

_FULL_POLL_S: Final = 0.005

# So long the delivery may take to drop what is oldest.
_DROP_S: Final = 0.5


class _Stretch:
    """Batches that only the spool has: those with a number in after < n <= last."""

    __slots__ = ("after", "last")

    def __init__(self, after: int, last: int) -> None:
        self.after = after
        self.last = last


class Outbox:
    """
    Takes records from the writer's thread and gives them to the delivery's, in order.

    With a spool they are on disk when `put` returns, and at most `_WINDOW_BYTES` of
    them are in memory as well: when the delivery falls behind that, `tend` reads from
    the spool. Where the spool cannot be made or written, and where there is none, they
    stay in memory, and count against the bounds of the intake until they are settled.

    Delivery guarantees: what is in the spool outlives the process. What `drop_oldest`
    gives up is not on its way: of what is in memory the delivery gives it up. All of
    the disk is the writer's; the delivery's methods touch memory only.
    """

    def __init__(
        self,
        intake: Intake,
        errors: ErrorLog,
        *,
        on_full: str,
        open_spool: Callable[[], Spool] | None,
        deliver: Callable[[], None],
    ) -> None:
        self._intake = intake
        self._errors = errors
        self._on_full = on_full
        self._open_spool = open_spool
        self._deliver = deliver
        self._again_at = 0.0
        # Stretches are the writer's; the delivery stops in front of them.
        self._queue: deque[list[Parcel] | _Stretch | Flush] = deque()
        self._lock = threading.Lock()
        self._window = 0
        self._in_memory: dict[int, Consignment] = {}
        # Numbers of batches that are settled, but still in the spool.
        self._done: deque[int] = deque()
        # Of all stretches: what the spool cannot give back in the end is damaged.
        self._left = 0
        self._left_bytes = 0
        self._flushes: list[Flush] = []
        self._ordinal = 0
        self._outstanding = 0
        self._stop_at = math.inf
        self.excess = 0
        """Bytes that the delivery shall drop, the oldest first."""
        self.spool: Spool | None = None
        self.unreadable = 0

    @property
    def has_spool(self) -> bool:
        """Tell whether what is put now outlives the process, as far as is known."""
        return self._open_spool is not None and time.monotonic() >= self._again_at

    # The writer's side.

    def put(self, parcel: Parcel, held: int) -> None:
        """Take records, which took `held` bytes in the intake."""
        self._intake.weigh(held, parcel.size)
        for part in self._parts(parcel):
            self._put(part)

    def mark(self, flush: Flush) -> None:
        """Resolve a flush when all that was put before is settled."""
        self._queue.append(flush)

    def tend(self) -> bool:
        """Do what is due on the disk. True: there is more for the delivery."""
        self._forget_done()
        return self._read()

    def expire(self, before: int) -> None:
        """Give up what is in the spool since before a time in microseconds."""
        if (spool := self.spool) is None:
            return
        spared = self._spare()
        while self._give_up(lambda: spool.drop_before(before, spare=spared), "expired"):
            pass

    def stop(self, *, after_s: float = 0.0) -> None:
        """Wait no longer than that for room in the spool. From any thread."""
        self._stop_at = min(self._stop_at, time.monotonic() + after_s)

    def close(self) -> None:
        """Leave what is not settled to the next process. After the delivery ended."""
        self._forget_done()
        if self.spool is not None:
            self.spool.close()

    def _parts(self, parcel: Parcel) -> Iterator[Parcel]:
        spool = self._spool()
        if spool is not None and spool.max_bytes is not None:
            most = spool.max_bytes // _PARTS
            while parcel.size > most and len(parcel) > 1:
                part, parcel = parcel.cut(max(1, parcel.within(most)))
                yield part
        yield parcel

    def _put(self, parcel: Parcel) -> None:
        count, size = len(parcel), parcel.size
        try:
            number = self._append(parcel)
        except SpoolFullError as error:
            self._errors.note("spool_full", error)
            self._intake.drop(losses(parcel), size, "spool_full")
            return
        if number:
            self._intake.release(count, size)
        if number and self._window + size > _WINDOW_BYTES:
            self._leave(number, count, size)
        else:
            self._queue.append(self._consign(number, [parcel]))

    def _append(self, parcel: Parcel) -> int:
        spool = self._spool()
        while spool is not None:
            try:
                number = spool.append(parcel)
            except SpoolFullError as error:
                if not self._make_room(spool, error.missing):
                    raise
            except Exception as error:  # noqa: BLE001  # whatever it is, go on in memory
                self._fail(error)
                break
            else:
                if self._errors.over("spool"):
                    logger.info("Writing to the spool again.")
                self._errors.over("spool_full")
                return number
        return 0

    def _spool(self) -> Spool | None:
        if self._open_spool is None or not self.has_spool:
            return None
        if self.spool is None:
            try:
                self.spool = self._open_spool()
            except Exception as error:  # noqa: BLE001  # whatever it is, go on in memory
                self._fail(error)
        return self.spool

    def _fail(self, error: Exception) -> None:
        known = isinstance(error, FleetwakeError)
        # Not the text of an error that is not ours: it may hold content.
        self._errors.note("spool", error if known else type(error).__name__)
        self._again_at = time.monotonic() + _AGAIN_S

    def _make_room(self, spool: Spool, missing: int) -> bool:
        if self._on_full == "drop_oldest":
            return self._drop_oldest(spool, missing)
        # In an empty one there is nothing to wait for.
        waits = self._on_full == "block" and time.monotonic() < self._stop_at
        if waits and spool.events:
            self._deliver()
            time.sleep(_FULL_POLL_S)
            self.tend()
            return True
        return False

    def _drop_oldest(self, spool: Spool, missing: int) -> bool:
        before = spool.bytes
        give_up_at = time.monotonic() + _DROP_S
        self.excess = missing
        while self._in_memory and time.monotonic() < give_up_at:
            self._deliver()
            time.sleep(_FULL_POLL_S)
            self._forget_done()
            if spool.bytes < before:
                return True
        self.excess = 0
        spared = self._spare()
        return self._give_up(
            lambda: spool.drop_oldest(missing, spare=spared), "spool_full"
        )

    def _give_up(self, drop: Callable[[], Sequence[Spooled]], reason: str) -> bool:
        try:
            lost = drop()
        except SpoolError as error:
            self._fail(error)
            return False
        for parcel in parcels(lost):
            self._came_back(len(parcel), parcel.size)
            self._intake.drop(losses(parcel), parcel.size, reason, spooled=True)
        return bool(lost)

    def _spare(self) -> frozenset[int]:
        with self._lock:
            return frozenset(self._in_memory)

    def _forget_done(self) -> None:
        numbers = [self._done.popleft() for _ in range(len(self._done))]
        if numbers and self.spool is not None:
            self.spool.settle(numbers)
            with self._lock:
                for number in numbers:
                    del self._in_memory[number]

    def _leave(self, number: int, count: int, size: int) -> None:
        self._left += count
        self._left_bytes += size
        last = self._queue[-1] if self._queue else None
        if isinstance(last, _Stretch):
            last.last = number
        else:
            self._queue.append(_Stretch(number - 1, number))

    def _came_back(self, count: int, size: int) -> None:
        """Take note of records that the spool has given back."""
        if count > self._left:
            # The repair of a damaged spool has kept a copy of what is in memory.
            self._intake.count_again(count - self._left, size - self._left_bytes)
            self._left, self._left_bytes = count, size
        self._left -= count
        self._left_bytes -= size

    def _read(self) -> bool:
        """Put batches in place of a stretch, once the delivery has come to it."""
        stretch = self._queue[0] if self._queue else None
        spool = self.spool
        if not isinstance(stretch, _Stretch) or spool is None:
            return False
        found: list[list[Parcel]] = []
        while self._window < _WINDOW_BYTES and stretch.after < stretch.last:
            try:
                batches = spool.read(stretch.after, max_bytes=_READ_BYTES)
            except SpoolError as error:
                self._errors.note("spool", error)
                break
            batches = [one for one in batches if one.number <= stretch.last]
            stretch.after = batches[-1].number if batches else stretch.last
            for number, records, *_ in batches:
                some = parcels(records)
                self._came_back(len(records), sum(one.size for one in some))
                found.append(self._consign(number, some))
        with self._lock:
            is_last = stretch.after >= stretch.last
            if is_last:
                self._queue.popleft()
                is_last = not any(isinstance(one, _Stretch) for one in self._queue)
            self._queue.extendleft(reversed(found))
        if is_last:
            self._give_up_unreadable()
        return bool(found)

    def _give_up_unreadable(self) -> None:
        lost, size = self._left, self._left_bytes
        self._left = self._left_bytes = 0
        if lost:
            self.unreadable += lost
            self._intake.drop([None] * lost, size, "unreadable", spooled=True)

    def _consign(self, number: int, some: list[Parcel]) -> list[Parcel]:
        consignment = Consignment(self, number, some)
        if number:
            with self._lock:
                self._in_memory[number] = consignment
                self._window += consignment.size
        return some

    # The delivery's side.

    def take(self) -> list[Parcel]:
        """Return the next records, if there are any in memory."""
        while True:
            with self._lock:
                if not self._queue or isinstance(self._queue[0], _Stretch):
                    return []
                first = self._queue.popleft()
            if isinstance(first, list):
                self._ordinal += 1
                self._outstanding += 1
                first[0].consignment.ordinal = self._ordinal
                return first
            if isinstance(first, Flush):
                self._begin(first)

    def acknowledge(self, arrived: Sequence[Parcel], /) -> None:
        """Settle records as delivered."""
        for spooled in (False, True):
            some = [one for one in arrived if (one.consignment.number > 0) is spooled]
            if some:
                count, size = sum(map(len, some)), sum(one.size for one in some)
                self._intake.acknowledge(count, size, spooled=spooled)
        self._settle(arrived)

    def drop(self, lost: Parcel, reason: str, /) -> None:
        """Settle records as lost."""
        self.excess -= lost.size
        spooled = lost.consignment.number > 0
        self._intake.drop(losses(lost), lost.size, reason, spooled=spooled)
        self._settle([lost])

    def oldest(self) -> int | None:
        """Return when the oldest that was not taken was accepted, in us."""
        if self.spool is not None and (spooled := self.spool.oldest_recorded_at):
            return spooled
        with contextlib.suppress(IndexError):
            first = self._queue[0]
            return first[0].recorded_at[0] if isinstance(first, list) else None
        return None

    def _begin(self, flush: Flush) -> None:
        flush.ordinal, flush.unsettled = self._ordinal, self._outstanding
        self._flushes.append(flush)
        self._settle([])

    def _settle(self, settled: Sequence[Parcel]) -> None:
        done = finished(settled)
        self._outstanding -= len(done)
        for flush in self._flushes:
            flush.unsettled -= sum(one.ordinal <= flush.ordinal for one in done)
            if flush.unsettled <= 0:
                resolve(flush.future, result=True)
        self._flushes = [one for one in self._flushes if one.unsettled > 0]
        if spooled := [one for one in done if one.number]:
            with self._lock:
                self._window -= sum(one.size for one in spooled)
            self._done += [one.number for one in spooled]
            self._intake.ring_if_resting()
