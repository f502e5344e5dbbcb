"""Records on their way, many in one object: in columns, which cost less than rows."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby, repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from fleetwake.producer.transport import OutgoingRecord
from fleetwake.schemas.topics import EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from fleetwake.producer.consignment import Consignment
    from fleetwake.producer.spool import Fields, Spooled

__all__ = ["Parcel", "parcels"]

# Of a record in a batch beside key and value: lengths, deltas, the digest header.
_RECORD_OVERHEAD: Final = 80


class Parcel:
    """
    Records of one topic, at least one, in the order in which they came in.

    Iterating gives them as a spool takes them. No object here is made for one record:
    what lives until it is acknowledged is looked at by the garbage collector again and
    again, and drives other things out of the caches.
    """

    __slots__ = (
        "consignment",
        "producer_ids",
        "recorded_at",
        "records",
        "sequences",
        "size",
        "topic",
    )

    consignment: Consignment
    """What they are settled with, once they are part of one."""

    def __init__(
        self,
        topic: str,
        records: Sequence[OutgoingRecord],
        recorded_at: Sequence[int],
        producer_ids: Sequence[str],
        sequences: Sequence[int],
    ) -> None:
        self.topic = topic
        """Short name: events or dead-letters."""
        self.records = records
        self.recorded_at = recorded_at
        """Microseconds since 1970, UTC."""
        self.producer_ids = producer_ids
        self.sequences = sequences
        sizes = [len(key) + len(value) for key, value, _ in records]
        self.size = sum(sizes) + _RECORD_OVERHEAD * len(sizes)
        """Bytes in a batch, roughly."""

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.records)

    def __iter__(self) -> Iterator[Fields]:
        """Iterate over the records as a spool takes them."""
        keys, values, headers = zip(*self.records, strict=True)
        is_event = self.topic == EVENTS.name
        return zip(
            repeat(self.topic),
            keys,
            values,
            headers,
            self.recorded_at,
            map(bytes.decode, keys) if is_event else repeat(""),
            self.producer_ids,
            self.sequences,
            strict=False,
        )

    def within(self, max_bytes: int) -> int:
        """Return how many, counted from the first, have no more bytes than that."""
        size = 0
        for count, (key, value, _) in enumerate(self.records):
            size += len(key) + len(value) + _RECORD_OVERHEAD
            if size > max_bytes:
                return count
        return len(self)

    def cut(self, count: int) -> tuple[Parcel, Parcel]:
        """Return the first `count`, and the others."""
        return self._pick(range(count)), self._pick(range(count, len(self)))

    def by_partition(self, partition: Callable[[bytes], int]) -> Mapping[int, Parcel]:
        """Return the records of each partition."""
        places: defaultdict[int, list[int]] = defaultdict(list)
        numbers = map(partition, [record[0] for record in self.records])
        for at, number in enumerate(numbers):
            places[number].append(at)
        if len(places) == 1:
            return dict.fromkeys(places, self)
        return {number: self._pick(some) for number, some in places.items()}

    def _pick(self, places: Iterable[int]) -> Parcel:
        picked = Parcel(
            self.topic,
            [self.records[at] for at in places],
            [self.recorded_at[at] for at in places],
            [self.producer_ids[at] for at in places],
            [self.sequences[at] for at in places],
        )
        if hasattr(self, "consignment"):
            picked.consignment = self.consignment
        return picked


def parcels(rows: Iterable[Spooled]) -> list[Parcel]:
    """Return what a spool gave back: one parcel, if all of it is of one topic."""
    found: list[Parcel] = []
    for topic, some in groupby(rows, attrgetter("topic")):
        _, keys, values, headers, recorded_at, _, producers, sequences = zip(
            *some, strict=True
        )
        records = [*map(OutgoingRecord, keys, values, headers)]
        found.append(Parcel(topic, records, recorded_at, producers, sequences))
    return found
