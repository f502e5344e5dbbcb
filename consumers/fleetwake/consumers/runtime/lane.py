"""One partition number of a service: its processor and what is not yet flushed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleetwake.consumers.runtime.replays import Admission, is_replay
from fleetwake.consumers.runtime.source import Committed, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetwake.consumers.runtime.dead_letters import DeadLetterLimit
    from fleetwake.consumers.runtime.service import (
        EventBatch,
        FlushPolicy,
        InvalidRecord,
        Processor,
        Records,
    )

__all__ = ["Lane"]

_LONGEST_RETRY_S = 30.0


@dataclass(slots=True, kw_only=True)
class Lane:
    """
    The state that belongs to a partition number, of all topics of a service.

    `topics` are full names. `positions` are the next offsets to process; below
    `live_from` records are replayed. `ticked`: there is something to flush without a
    record. Times are monotonic seconds.
    """

    partition: int
    topics: tuple[str, ...]
    limit: DeadLetterLimit
    admission: Admission = field(default_factory=lambda: Admission("skip"))
    processor: Processor | None = None
    positions: dict[str, int] = field(default_factory=dict)
    live_from: dict[str, int] = field(default_factory=dict)
    invalid: list[tuple[TopicPartition, InvalidRecord]] = field(default_factory=list)
    pending_records: int = 0
    pending_bytes: int = 0
    pending_since: float = 0.0
    oldest_timestamp_ms: int = 0
    ticked: bool = False
    retry_at: float | None = None
    retries: int = 0

    def at(self, topic: str) -> TopicPartition:
        """This lane's partition of a topic."""
        return TopicPartition(topic, self.partition)

    @property
    def partitions(self) -> list[TopicPartition]:
        """This lane's partition of every topic."""
        return [self.at(topic) for topic in self.topics]

    def took(self, topic: str, batch: EventBatch, now: float) -> None:
        """Note that the processor has taken a batch."""
        self.retries = 0
        self.positions[topic] = batch.next_offset
        if not batch.replayed:
            at = self.at(topic)
            self.invalid.extend(
                # It became a dead letter when it was first read.
                (at, one)
                for one in batch.invalid
                if not is_replay(one.record)
            )
        if not self.pending_records:
            self.pending_since = now
            self.oldest_timestamp_ms = batch.records.timestamps_ms[0]
        self.pending_records += len(batch.records)
        self.pending_bytes += batch.size

    def passed(self, topic: str, records: Records, now: float) -> None:
        """Note records of which the processor saw none, or not the last."""
        self.retries = 0
        self.positions[topic] = records.offsets[-1] + 1
        if not self.pending_records:
            self.pending_since = now
            self.oldest_timestamp_ms = records.timestamps_ms[-1]
            self.pending_records = 1

    def is_due(self, policy: FlushPolicy, now: float) -> bool:
        """Whether to flush now."""
        return self.ticked or (
            bool(self.pending_records)
            and (
                self.pending_records >= policy.max_records
                or self.pending_bytes >= policy.max_bytes
                or now - self.pending_since >= policy.max_age_s
            )
        )

    def flushed(self) -> None:
        """Note that all that was processed is durable."""
        self.invalid.clear()
        self.pending_records = self.pending_bytes = 0
        self.ticked = False
        self.retry_at, self.retries = None, 0

    def retry_after(self, after_s: float, now: float) -> float:
        """Set the time of the next try, later each time; return the wait."""
        wait = min(after_s * 2.0 ** min(self.retries, 10), _LONGEST_RETRY_S)
        self.retries += 1
        self.retry_at = now + wait
        return wait

    def to_commit(
        self, held: Mapping[str, int], max_replay: int
    ) -> dict[TopicPartition, Committed]:
        """
        What to commit after a flush that needs what is `held`, by topic.

        In the middle of a replay the position lies below what was committed: the
        offset stays, so that no live record is muted later, and the rest of the
        replay is kept as needed.
        """
        commits: dict[TopicPartition, Committed] = {}
        for topic, position in self.positions.items():
            offset = max(position, self.live_from[topic])
            needed = min(held.get(topic, position), position)
            commits[self.at(topic)] = Committed(
                offset, max(needed, offset - max_replay)
            )
        return commits
