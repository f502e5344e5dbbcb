"""Where records come from: the port between the consume loop and a log."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetwake.consumers.runtime.service import Publisher, Records, TopicReader

__all__ = ["Committed", "Polled", "Source", "TopicPartition"]


class TopicPartition(NamedTuple):
    """A partition of a topic, by the topic's full name."""

    topic: str
    partition: int


class Committed(NamedTuple):
    """
    What a group has committed for a partition.

    `offset` is that of the next record to process; `replay_from`, where it is lower,
    the oldest one that is needed to build the state again.
    """

    offset: int
    replay_from: int


class Polled(NamedTuple):
    """
    What happened since the last poll, in this order: revoked, assigned, records.

    A partition that is both revoked and assigned has been away: its state is void.
    Assigned partitions deliver nothing before `Source.start_from`.
    """

    revoked: frozenset[TopicPartition]
    assigned: frozenset[TopicPartition]
    records: Mapping[TopicPartition, Records]


class Source(Protocol):
    """
    A member of a consumer group.

    Rebalances reach the caller as part of a poll, never as a callback. Not safe for
    use by two tasks.
    """

    @property
    def publisher(self) -> Publisher:
        """Publishes to the same cluster."""
        ...

    @property
    def reader(self) -> TopicReader:
        """Reads from the same cluster."""
        ...

    async def start(self) -> None:
        """Join the group. Raises RetriableError when no broker answers."""
        ...

    async def stop(self) -> None:
        """Leave the group. Never takes more than a few seconds."""
        ...

    async def poll(self, *, timeout_s: float, max_records: int) -> Polled:
        """
        Wait for records or a rebalance, at most `timeout_s`.

        Raises:
            FleetwakeError: this member cannot go on (fenced, not authorised).
        """
        ...

    def start_from(self, partition: TopicPartition, offset: int) -> None:
        """Deliver the records of an assigned partition from `offset` on."""
        ...

    def pause(self, partition: TopicPartition) -> None:
        """Deliver no records until `start_from`."""
        ...

    def high_water_mark(self, partition: TopicPartition) -> int | None:
        """The offset of the next record to come, as last heard; None: not heard."""
        ...

    async def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        """The first retained offset and that of the next record to come."""
        ...

    async def ends(
        self, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        """
        The offsets of the next records to come, in one request.

        Raises:
            RetriableError: no answer.
        """
        ...

    async def committed(self, partition: TopicPartition) -> Committed | None:
        """What the group has committed."""
        ...

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> bool:
        """
        Commit; False when it was refused or not answered.

        That is no error: whoever reads on from the older offset redoes work that is
        safe to redo.
        """
        ...

    async def flushing(self, *, active: bool) -> None:
        """While active, a revocation waits (for a few seconds) for the flush."""
        ...
