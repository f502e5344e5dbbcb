"""Delivers what producers that ended have left in their spools."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from fleetwake.producer.consignment import Consignment, finished, losses
from fleetwake.producer.parcel import parcels
from fleetwake.producer.spool import SpoolError, adopt
from fleetwake.schemas.errors import FleetwakeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from fleetwake.producer.gaps import Loss
    from fleetwake.producer.parcel import Parcel
    from fleetwake.producer.spool import Spool
    from fleetwake.producer.statistics import ErrorLog

__all__ = ["Adoption"]

logger = logging.getLogger("fleetwake.producer")

# Beside what is our own: little, since it is in no hurry.
_WINDOW_BYTES: Final = 2 * 1024 * 1024
_READ_BYTES: Final = 512 * 1024

# One look per folder and process in this time, however many producers there are.
_LOOK_AGAIN_S: Final = 60.0
_looked_at: dict[Path, float] = {}

# Spools that are read to their end, and wait for their last acknowledgements.
_MAX_OPEN: Final = 8


class Adoption:
    """
    Takes one spool after the other from a folder.

    Delivery guarantees: a spool is deleted when all in it is acknowledged or dropped.
    Until then it is ours; if we end, it is the next one's. The order inside of a
    spool is kept. All of the disk is the writer's thread; the delivery's methods
    touch memory only.
    """

    def __init__(
        self,
        folder: Callable[[], Path],
        errors: ErrorLog,
        *,
        max_age_s: float,
        tell: Callable[[Sequence[Loss | None], str], None],
        ring: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._errors = errors
        self._max_age_s = max_age_s
        self._tell = tell
        self._ring = ring
        self._look_at = -math.inf
        self._found: Iterator[Spool] = iter(())
        self._spools: list[_Adopted] = []
        self._queue: deque[list[Parcel]] = deque()
        self.acknowledged = 0
        self.unreadable = 0

    # The writer's side.

    def tend(self) -> bool:
        """Do what is due on the disk. True: there is more for the delivery."""
        for one in tuple(self._spools):
            one.forget_done()
            if one.is_over:
                self._close(one)
        filled = False
        while sum(one.window for one in self._spools) < _WINDOW_BYTES:
            if (next_one := self._next()) is None:
                break
            found = next_one.read(_READ_BYTES)
            self._queue += found
            filled = filled or bool(found)
            if next_one.is_over:
                self._close(next_one)
        return filled

    def close(self) -> None:
        """Give back the spools that are open; delete those that are empty."""
        for one in tuple(self._spools):
            one.forget_done()
            self._close(one)

    def _next(self) -> _Adopted | None:
        last = self._spools[-1] if self._spools else None
        if last is not None and not last.is_read:
            return last
        if len(self._spools) < _MAX_OPEN and (spool := self._look()) is not None:
            logger.info("Delivering %d events of a producer that ended.", spool.events)
            self._expire(spool)
            self._spools.append(_Adopted(self, spool, self._note))
            return self._spools[-1]
        return None

    def _look(self) -> Spool | None:
        if (spool := next(self._found, None)) is not None:
            return spool
        if (now := time.monotonic()) < self._look_at:
            return None
        try:
            folder = self._folder()
        except FleetwakeError as error:
            self._note(error)
            return None
        self._look_at = _looked_at.get(folder, -math.inf) + _LOOK_AGAIN_S
        if now < self._look_at:
            return None
        _looked_at[folder] = now
        self._found = adopt(folder, on_error=self._note)
        return next(self._found, None)

    def _expire(self, spool: Spool) -> None:
        before = time.time_ns() // 1000 - round(self._max_age_s * 1e6)
        try:
            while lost := spool.drop_before(before):
                for parcel in parcels(lost):
                    self.lost(parcel, "expired")
        except SpoolError as error:
            self._note(error)

    def _close(self, one: _Adopted) -> None:
        self._spools.remove(one)
        self.unreadable += one.spool.unreadable.records
        one.spool.close()

    def _note(self, error: FleetwakeError) -> None:
        self._errors.note("spool", error)

    # The delivery's side.

    def take(self) -> list[Parcel]:
        """Return the next records, if there are any in memory."""
        return self._queue.popleft() if self._queue else []

    def arrived(self, count: int) -> None:
        """Count delivered records."""
        self.acknowledged += count

    def lost(self, parcel: Parcel, reason: str) -> None:
        """Count and tell lost records. From any thread."""
        for _ in range(len(parcel)):
            self._errors.note("adopted_lost", reason)
        self._tell(losses(parcel), reason)

    def settled(self) -> None:
        """Have the disk done."""
        self._ring()


class _Adopted:
    """One spool that is ours now."""

    def __init__(
        self, adoption: Adoption, spool: Spool, note: Callable[[SpoolError], None]
    ) -> None:
        self.spool = spool
        self.window = 0
        self.is_read = False
        self._adoption = adoption
        self._note = note
        self._after = 0
        self._unsettled = 0
        self._done: deque[Consignment] = deque()

    @property
    def is_over(self) -> bool:
        """Tell whether nothing is left to do."""
        return self.is_read and not self._unsettled

    def read(self, max_bytes: int) -> list[list[Parcel]]:
        """Return the next consignments. For the writer's thread."""
        try:
            batches = self.spool.read(self._after, max_bytes=max_bytes)
        except SpoolError as error:
            self._note(error)
            batches = []
        self.is_read = not batches
        found: list[list[Parcel]] = []
        for number, records, *_ in batches:
            some = parcels(records)
            self._after = number
            self._unsettled += 1
            self.window += Consignment(self, number, some).size
            found.append(some)
        return found

    def forget_done(self) -> None:
        """Forget what is settled. For the writer's thread."""
        done = [self._done.popleft() for _ in range(len(self._done))]
        if done:
            self.spool.settle([one.number for one in done])
        self._unsettled -= len(done)
        self.window -= sum(one.size for one in done)

    def acknowledge(self, arrived: Sequence[Parcel], /) -> None:
        """Settle records as delivered."""
        self._adoption.arrived(sum(map(len, arrived)))
        self._settle(arrived)

    def drop(self, lost: Parcel, reason: str, /) -> None:
        """Settle records as lost, and tell it."""
        self._adoption.lost(lost, reason)
        self._settle([lost])

    def _settle(self, settled: Sequence[Parcel]) -> None:
        if done := finished(settled):
            self._done += done
            self._adoption.settled()
