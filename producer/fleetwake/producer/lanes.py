"""Which record waits where: a lane for each partition, and one for dead letters."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from fleetwake.producer.lane import Lane
from fleetwake.schemas.topics import EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fleetwake.producer.consignment import Consignment
    from fleetwake.producer.parcel import Parcel

__all__ = ["Lanes", "lose"]

# What waits of dead letters is bounded, so that it is not in the way of events.
_MAX_LETTERS_BYTES: Final = 4 * 1024 * 1024


class Lanes:
    """
    All lanes of a delivery. For its thread.

    Before the partitions are known, all events wait in one lane.
    """

    def __init__(self, max_sessions: int) -> None:
        self._max_sessions = max_sessions
        self._partition: Callable[[bytes], int] = lambda _: 0
        self.events = [Lane()]
        """By partition, once `assign` was called."""
        self.letters = Lane()
        self.partitions = 0
        """As far as they are known."""

    def __iter__(self) -> Iterator[Lane]:
        """Iterate over all lanes."""
        yield from self.events
        yield self.letters

    def oldest(self) -> int | None:
        """Return when the record that waits longest was accepted. From any thread."""
        waiting = [lane.oldest for lane in self]
        return min((one.recorded_at[0] for one in waiting if one), default=None)

    def assign(self, partitions: int, partition: Callable[[bytes, int], int]) -> None:
        """Spread what waits, and what will come, by this rule."""

        # murmur2 in Python takes 8 us for a UUID.
        @lru_cache(maxsize=self._max_sessions)
        def partition_of(key: bytes) -> int:
            return partition(key, partitions)

        self._partition = partition_of
        if self.partitions == partitions:
            return
        self.partitions = partitions
        lanes, self.events = self.events, [Lane() for _ in range(partitions)]
        for lane in lanes:
            self.extend(lane)

    def extend(self, parcels: Iterable[Parcel]) -> None:
        """Add records behind all others."""
        for parcel in parcels:
            if parcel.topic == EVENTS.name:
                for number, part in parcel.by_partition(self._partition).items():
                    self.events[number].append(part)
            else:
                self._add_letters(parcel)

    def drop_oldest(
        self,
        reason: str,
        is_due: Callable[[], bool],
        kind: Callable[[Consignment], bool],
    ) -> None:
        """Give up events of a kind of consignment, as long as that is due."""
        begun: Consignment | None = None
        while (lane := self._oldest_waiting(kind)) and (oldest := lane.next):
            # A spool has more room only when all of a batch is gone.
            if not is_due() and not (
                oldest.consignment is begun and oldest.consignment.number
            ):
                break
            begun = oldest.consignment
            lose(lane.pop(), reason)

    def _oldest_waiting(self, kind: Callable[[Consignment], bool]) -> Lane | None:
        ordinals = [
            (first.consignment.ordinal, number)
            for number, lane in enumerate(self.events)
            if (first := lane.next) is not None and kind(first.consignment)
        ]
        return self.events[min(ordinals)[1]] if ordinals else None

    def _add_letters(self, parcel: Parcel) -> None:
        room = _MAX_LETTERS_BYTES - self.letters.size
        fit, rest = parcel.cut(parcel.within(room))
        if fit:
            self.letters.append(fit)
        if rest:
            lose(rest, "letters_full")


def lose(parcel: Parcel, reason: str) -> None:
    """Settle records, which are in no lane, as lost."""
    parcel.consignment.source.drop(parcel, reason)
