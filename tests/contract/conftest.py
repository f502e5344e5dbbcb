"""One log, two ways: in memory and the real Kafka. Every test here runs on both."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka import TopicPartition as KafkaTopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from fleetwake.consumers.runtime.kafka import KafkaSource, KafkaTopicReader
from fleetwake.consumers.testing import MemoryLog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleetwake.consumers.runtime.service import Record
    from fleetwake.consumers.runtime.source import Source
    from fleetwake.producer.settings import KafkaSettings
    from fleetwake.schemas.topics import Topic


@dataclass
class MemoryHarness:
    """The log in memory."""

    log: MemoryLog = field(default_factory=lambda: MemoryLog(partitions=4))

    def name(self, topic: Topic) -> str:
        return topic.name

    async def append(
        self, topic: Topic, partition: int, value: bytes | None, **kw: Any
    ) -> int:
        return self.log.append(topic, partition, value, **kw)

    async def delete_before(self, topic: Topic, partition: int, offset: int) -> None:
        self.log.delete_before(topic, partition, offset)

    def source(self, group: str, *topics: Topic) -> Source:
        return self.log.source(group, *topics)

    async def records(self, topic: Topic, partition: int) -> list[Record]:
        return list(self.log.records(topic, partition))


@dataclass
class KafkaHarness:
    """The real Kafka, with topics of this test's own."""

    settings: KafkaSettings
    producer: AIOKafkaProducer
    admin: AIOKafkaAdminClient

    def name(self, topic: Topic) -> str:
        return self.settings.topic(topic)

    async def append(
        self,
        topic: Topic,
        partition: int,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: tuple[tuple[str, bytes], ...] = (),
    ) -> int:
        name = self.settings.topic(topic)
        sent = await self.producer.send_and_wait(
            name, value, key=key, partition=partition, headers=list(headers)
        )
        return sent.offset

    async def delete_before(self, topic: Topic, partition: int, offset: int) -> None:
        at = KafkaTopicPartition(self.settings.topic(topic), partition)
        await self.admin.delete_records({at: RecordsToDelete(before_offset=offset)})

    def source(self, group: str, *topics: Topic) -> Source:
        return KafkaSource(
            self.settings,
            topics,
            self.settings.topic_prefix + group,
            instance_id=None,
            session_timeout_ms=6_000,
        )

    async def records(self, topic: Topic, partition: int) -> list[Record]:
        reader = KafkaTopicReader(self.settings)
        return [one async for one in reader.read(topic, partition)]


@pytest.fixture(params=["memory", "kafka"])
def cluster(request: pytest.FixtureRequest) -> Any:
    """None for memory. Not async, so that the broker starts outside of a loop."""
    return request.getfixturevalue("kafka") if request.param == "kafka" else None


@pytest.fixture
async def log(cluster: Any) -> AsyncIterator[Any]:
    """A log with topics of its own."""
    if cluster is None:
        yield MemoryHarness()
        return
    settings = cluster.settings(partitions=4)
    await cluster.create_topics(settings)
    producer = AIOKafkaProducer(**settings.client_options(), acks="all")
    admin = AIOKafkaAdminClient(**settings.client_options())
    await producer.start()
    await admin.start()
    yield KafkaHarness(settings, producer, admin)
    await producer.stop()
    await admin.close()


@pytest.fixture
def group() -> str:
    """A consumer group of this test's own."""
    return f"g-{uuid.uuid4().hex[:8]}"
