"""The records of one partition on their way: in order, not acknowledged."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetwake.producer.parcel import Parcel

__all__ = ["Lane"]


class Lane:
    """
    What waits for one partition and what is on its way to it. For one thread.

    One batch is on its way at a time; when it fails it goes back to the front, so
    the order of a session survives every failure. A refused batch is sent again in
    halves until the refused record stands alone; what was behind it in the batch then
    goes in batches that double.
    """

    def __init__(self) -> None:
        self._waiting: deque[Parcel] = deque()
        self._under_way: list[Parcel] = []
        # Records of a refused batch, and how many of them go together.
        self._suspects = 0
        self._at_most = 0
        self.size = 0
        """Of all records, in bytes."""
        self.filled = asyncio.Event()

    def __iter__(self) -> Iterator[Parcel]:
        """Iterate over all records, oldest first."""
        yield from self._under_way
        yield from self._waiting

    @property
    def is_busy(self) -> bool:
        """Tell whether a batch is on its way."""
        return bool(self._under_way)

    @property
    def oldest(self) -> Parcel | None:
        """What begins with the oldest record. From any thread."""
        try:
            return self._under_way[0]
        except IndexError:
            return self.next

    @property
    def next(self) -> Parcel | None:
        """What begins with the oldest record that is not on its way."""
        try:
            return self._waiting[0]
        except IndexError:
            return None

    def append(self, parcel: Parcel) -> None:
        """Add records behind all others."""
        self._waiting.append(parcel)
        self.size += parcel.size
        self.filled.set()

    def pop(self) -> Parcel:
        """Remove the oldest record that is not on its way."""
        parcel = self._take(1)
        self.size -= parcel.size
        return parcel

    def load(self, max_bytes: int) -> list[Parcel]:
        """Put the next batch on its way: one record at least, if there is one."""
        left = max_bytes
        most = self._at_most if self._suspects else None
        while (first := self.next) is not None:
            count = len(first) if first.size <= left else first.within(left)
            if most is not None:
                count = min(count, most)
                most -= count
            if not count and self._under_way:
                break
            loaded = self._take(max(count, 1))
            left -= loaded.size
            self._under_way.append(loaded)
        if not self._waiting:
            self.filled.clear()
        return self._under_way

    def arrived(self) -> list[Parcel]:
        """Take the batch that was on its way out of the lane; it was acknowledged."""
        batch, self._under_way = self._under_way, []
        self.size -= sum([one.size for one in batch])
        self._suspects = max(0, self._suspects - sum(map(len, batch)))
        self._at_most = min(2 * self._at_most, self._suspects)
        return batch

    def restore(self) -> None:
        """Put the batch that was on its way back to the front, for the next client."""
        self._waiting.extendleft(reversed(self._under_way))
        self._under_way = []
        # An event belongs to the loop that waited for it, and each client has its own.
        self.filled = asyncio.Event()
        if self._waiting:
            self.filled.set()

    def refused(self) -> list[Parcel]:
        """
        Restore the batch and send less of it next time.

        Returns the record that was refused, taken out of the lane, once that is known.
        """
        count = sum(map(len, self._under_way))
        if count == 1:
            self._at_most = max(1, self._at_most)
            return self.arrived()
        self._suspects = max(self._suspects, count)
        self._at_most = count // 2
        self.restore()
        return []

    def _take(self, count: int) -> Parcel:
        """Take the first records of the first parcel out of it."""
        first = self._waiting.popleft()
        while count < len(first):
            # In halves, so that to take one after the other costs little.
            first, rest = first.cut(max(count, len(first) // 2))
            self._waiting.appendleft(rest)
        return first
