"""
The traps of aiokafka that the producer is built around, on the real Kafka.

Each test shows the trap in the client, where that is what our design rests on, and
that a producer does not fall into it. When the first half of one fails after an
upgrade, the client has become better and our side can become simpler. The numbers are
those of docs/decisions/0007.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import (
    KafkaConnectionError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
)
from tests.producing import event, first_sequences, published, until_async

from fleetwake.producer import AsyncAuditProducer
from fleetwake.producer.kafka import KafkaTransport
from fleetwake.producer.settings import KafkaSettings, ProducerSettings
from fleetwake.producer.transport import (
    OutgoingRecord,
    RecordsRefusedError,
    TopicMissingError,
    TransportError,
)
from fleetwake.schemas.topics import EVENTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from tests.conftest import Kafka, OwnKafka


@asynccontextmanager
async def plain_client(settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    """Aiokafka's idempotent producer as the manual has it, ended by force."""
    client = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap_servers, enable_idempotence=True
    )
    await client.start()
    try:
        yield client
    finally:
        with suppress(TimeoutError):
            await asyncio.wait_for(client.stop(), 2)
        with suppress(TimeoutError):
            await asyncio.wait_for(client.client.close(), 0.1)
        await cancel_others()


async def cancel_others() -> None:
    """End what a client left running, as the end of its event loop would."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@asynccontextmanager
async def transport(settings: KafkaSettings) -> AsyncIterator[KafkaTransport]:
    opened = KafkaTransport(settings)
    await opened.start()
    try:
        yield opened
    finally:
        with suppress(TimeoutError):
            await asyncio.wait_for(opened.stop(), 2)


async def create_topic(settings: KafkaSettings, **config: str) -> str:
    name = settings.topic(EVENTS)
    client = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await client.start()
    configs = {key.replace("_", "."): value for key, value in config.items()}
    await client.create_topics([NewTopic(name, 1, 1, topic_configs=configs)])
    await client.close()
    return name


def record(value: bytes) -> OutgoingRecord:
    return OutgoingRecord(b"key", value, [])


class TestWedge:
    """An idempotent client never recovers from a refused batch (#1017)."""

    async def test_the_client_is_wedged(self, kafka: Kafka) -> None:
        """After one refused record every send to its partition fails, for ever."""
        settings = kafka.settings()
        topic = await create_topic(settings, max_message_bytes="10000")
        async with plain_client(settings) as client:
            await client.send_and_wait(topic, b"first", partition=0)
            with pytest.raises(MessageSizeTooLargeError):
                await client.send_and_wait(topic, b"x" * 50_000, partition=0)
            for _ in range(2):
                with pytest.raises(OutOfOrderSequenceNumber):
                    await client.send_and_wait(topic, b"small", partition=0)

    async def test_the_transport_says_which_failure_is_which(
        self, kafka: Kafka
    ) -> None:
        """A refusal is told apart from what a new client can send."""
        settings = kafka.settings()
        topic = await create_topic(settings, max_message_bytes="10000")
        async with transport(settings) as tested:
            await tested.send(topic, 0, [record(b"first")])
            with pytest.raises(RecordsRefusedError):
                await tested.send(topic, 0, [record(os.urandom(50_000))])
            with pytest.raises(TransportError, match="OutOfOrderSequence") as wedged:
                await tested.send(topic, 0, [record(b"small")])

            assert not isinstance(wedged.value, RecordsRefusedError)

    async def test_the_producer_goes_on(self, kafka: Kafka) -> None:
        """All but the refused record arrive, in order, once."""
        settings = kafka.settings()
        await create_topic(settings, max_message_bytes="10000")
        own = ProducerSettings(compression="none", batch_bytes=5_000)
        async with AsyncAuditProducer(own, kafka=settings) as producer:
            for number in range(60):
                producer.emit(event(payload="x" * (50_000 if number == 20 else 10)))
            assert await producer.flush(60)

        (events,) = (await published(settings)).values()
        assert [*range(1, 21), *range(22, 63)] == [one.sequence for one in events]


class TestSilence:
    """Sends of an idempotent client have no time limit, and its stop has none."""

    async def test_the_client_hangs(self, own_kafka: OwnKafka) -> None:
        """With the broker gone neither send nor stop returns, nor do they fail."""
        settings = own_kafka.settings()
        topic = await create_topic(settings)
        async with plain_client(settings) as client:
            await client.send_and_wait(topic, b"there", partition=0)
            own_kafka.kill()
            sending = asyncio.create_task(
                client.send_and_wait(topic, b"away", partition=0)
            )
            stopping = asyncio.create_task(client.stop())
            done, _ = await asyncio.wait([sending, stopping], timeout=3)

            assert set() == done
            await cancel_others()

    async def test_the_producer_begins_again_after_its_own_time_limit(
        self, own_kafka: OwnKafka
    ) -> None:
        """ack_timeout_s without an answer: a new client sends the same again."""
        settings = own_kafka.settings()
        await create_topic(settings)
        own = ProducerSettings(ack_timeout_s=1.0)
        async with AsyncAuditProducer(own, kafka=settings) as producer:
            producer.emit(event())
            assert await producer.flush(30)
            own_kafka.kill()
            for _ in range(10):
                producer.emit(event())
            await until_async(
                lambda: producer.statistics().errors.get("delivery", 0) >= 2
            )
            await own_kafka.start()
            assert await producer.flush(60)

        (events,) = (await published(settings)).values()
        assert {"s-1": list(range(1, 13))} == first_sequences(events)

    async def test_a_cut_off_client_writes_nothing_later(
        self, own_kafka: OwnKafka
    ) -> None:
        """
        What was cancelled is not withdrawn: the client still has it, and retries.

        Ours ends with its event loop, so what a closed producer counted as dropped
        does not turn up once the broker is back.
        """
        settings = own_kafka.settings()
        await create_topic(settings)
        own = ProducerSettings(durability="memory")
        producer = AsyncAuditProducer(own, kafka=settings)
        producer.emit(event())
        assert await producer.flush(30)
        own_kafka.kill()
        for _ in range(10):
            producer.emit(event())
        assert not await producer.close(1.0)
        await own_kafka.start()

        async with AsyncAuditProducer(kafka=settings) as later:
            later.emit(event("later"))
            assert await later.flush(60)

        (events,) = (await published(settings)).values()
        assert ["s-1", "later", "later"] == [one.session_id for one in events]


class TestStart:
    """start() does not wait for a broker."""

    async def test_the_client_fails_at_once(self, unused_tcp_port: int) -> None:
        """The client gives up before a second has passed."""
        client = AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{unused_tcp_port}")
        begin = time.monotonic()
        with pytest.raises(KafkaConnectionError):
            await client.start()
        await client.stop()

        assert time.monotonic() - begin < 5

    async def test_the_transport_says_so(self, unused_tcp_port: int) -> None:
        """No broker is a TransportError, and nothing is left open."""
        settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{unused_tcp_port}")
        tested = KafkaTransport(settings)
        with pytest.raises(TransportError, match="cannot connect"):
            await tested.start()
        await tested.stop()

    async def test_settings_that_no_client_takes_are_retried_too(
        self, unused_tcp_port: int, tmp_path: Path
    ) -> None:
        """Whatever start raises (here: no SASL password) emit and close do not care."""
        settings = KafkaSettings(
            bootstrap_servers=f"127.0.0.1:{unused_tcp_port}",
            security_protocol="SASL_PLAINTEXT",
            sasl_username="agent",
            sasl_password_file=tmp_path / "none",
        )
        producer = AsyncAuditProducer(kafka=settings)
        producer.emit(event())
        await until_async(lambda: producer.statistics().errors.get("delivery"))

        assert "SASL_PASSWORD_FILE" in (producer.statistics().last_error or "")
        assert not await producer.close(0.3)


class TestHerd:
    """Many sends at a time to one partition cost quadratic time, and reorder."""

    async def test_one_batch_at_a_time_per_partition(self, kafka: Kafka) -> None:
        """However much waits, a partition never has two batches under way."""
        settings = kafka.settings()
        await kafka.create_topics(settings)
        most: list[int] = []

        class Counting(KafkaTransport):
            under_way: dict[int, int]

            async def send(
                self, topic: str, partition: int, records: Sequence[OutgoingRecord]
            ) -> None:
                busy = self.__dict__.setdefault("busy", set[tuple[str, int]]())
                most.append(int((topic, partition) in busy))
                busy.add((topic, partition))
                await super().send(topic, partition, records)
                busy.remove((topic, partition))

        own = ProducerSettings(queue_max_events=50_000, batch_bytes=20_000)
        producer = AsyncAuditProducer(
            own, kafka=settings, open_transport=lambda: Counting(settings)
        )
        async with producer:
            for number in range(10_000):
                producer.emit(event(f"s-{number % 50}"))
            assert await producer.flush(60)

        assert len(most) > 10
        assert {0} == set(most)


class TestMetadata:
    """The client asserts that a partition exists, and waits long for a topic."""

    async def test_a_partition_that_is_not_there_is_a_transport_error(
        self, kafka: Kafka
    ) -> None:
        """A topic made anew with fewer partitions is met with a new client."""
        settings = kafka.settings()
        topic = await create_topic(settings)
        async with transport(settings) as tested:
            assert 1 == await tested.partitions(topic)
            with pytest.raises(TransportError):
                await tested.send(topic, 7, [record(b"x")])

    async def test_a_missing_topic_is_named_soon(self, kafka: Kafka) -> None:
        """Seconds, not the client's request timeout."""
        async with transport(kafka.settings()) as tested:
            begin = time.monotonic()
            with pytest.raises(TopicMissingError, match="fleetwake topics"):
                await tested.partitions("nowhere")

            assert time.monotonic() - begin < 10

    async def test_new_partitions_are_found(self, kafka: Kafka) -> None:
        """A topic that grows is used as it is from the next refresh on."""
        settings = kafka.settings()
        topic = await create_topic(settings)
        own = ProducerSettings()
        producer = AsyncAuditProducer(
            own,
            kafka=settings,
            open_transport=lambda: KafkaTransport(settings, metadata_max_age_s=0.2),
        )
        async with producer:
            producer.emit(event())
            assert await producer.flush(30)
            await grow(settings, topic, 3)
            clients = producer.statistics().errors.get("delivery", 0)
            for number in range(3_000):
                producer.emit(event(f"s-{number % 100}"))
                await asyncio.sleep(0.01)
                if producer.statistics().errors.get("delivery", 0) > clients:
                    break
            for number in range(100):
                producer.emit(event(f"s-{number}"))
            assert await producer.flush(30)
            statistics = producer.statistics()

        found = await published(settings)
        assert {} == statistics.dropped
        assert all(found[partition] for partition in range(3))


async def grow(settings: KafkaSettings, topic: str, partitions: int) -> None:
    client: Any = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await client.start()
    await client.create_partitions({topic: NewPartitions(partitions)})
    await client.close()
