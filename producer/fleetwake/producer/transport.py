"""The port between a producer and a log: Kafka's side is kafka.py, memory's testing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from fleetwake.schemas.errors import FleetwakeError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "OutgoingRecord",
    "RecordsRefusedError",
    "TopicMissingError",
    "Transport",
    "TransportError",
]


class OutgoingRecord(NamedTuple):
    """One record as it goes to the log."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class TransportError(FleetwakeError):
    """
    Raised when records were not acknowledged; whether they were written is unknown.

    The transport is of no use after it: stop it, and send the same by a new one.
    """


class RecordsRefusedError(TransportError):
    """Raised when one of the records sent will never be taken. None was written."""


class TopicMissingError(TransportError):
    """Raised when a topic does not exist."""

    def __init__(self, topic: str) -> None:
        super().__init__(
            f"topic {topic!r} does not exist: `fleetwake topics` creates it"
        )


class Transport(Protocol):
    """
    A connection to a log, from its start to its first failure. For one event loop.

    Delivery guarantees: when `send` returns, all in-sync replicas have the records, in
    their order. A caller that sends to a partition only after the last `send` to it
    has returned gets the order of its calls, and duplicates only of what it sends
    again after a `TransportError`.
    """

    async def start(self) -> None:
        """
        Connect.

        Raises:
            TransportError: nobody answers, or not to us.
        """
        ...

    async def partitions(self, topic: str, /) -> int:
        """
        Return the number of partitions, from memory once it is known.

        Raises:
            TopicMissingError: there is no such topic.
            TransportError: nobody answers.
        """
        ...

    def partition(self, key: bytes, partitions: int, /) -> int:
        """Return the partition of a key: the log's own rule, the same for everybody."""
        ...

    async def send(
        self, topic: str, partition: int, records: Sequence[OutgoingRecord], /
    ) -> None:
        """
        Return when the records are acknowledged.

        Raises:
            RecordsRefusedError: at least one of them cannot be taken.
            TransportError: all else.
        """
        ...

    async def stop(self) -> None:
        """Disconnect. May hang while the log is away: give it a deadline."""
        ...
