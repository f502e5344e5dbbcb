"""The deliveries topic: what was tried, and what need not be tried again."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Final

import structlog

from fleetwake.consumers.runtime.service import OutRecord
from fleetwake.schemas.codec import encode_record
from fleetwake.schemas.errors import RetriableError
from fleetwake.schemas.topics import DELIVERIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetwake.consumers.runtime.service import Publisher
    from fleetwake.schemas.records import Delivery

__all__ = ["DeliveryLog"]

_MOST: Final = 1_000
_MANY: Final = 10_000
_LONGEST_WAIT_S: Final = 10.0

_log = structlog.get_logger("fleetwake.notify")


class DeliveryLog:
    """
    Publishes deliveries from a queue, so that no sink depends on Kafka.

    A record goes to the partition that has the number of its alert's: whoever has the
    alerts of a partition finds what became of them in one place. Belongs to one event
    loop.
    """

    def __init__(self) -> None:
        self._queue: deque[tuple[OutRecord, Callable[[], None] | None]] = deque()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    def note(
        self,
        delivery: Delivery,
        partition: int,
        acknowledged: Callable[[], None] | None = None,
    ) -> None:
        """Publish it soon; `acknowledged` is called when the brokers have it."""
        if acknowledged is None and len(self._queue) >= _MANY:
            # No broker answers for long: failed attempts are counted, not told.
            return
        key, value = delivery.alert_id.encode(), encode_record(delivery)
        record = OutRecord(DELIVERIES, key, value, partition)
        self._queue.append((record, acknowledged))
        self._emptied.clear()
        self._filled.set()

    async def settle(self, patience_s: float) -> None:
        """Return when the brokers have all of it, or after `patience_s`."""
        # Not wait_for: on Python 3.11 it may swallow the end of the task.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._emptied.wait()

    async def run(self, publisher: Publisher) -> None:
        """Publish for ever, in order."""
        failures = 0
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._queue:
                batch = [self._queue[at] for at in range(min(_MOST, len(self._queue)))]
                try:
                    await publisher.publish([record for record, _ in batch])
                except RetriableError as error:
                    failures += 1
                    _log.warning("deliveries.retried", why=str(error))
                    await asyncio.sleep(min(failures * error.after_s, _LONGEST_WAIT_S))
                    continue
                failures = 0
                for _, acknowledged in batch:
                    self._queue.popleft()
                    if acknowledged is not None:
                        acknowledged()
            self._emptied.set()
