"""The producer on a real Kafka."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from tests.producing import event, first_sequences, published, until_async

from fleetwake.producer import AsyncAuditProducer, AuditProducer
from fleetwake.producer.dead_letter import DeadLetter
from fleetwake.producer.kafka import KafkaTransport, read_topic
from fleetwake.producer.settings import ProducerSettings
from fleetwake.schemas.topics import DEAD_LETTERS, EVENTS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Kafka, OwnKafka

    from fleetwake.producer.settings import KafkaSettings
    from fleetwake.schemas.event import AuditEvent


async def all_events(settings: KafkaSettings) -> list[AuditEvent]:
    return list(chain.from_iterable((await published(settings)).values()))


def emit_all(producer: AuditProducer, sessions: int, each: int, **fields: Any) -> None:
    for _ in range(each):
        for session in range(sessions):
            producer.emit(event(f"s-{session}", **fields))


async def test_each_event_once_in_order_on_kafkas_own_partition(kafka: Kafka) -> None:
    """Four threads, forty sessions: exactly once, in order, where murmur2 says."""
    settings = kafka.settings()
    await kafka.create_topics(settings)
    producer = AuditProducer(kafka=settings)
    threads = [
        threading.Thread(target=emit_all, args=(producer, 40, 50)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert await asyncio.to_thread(producer.close, 60)

    found = await published(settings)
    events = list(chain.from_iterable(found.values()))
    assert 40 * 201 == len(events) == len({one.event_id for one in events})
    assert {f"s-{number}": list(range(1, 202)) for number in range(40)} == (
        first_sequences(events)
    )
    hashed = KafkaTransport(settings).partition
    for partition, there in found.items():
        keys = {one.session_id.encode() for one in there}
        assert {partition} == {hashed(key, settings.partitions) for key in keys}
    statistics = producer.statistics()
    assert (8040, 8040, {}, {}) == (
        statistics.sent,
        statistics.acknowledged,
        statistics.dropped,
        statistics.errors,
    )


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd", "gzip", "snappy"])
async def test_each_compression_can_be_read(kafka: Kafka, compression: Any) -> None:
    """What the settings allow, a plain consumer reads."""
    settings = kafka.settings(partitions=1)
    await kafka.create_topics(settings)
    own = ProducerSettings(compression=compression)
    async with AsyncAuditProducer(own, kafka=settings) as producer:
        for _ in range(50):
            producer.emit(event(payload="x" * 1000))

    assert 51 == len(await all_events(settings))


async def test_it_works_before_its_topics_exist(
    kafka: Kafka, caplog: pytest.LogCaptureFixture
) -> None:
    """A missing topic is said once, with the command that makes it; then all flows."""
    settings = kafka.settings()
    async with AsyncAuditProducer(kafka=settings) as producer:
        producer.emit(event())
        await until_async(lambda: producer.statistics().errors.get("delivery"))
        await kafka.create_topics(settings)
        assert await producer.flush(60)

    assert 2 == len(await all_events(settings))
    lines = [one.message for one in caplog.records if one.levelno >= logging.WARNING]
    (line,) = [line for line in lines if line.startswith("delivery")]
    assert "`fleetwake topics`" in line
    assert not [one for one in caplog.records if one.name.startswith("aiokafka")]


async def test_it_starts_before_the_broker_does(own_kafka: OwnKafka) -> None:
    """No broker at start: emit works, and all is delivered when it comes."""
    settings = own_kafka.settings()
    await own_kafka.create_topics(settings)
    await own_kafka.stop()
    producer = AuditProducer(kafka=settings)
    emit_all(producer, sessions=5, each=100)
    await until_async(lambda: producer.statistics().errors.get("delivery", 0) >= 2)
    assert 500 == producer.statistics().queued

    await own_kafka.start()
    assert await asyncio.to_thread(producer.close, 60)

    assert {f"s-{number}": list(range(1, 102)) for number in range(5)} == (
        first_sequences(await all_events(settings))
    )


async def test_a_broker_killed_under_load_loses_nothing(own_kafka: OwnKafka) -> None:
    """Three kill -9 under load: nothing lost, first occurrences in order."""
    settings = own_kafka.settings()
    await own_kafka.create_topics(settings)
    own = ProducerSettings(queue_max_events=10**6, queue_max_bytes=10**9)
    producer = AuditProducer(own, kafka=settings)
    stop = threading.Event()

    def emit() -> None:
        while not stop.is_set():
            emit_all(producer, sessions=20, each=5)
            time.sleep(0.01)  # the load: about 10,000 events a second

    agent = threading.Thread(target=emit)
    agent.start()
    for _ in range(3):
        before = producer.statistics().acknowledged
        await until_async(
            lambda before=before: producer.statistics().acknowledged > before + 2000
        )
        own_kafka.kill()
        await own_kafka.start()
    stop.set()
    await asyncio.to_thread(agent.join)
    assert await asyncio.to_thread(producer.close, 90)

    statistics, events = producer.statistics(), await all_events(settings)
    emitted = statistics.accepted - 20
    assert ({}, 0) == (statistics.dropped, statistics.queued)
    assert {f"s-{n}": list(range(1, emitted // 20 + 2)) for n in range(20)} == (
        first_sequences(events)
    )
    places = {(one.session_id, one.sequence, one.event_id) for one in events}
    assert emitted + 20 == len(places) == len({one.event_id for one in events})


async def test_a_refused_record_does_not_wedge_its_partition(kafka: Kafka) -> None:
    """A record that the broker refuses is dropped alone, told, and passed."""
    settings = kafka.settings(partitions=1)
    await create_topic(settings, {"max.message.bytes": "20000"})
    own = ProducerSettings(compression="none", batch_bytes=10_000)
    async with AsyncAuditProducer(own, kafka=settings) as producer:
        for number in range(200):
            large = number in {60, 61, 150}
            producer.emit(event(payload="x" * 50_000 if large else "small"))
        assert await producer.flush(60)
        statistics = producer.statistics()

    assert {"refused": 3} == statistics.dropped
    events = await all_events(settings)
    kept = [one.sequence for one in events if one.event_type == "tool.complete"]
    assert [n for n in range(1, 201) if n not in {61, 62, 151}] == kept
    told = [one.attributes for one in events if one.event_type == "gap"]
    assert 3 == sum(int(gap["dropped"]) for gap in told)
    assert {"refused"} == {gap["reason"] for gap in told}
    assert 1 == Counter(one.event_id for one in events).most_common(1)[0][1]


async def test_refused_clocks_are_waited_for_not_dropped(kafka: Kafka) -> None:
    """A topic that refuses timestamps of ours loses nothing once that is mended."""
    settings = kafka.settings(partitions=1)
    await create_topic(
        settings,
        {
            "message.timestamp.type": "CreateTime",
            "message.timestamp.before.max.ms": "0",
        },
    )
    async with AsyncAuditProducer(kafka=settings) as producer:
        for _ in range(20):
            producer.emit(event())
            await asyncio.sleep(0.002)  # so that the first are older than the broker
        await until_async(lambda: producer.statistics().errors.get("delivery"))
        await alter_topic(settings, {"message.timestamp.type": "LogAppendTime"})
        assert await producer.flush(60)
        assert {} == producer.statistics().dropped

    assert {"s-1": list(range(1, 22))} == first_sequences(await all_events(settings))


@pytest.mark.parametrize("durability", ["spool", "memory"])
@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "killed"])
async def test_close_keeps_its_deadline_without_a_broker(
    own_kafka: OwnKafka, durability: Any, *, frozen: bool
) -> None:
    """Close returns within its time, with sends under way and nobody there."""
    settings = own_kafka.settings()
    await own_kafka.create_topics(settings)
    own = ProducerSettings(durability=durability)
    producer = AuditProducer(own, kafka=settings)
    producer.emit(event())
    assert await asyncio.to_thread(producer.flush, 30)
    pid = own_kafka.broker.pid
    assert pid is not None
    if frozen:
        os.kill(pid, signal.SIGSTOP)
    else:
        own_kafka.kill()
    try:
        emit_all(producer, sessions=20, each=10)
        assert not await asyncio.to_thread(producer.flush, 0.5)
        begin = time.monotonic()
        assert not await asyncio.to_thread(producer.close, 1.0)
        took = time.monotonic() - begin
    finally:
        if frozen:
            os.kill(pid, signal.SIGCONT)

    assert took < 2
    statistics = producer.statistics()
    if durability == "spool":
        assert (220, 220, {}) == (
            statistics.queued,
            statistics.spooled,
            statistics.dropped,
        )
    else:
        assert ({"closed": 200}, 0) == (statistics.dropped, statistics.queued)
    await until_async(
        lambda: "fleetwake-producer" not in [one.name for one in threading.enumerate()]
    )


async def test_a_spool_drains_in_order_when_the_broker_is_back(
    own_kafka: OwnKafka, tmp_path: Path
) -> None:
    """Stopped under load, the agent killed, the broker started: all, in order."""
    settings = own_kafka.settings()
    await own_kafka.create_topics(settings)
    code = """
import os, signal, sys, time
from fleetwake.producer import AuditProducer
from fleetwake.schemas import AuditEvent
producer = AuditProducer()
number = 0
while not os.path.exists(sys.argv[1]):
    number += 1
    producer.emit(AuditEvent(event_type="mark", session_id=f"s-{number % 10}"))
    time.sleep(0.0002)
    if number == 500:
        assert producer.flush(60)
        open(sys.argv[2], "w").close()
accepted = producer.statistics().accepted
while (now := producer.statistics()).spooled + now.acknowledged < accepted:
    time.sleep(0.01)
assert not now.dropped
print(accepted, now.spooled, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    enough, flowing = tmp_path / "enough", tmp_path / "flowing"
    agent = subprocess.Popen(
        [sys.executable, "-c", code, str(enough), str(flowing)],
        env=os.environ
        | {
            "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "FLEETWAKE_KAFKA_TOPIC_PREFIX": settings.topic_prefix,
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    await until_async(flowing.exists, 60)
    await own_kafka.stop()
    await asyncio.sleep(2)  # the load while nobody answers
    enough.touch()
    told, _ = await asyncio.to_thread(agent.communicate, timeout=60)
    accepted, spooled = map(int, told.split())
    assert spooled > 500
    await own_kafka.start()

    async with AsyncAuditProducer(kafka=settings) as producer:
        producer.emit(event("next"))
        await until_async(lambda: producer.statistics().adopted >= spooled, 60)

    found = first_sequences(await all_events(settings))
    assert [1, 2] == found.pop("next")
    assert accepted == sum(map(len, found.values()))
    for sequences in found.values():
        assert list(range(1, len(sequences) + 1)) == sequences


async def test_a_killed_broker_and_a_small_memory_lose_nothing(
    own_kafka: OwnKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With little in memory, what the outage left is read from the spool."""
    monkeypatch.setattr("fleetwake.producer.outbox._WINDOW_BYTES", 50_000)
    settings = own_kafka.settings()
    await own_kafka.create_topics(settings)
    producer = AuditProducer(kafka=settings)
    emit_all(producer, sessions=10, each=20)
    assert await asyncio.to_thread(producer.flush, 60)
    own_kafka.kill()
    emit_all(producer, sessions=10, each=500)
    await until_async(lambda: producer.statistics().spooled == 5_000)
    await own_kafka.start()
    emit_all(producer, sessions=10, each=20)
    assert await asyncio.to_thread(producer.close, 90)

    events = await all_events(settings)
    assert {f"s-{n}": list(range(1, 542)) for n in range(10)} == first_sequences(events)
    assert {} == producer.statistics().dropped


async def test_dead_letters_are_published(kafka: Kafka) -> None:
    """To their topic, keyed, with their reason."""
    settings = kafka.settings()
    await kafka.create_topics(settings)
    async with AsyncAuditProducer(kafka=settings) as producer:
        for number in range(50):
            producer.reject(
                DeadLetter(
                    b"{", "not_json", "ends", {"line": str(number)}, f"s-{number}"
                )
            )
        assert await producer.flush(60)

    found = await read_topic(settings, settings.topic(DEAD_LETTERS))
    assert {(f"s-{n}".encode(), b"{") for n in range(50)} == set(found)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_short_script_delivers_at_its_end(kafka: Kafka, host: str) -> None:
    """Emit and exit: the connection is made while the interpreter ends."""
    settings = kafka.settings(partitions=1)
    await kafka.create_topics(settings)
    port = settings.bootstrap_servers.rpartition(":")[2]
    code = """
from fleetwake.producer import AuditProducer
from fleetwake.schemas import AuditEvent
producer = AuditProducer()
for _ in range(10):
    producer.emit(AuditEvent(event_type="mark", session_id="s-1"))
"""
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": f"{host}:{port}",
        "FLEETWAKE_KAFKA_TOPIC_PREFIX": settings.topic_prefix,
        "FLEETWAKE_PRODUCER_EXIT_TIMEOUT_S": "30",
    }
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert ["mark"] * 10 + ["producer.close"] == [
        one.event_type for one in await all_events(settings)
    ]


async def create_topic(settings: KafkaSettings, config: dict[str, str]) -> None:
    async with admin(settings) as client:
        topic = NewTopic(settings.topic(EVENTS), 1, 1, topic_configs=config)
        await client.create_topics([topic])


async def alter_topic(settings: KafkaSettings, config: dict[str, str]) -> None:
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    name = settings.topic(EVENTS)
    async with admin(settings) as client:
        resource = ConfigResource(ConfigResourceType.TOPIC, name, configs=config)
        await client.alter_configs([resource])


class admin:  # noqa: N801  # a context manager
    def __init__(self, settings: KafkaSettings) -> None:
        self._client = AIOKafkaAdminClient(**settings.client_options())

    async def __aenter__(self) -> AIOKafkaAdminClient:
        await self._client.start()
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
