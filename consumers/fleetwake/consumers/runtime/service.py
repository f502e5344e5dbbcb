"""
What a service is: the contract between a service and the runtime.

A service makes one processor for each partition number that it is assigned, of all
its topics (they are co-partitioned). The runtime does the rest: polling, decoding,
rebalances, retries, dead letters, commits, health, metrics. The life of a processor:

1. `Service.open(start)` makes it and says where to read from.
2. `process(batch)` for each polled batch, in offset order, in a worker thread, never
   two at a time. A batch is either wholly replayed (below the committed offset: build
   state, publish nothing) or wholly live.
3. `tick(now_ms)`, for a `Ticking` processor, about once a second while it has read all
   that there is.
4. `flush()` from time to time, on the event loop: make durable what was processed.
   Then, and only then, the runtime commits.
5. After a rebalance it is dropped, without a flush: whoever owns the partition next
   starts from what was committed (docs/decisions/0003).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, runtime_checkable

from fleetwake.consumers.runtime.records import Record, Records
from fleetwake.schemas.errors import FleetwakeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from fleetwake.schemas.errors import InvalidRecordError
    from fleetwake.schemas.topics import Topic

    Longs: TypeAlias = npt.NDArray[np.int64]

__all__ = [
    "Closing",
    "EventBatch",
    "FlushPolicy",
    "InvalidRecord",
    "Needed",
    "OutRecord",
    "PartitionFencedError",
    "PartitionStart",
    "Processor",
    "Publisher",
    "Record",
    "Records",
    "Replica",
    "Service",
    "Ticking",
    "TopicReader",
]

Needed: TypeAlias = "int | Mapping[Topic, int] | None"
"""
The oldest offset that is needed to build the present state again.

Of the service's first topic, or by topic; where it says nothing, the offset after the
last processed.
"""


class PartitionFencedError(FleetwakeError):
    """
    Raised by `flush` when another owner has written what this one was to write.

    The runtime drops the processor and opens the partition anew.
    """


class InvalidRecord(NamedTuple):
    """A record that no schema could read, and why."""

    record: Record
    error: InvalidRecordError


class OutRecord(NamedTuple):
    """One record to publish. `partition` None: by Kafka's own hash of the key."""

    topic: Topic
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(slots=True, kw_only=True)
class EventBatch:
    """
    The records of one poll, one topic, one partition.

    `events` has one row for each record that decoded, in offset order, with the
    columns of `audit_event.avsc` (see `fleetwake.schemas.columnar`). `rows[i]` is the
    index in `records` of row `i`, and `records` also holds those that did not decode;
    they stand in `invalid` with their errors. `next_offset` is the offset after the
    last record. For topics other than events, `events` is None.

    A list of records does too where one is made: it becomes `Records`.
    """

    topic: Topic
    partition: int
    records: Records
    events: pa.RecordBatch | None
    rows: Sequence[int]
    invalid: list[InvalidRecord] = field(default_factory=list)
    replayed: bool = False
    size: int = field(init=False)
    """Bytes of keys and values."""
    _positions: tuple[Longs, Longs] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Take a list of records too."""
        self.records = Records.of(self.records)
        # In the thread that has just read them: in another one it costs 1 us each.
        self.size = self.records.size

    @property
    def next_offset(self) -> int:
        """The offset after the last record."""
        return self.records.offsets[-1] + 1

    def positions(self) -> tuple[Longs, Longs]:
        """Return the offset and `timestamp_ms` of each row of `events`."""
        if self._positions is None:
            import numpy as np

            offsets = self.records.offsets
            # They grow: where none is left out there is no need to look at each.
            offset = (
                np.arange(offsets[0], offsets[-1] + 1, dtype=np.int64)
                if offsets and offsets[-1] - offsets[0] == len(offsets) - 1
                else np.asarray(offsets, np.int64)
            )
            stamp = np.asarray(self.records.timestamps_ms, np.int64)
            if len(self.rows) < len(offset):
                rows = np.asarray(self.rows, np.int64)
                offset, stamp = offset[rows], stamp[rows]
            self._positions = offset, stamp
        return self._positions


class Publisher(Protocol):
    """Publishes to Kafka and waits."""

    async def publish(self, records: Sequence[OutRecord], /) -> None:
        """
        Return when the brokers have acknowledged all of `records`, in order per key.

        Raises:
            RetriableError: not all were acknowledged; publish the same again.
        """
        ...


class TopicReader(Protocol):
    """Reads a partition of a topic to its present end."""

    def read(
        self,
        topic: Topic,
        partition: int,
        /,
        *,
        offset: int = 0,
        since_ms: int | None = None,
    ) -> AsyncIterator[Record]:
        """
        The records that are there now; ends when it has caught up.

        From its start, or from `offset`, or from the first that the broker appended at
        `since_ms` or later.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionStart:
    """
    What a processor may know when it is made.

    `log_start` and `log_end` are the offsets of the first record of the service's
    first topic and of the next to come; `committed` the group's offset, None where
    there is none.
    """

    topic: Topic
    topic_name: str
    partition: int
    log_start: int
    log_end: int
    committed: int | None
    publisher: Publisher
    reader: TopicReader


class Processor(Protocol):
    """The state of one partition number. See the module's docstring for its life."""

    @property
    def resume_from(self) -> int | None:
        """Read from this offset. None: from what the group committed."""
        ...

    def process(self, batch: EventBatch, /) -> None:
        """
        Take a batch into state. Does no I/O and must not block.

        A processor that restores itself by another way than the committed offset
        skips what it already holds.
        """
        ...

    async def flush(self) -> Needed:
        """
        Make durable all that was processed, the only place for I/O.

        Returns what is needed to build the present state again.

        Raises:
            RetriableError: the partition is paused and `flush` called again.
            PartitionFencedError: the partition is dropped and opened anew.
        """
        ...


@runtime_checkable
class Ticking(Protocol):
    """A processor that acts on silence as well."""

    def tick(self, now_ms: int, /) -> bool:
        """
        Learn that nothing more was appended before `now_ms`, the wall clock's time.

        Called in a worker thread, never beside `process`, about once a second, when
        all that the brokers named after `now_ms` was read has been processed, for all
        topics; so not while a broker is away or the lane is behind. Returns whether
        there is something to flush.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushPolicy:
    """A partition is flushed when one of these is reached."""

    max_records: int = 50_000
    max_bytes: int = 64 * 1024 * 1024
    max_age_s: float = 1.0


class Service(Protocol):
    """A consumer group with a name. One folder, one entry point."""

    @property
    def name(self) -> str:
        """The folder, CLI verb, group suffix, metric label and extra."""
        ...

    @property
    def topics(self) -> tuple[Topic, ...]:
        """What it reads; the first is the one that its offsets speak of."""
        ...

    @property
    def flush_policy(self) -> FlushPolicy:
        """When to flush."""
        ...

    @property
    def owns_dead_letters(self) -> bool:
        """True for the one service that publishes the records it could not read."""
        ...

    async def open(self, start: PartitionStart, /) -> Processor:
        """
        Make the processor of one partition number.

        Raises:
            RetriableError: tried again later.
        """
        ...


@runtime_checkable
class Closing(Protocol):
    """A service that has something under way beside its processors."""

    async def close(self) -> None:
        """
        Bring it to its end, after the last flush and while Kafka can be reached.

        Only when the service is stopped in order. Cancelled when `stop_deadline_s` is
        over.
        """
        ...


@runtime_checkable
class Replica(Protocol):
    """
    A service of which every process reads all partitions, in no group.

    Its processors keep nothing but memory: any number of processes show the same.
    """

    def beside(self, publisher: Publisher, /) -> AbstractAsyncContextManager[None]:
        """What runs on the event loop as long as the service does."""
        ...
