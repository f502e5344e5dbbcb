"""A log in memory: the same contract as Kafka, for tests of services without one."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleetwake.consumers.runtime.service import Record, Records
from fleetwake.consumers.runtime.source import Committed, Polled, TopicPartition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from fleetwake.consumers.runtime.service import OutRecord
    from fleetwake.schemas.topics import Topic

__all__ = ["MemoryLog", "MemorySource"]


@dataclass
class _Partition:
    records: list[Record] = field(default_factory=list)
    log_start: int = 0


class MemoryLog:
    """
    Topics, partitions and consumer groups of one process. For one event loop.

    A topic's full name is its name, without a prefix. Keys are not hashed: a record
    without a partition goes to partition 0.
    """

    def __init__(self, partitions: int = 4) -> None:
        self.partitions = partitions
        self.logs: dict[TopicPartition, _Partition] = defaultdict(_Partition)
        self.offsets: dict[tuple[str, TopicPartition], Committed] = {}
        self.members: dict[str, list[MemorySource]] = defaultdict(list)

    def append(
        self,
        topic: Topic,
        partition: int,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: tuple[tuple[str, bytes], ...] = (),
    ) -> int:
        """Append a record and return its offset."""
        at = self.logs[TopicPartition(topic.name, partition)]
        offset = at.log_start + len(at.records)
        now = time.time_ns() // 1_000_000
        at.records.append(Record(offset, now, key, value, headers))
        return offset

    def delete_before(self, topic: Topic, partition: int, offset: int) -> None:
        """Remove records below an offset, as retention does."""
        at = self.logs[TopicPartition(topic.name, partition)]
        at.records = [one for one in at.records if one.offset >= offset]
        at.log_start = offset

    def records(self, topic: Topic, partition: int) -> Sequence[Record]:
        """All retained records of a partition."""
        return tuple(self.logs[TopicPartition(topic.name, partition)].records)

    def committed(self, group: str, topic: Topic, partition: int) -> Committed | None:
        """What a group has committed."""
        at = TopicPartition(topic.name, partition)
        return self.offsets.get((group, at))

    def source(self, group: str, *topics: Topic) -> MemorySource:
        """Make a member of a group; it joins when it starts."""
        return MemorySource(self, group, topics)

    async def publish(self, records: Sequence[OutRecord], /) -> None:
        """Append at once; see `Publisher`."""
        for one in records:
            self.append(
                one.topic,
                one.partition or 0,
                one.value,
                key=one.key,
                headers=one.headers,
            )

    async def read(
        self,
        topic: Topic,
        partition: int,
        /,
        *,
        offset: int = 0,
        since_ms: int | None = None,
    ) -> AsyncIterator[Record]:
        """All retained records; see `TopicReader`."""
        for one in self.records(topic, partition):
            if one.offset >= offset and one.timestamp_ms >= (since_ms or 0):
                yield one

    def rebalance(self, group: str) -> None:
        """Take all partitions back and give them out anew, by range."""
        members = self.members[group]
        for nth, member in enumerate(members):
            share = [p for p in range(self.partitions) if p % len(members) == nth]
            member.give(
                {TopicPartition(topic, p) for p in share for topic in member.topics}
            )


class MemorySource:
    """A member of a group of a `MemoryLog`; see `Source`."""

    def __init__(self, log: MemoryLog, group: str, topics: Sequence[Topic]) -> None:
        self.topics = [topic.name for topic in topics]
        self.publisher = log
        self.reader = log
        self.fail: Callable[[str], None] = lambda _: None
        """Called with the name of each request: raise in it to make the log fail."""
        self._log = log
        self._group = group
        self._owned: set[TopicPartition] = set()
        self._revoked: set[TopicPartition] = set()
        self._assigned: set[TopicPartition] = set()
        self._positions: dict[TopicPartition, int] = {}

    def give(self, partitions: set[TopicPartition]) -> None:
        """Called by the log: this member's share from now on."""
        self._revoked |= self._owned
        self._assigned = set(partitions)
        self._owned = set(partitions)
        self._positions.clear()

    async def start(self) -> None:
        self.fail("start")
        self._log.members[self._group].append(self)
        self._log.rebalance(self._group)

    async def stop(self) -> None:
        members = self._log.members[self._group]
        if self in members:
            members.remove(self)
            self._log.rebalance(self._group)
        self._owned.clear()

    async def poll(self, *, timeout_s: float, max_records: int) -> Polled:
        self.fail("poll")
        records: dict[TopicPartition, Records] = {}
        left = max_records
        for at, position in self._positions.items():
            there = self._log.logs[at]
            found = there.records[max(0, position - there.log_start) :][:left]
            if found:
                records[at] = Records.of(found)
                left -= len(found)
                self._positions[at] = found[-1].offset + 1
        revoked, self._revoked = frozenset(self._revoked), set()
        assigned, self._assigned = frozenset(self._assigned), set()
        # A poll that finds nothing waits, so that others get their turn.
        await asyncio.sleep(0 if records or assigned else min(timeout_s, 0.001))
        return Polled(revoked, assigned, records)

    def start_from(self, partition: TopicPartition, offset: int) -> None:
        if partition in self._owned:
            self._positions[partition] = offset

    def pause(self, partition: TopicPartition) -> None:
        self._positions.pop(partition, None)

    def high_water_mark(self, partition: TopicPartition) -> int | None:
        there = self._log.logs[partition]
        return there.log_start + len(there.records)

    async def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        self.fail("bounds")
        there = self._log.logs[partition]
        return there.log_start, there.log_start + len(there.records)

    async def ends(
        self, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        self.fail("ends")
        return {one: (await self.bounds(one))[1] for one in partitions}

    async def committed(self, partition: TopicPartition) -> Committed | None:
        self.fail("committed")
        return self._log.offsets.get((self._group, partition))

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> bool:
        self.fail("commit")
        for at, committed in offsets.items():
            if at in self._owned:
                self._log.offsets[self._group, at] = committed
        return offsets.keys() <= self._owned

    async def flushing(self, *, active: bool) -> None:
        """Nothing to hold: rebalances happen between polls."""
