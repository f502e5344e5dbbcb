"""Publishes the fleet as an agent would, and says how far it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from fleetwake.producer import AsyncAuditProducer
from fleetwake.producer.settings import ProducerSettings, RegistrySettings
from fleetwake.schemas.errors import FleetwakeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.producer.settings import KafkaSettings
    from fleetwake.schemas.event import AuditEvent

__all__ = ["Publisher"]

_CHUNK: Final = 200
_QUEUED: Final = 4_000
"""Far below what the queue holds: nothing of a demonstration may be dropped."""
_CLOSE_DEADLINE_S: Final = 30.0
_ABANDON_DEADLINE_S: Final = 2.0


class Publisher:
    """
    One producer for the whole fleet. Belongs to the running event loop.

    `total` is the number of records that there will be: the events, and when all of
    them are accepted, also the mark that ends each session's run.
    """

    def __init__(self, events: Sequence[AuditEvent], kafka: KafkaSettings) -> None:
        self._events = events
        self._producer = AsyncAuditProducer(
            # What is not delivered is of no use to the next demonstration.
            ProducerSettings(durability="memory"),
            kafka=kafka,
            registry=RegistrySettings(url=None),
        )
        self.total = len(events)

    @property
    def published(self) -> int:
        """How many records the broker has acknowledged."""
        return self._producer.statistics().acknowledged

    async def run(self) -> None:
        """
        Publish everything and wait until it is acknowledged.

        Raises:
            FleetwakeError: not everything was.
        """
        producer, deadline_s = self._producer, _ABANDON_DEADLINE_S
        try:
            for start in range(0, len(self._events), _CHUNK):
                for event in self._events[start : start + _CHUNK]:
                    producer.emit(event)
                while producer.statistics().queued > _QUEUED:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0)
            deadline_s = _CLOSE_DEADLINE_S
        finally:
            await producer.close(deadline_s)
        done = producer.statistics()
        self.total = done.accepted
        if done.invalid or done.acknowledged < done.accepted:
            raise FleetwakeError(
                f"of {len(self._events):,} events {done.invalid:,} are invalid and "
                f"{sum(done.dropped.values()):,} were dropped: {done.last_error}"
            )
