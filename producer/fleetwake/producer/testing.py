"""
A log in memory, for tests of code that emits events.

    producer, log = memory_producer()
    agent.run(producer)
    producer.flush()
    assert [event.event_type for event in log.events()] == ["turn.start", ...]
"""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections import defaultdict
from typing import TYPE_CHECKING

from fleetwake.producer.client import AuditProducer
from fleetwake.producer.settings import KafkaSettings, RegistrySettings
from fleetwake.producer.transport import (
    RecordsRefusedError,
    TopicMissingError,
    TransportError,
)
from fleetwake.schemas.codec import SHA256_HEADER, PackagedSchemas, decode
from fleetwake.schemas.topics import EVENTS, SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetwake.producer.settings import ProducerSettings
    from fleetwake.producer.transport import OutgoingRecord
    from fleetwake.schemas.event import AuditEvent

__all__ = ["MemoryLog", "MemoryTransport", "memory_producer"]

_BREATH_S = 0.001


class MemoryLog:
    """
    What was published, and a broker's faults on demand. Thread-safe.

    - `is_away`: nobody answers; sends under way hang, as Kafka's do.
    - `refuses`: says of which record that the broker does not take it.
    - `loses_answers`: how many of the next sends are written but not acknowledged.
    - `partitions`: of each topic; 0 makes the topic missing.
    """

    def __init__(self, partitions: int = 4) -> None:
        kafka = KafkaSettings()
        self.topic = kafka.topic(EVENTS)
        self.partitions = {self.topic: partitions, kafka.topic(SCHEMAS): 1}
        self.is_away = False
        self.refuses: Callable[[OutgoingRecord], bool] = lambda _: False
        self.loses_answers = 0
        self.connections = 0
        self._records: defaultdict[tuple[str, int], list[OutgoingRecord]] = defaultdict(
            list
        )
        self._lock = threading.Lock()

    async def is_back(self) -> None:
        """Wait while the log is away."""
        while self.is_away:  # noqa: ASYNC110  # set by other threads
            await asyncio.sleep(_BREATH_S)

    def append(
        self, topic: str, partition: int, records: Sequence[OutgoingRecord]
    ) -> None:
        """Append records, in order."""
        with self._lock:
            self._records[topic, partition] += records

    def records(self, topic: str | None = None) -> list[OutgoingRecord]:
        """Return the records of a topic (default: events), partition by partition."""
        name = topic or self.topic
        with self._lock:
            numbers = sorted(number for of, number in self._records if of == name)
            return [one for number in numbers for one in self._records[name, number]]

    def events(self, session_id: str | None = None) -> list[AuditEvent]:
        """Return the decoded events, of one session if you name it, in its order."""
        schemas = PackagedSchemas()
        events = [
            decode(record.value, schemas, sha256=dict(record.headers)[SHA256_HEADER])
            for record in self.records()
        ]
        return [one for one in events if session_id in (None, one.session_id)]


class MemoryTransport:
    """A `Transport` to a `MemoryLog`. The partition is not Kafka's."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._wedged: set[tuple[str, int]] = set()

    async def start(self) -> None:
        """Connect, unless the log is away."""
        if self._log.is_away:
            raise TransportError("the log is away")
        self._log.connections += 1

    async def partitions(self, topic: str) -> int:
        """Return what the log has."""
        if not (count := self._log.partitions.get(topic, 0)):
            raise TopicMissingError(topic)
        return count

    def partition(self, key: bytes, partitions: int) -> int:
        """Return any partition that is always the same for a key."""
        return zlib.crc32(key) % partitions

    async def send(
        self, topic: str, partition: int, records: Sequence[OutgoingRecord]
    ) -> None:
        """Append, as the log's faults allow. Wedged after a refusal, as aiokafka is."""
        await self._log.is_back()
        if (topic, partition) in self._wedged:
            raise TransportError("out of order sequence number")
        if any(map(self._log.refuses, records)):
            self._wedged.add((topic, partition))
            raise RecordsRefusedError("one of the records is refused")
        self._log.append(topic, partition, records)
        if self._log.loses_answers:
            self._log.loses_answers -= 1
            raise TransportError("no answer")

    async def stop(self) -> None:
        """Disconnect; hangs while the log is away."""
        await self._log.is_back()


def memory_producer(
    settings: ProducerSettings | None = None,
    *,
    log: MemoryLog | None = None,
    source: str = "native",
    strict: bool = True,
) -> tuple[AuditProducer, MemoryLog]:
    """Return a producer, strict unless you say otherwise, and the log it writes to."""
    into = log or MemoryLog()
    producer = AuditProducer(
        settings,
        kafka=KafkaSettings(),
        registry=RegistrySettings(url=None),
        source=source,
        strict=strict,
        open_transport=lambda: MemoryTransport(into),
    )
    return producer, into
