"""A service as a process of its own, on the real Kafka."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from importlib.metadata import version
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Self

import pytest
from aiokafka import AIOKafkaProducer
from tests.running import LearningSchemas, Recorder, Running, event

from fleetwake.consumers.runtime.kafka import (
    KafkaPublisher,
    KafkaSource,
    KafkaTopicReader,
    tail,
)
from fleetwake.consumers.runtime.kafka_admin import (
    group_lag,
    group_members,
)
from fleetwake.consumers.runtime.runner import Runner
from fleetwake.consumers.runtime.service import OutRecord
from fleetwake.consumers.runtime.settings import RuntimeSettings
from fleetwake.schemas.errors import RetriableError
from fleetwake.schemas.topics import ALERTS, DEAD_LETTERS, EVENTS, MAX_RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleetwake.producer.settings import KafkaSettings

RUN = """
import sys
from fleetwake.consumers.runtime.main import configure_logging, run
configure_logging()
run(sys.argv[1])
"""


class ServiceProcess:
    """`fleetwake run NAME`, its log read line by line."""

    def __init__(self, name: str, kafka: KafkaSettings, home: Path) -> None:
        env = os.environ | {
            "FLEETWAKE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "FLEETWAKE_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
            "FLEETWAKE_HOME": str(home),
            "FLEETWAKE_RUNTIME_HEALTH_PORT": "0",
            "FLEETWAKE_RUNTIME_INSTANCE_ID": kafka.topic_prefix + name,
        }
        self.lines: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, name], env=env, stderr=subprocess.PIPE
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            if line.startswith(b"{"):
                self.lines.append(json.loads(line))

    async def logged(self, name: str) -> dict[str, Any]:
        """The first log line of a name; waits for it."""
        async with asyncio.timeout(30):
            while True:
                for line in list(self.lines):
                    if line["event"] == name:
                        return line
                assert self.process.poll() is None
                await asyncio.sleep(0.02)

    async def get(self, path: str) -> tuple[int, str]:
        """Ask the health server."""
        started = await self.logged("service.started")
        url = f"http://{started['health']}{path}"

        def ask() -> tuple[int, str]:
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode()

        return await asyncio.to_thread(ask)

    async def until_ready(self) -> None:
        async with asyncio.timeout(30):
            while (await self.get("/readyz"))[0] != 200:
                await asyncio.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stderr
        self.process.stderr.close()


async def publish(kafka: KafkaSettings, count: int) -> None:
    """Put events into partition 0."""
    producer = AIOKafkaProducer(**kafka.client_options(), acks="all")
    await producer.start()
    for n in range(count):
        await producer.send_and_wait(kafka.topic(EVENTS), event(n), partition=0)
    await producer.stop()


def running(service: Recorder, kafka: KafkaSettings, **settings: Any) -> Running:
    """A service in this process."""
    source = KafkaSource(
        kafka,
        service.topics,
        kafka.topic_prefix + "g",
        instance_id=None,
        session_timeout_ms=6_000,
    )
    schemas = LearningSchemas()
    runner = Runner(
        service,
        source,
        schemas,
        RuntimeSettings(poll_timeout_s=0.05, **settings),
        topic_name=kafka.topic,
    )
    return Running(service, runner, schemas, source)


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not done():
            await asyncio.sleep(0.02)


async def test_a_service_tells_its_health(kafka: Any, tmp_path: Path) -> None:
    """Live at once, ready when it has its partitions; its counts as metrics."""
    settings = kafka.settings()
    await kafka.create_topics(settings)
    await publish(settings, 5)
    with ServiceProcess("loops", settings, tmp_path) as service:
        await service.until_ready()
        flushed = await service.logged("partition.flushed")
        live = await service.get("/livez")
        _, metrics = await service.get("/metrics")

    assert live == (200, "ok\n")
    assert tuple(
        flushed[name] for name in ("service", "partition", "records", "next_offset")
    ) == ("loops", 0, 5, 5)
    topic = settings.topic(EVENTS)
    assert (
        f'fleetwake_records_in_total{{service="loops",topic="{topic}"}} 5.0' in metrics
    )
    assert 'fleetwake_partitions_assigned{service="loops"} 4.0' in metrics
    assert 'fleetwake_flush_seconds_count{service="loops"} 1.0' in metrics


async def test_sigterm_flushes_commits_and_exits_in_time(
    kafka: Any, tmp_path: Path
) -> None:
    """Exit code 0 within 25 s, and nothing is left uncommitted."""
    settings = kafka.settings()
    await kafka.create_topics(settings)
    with ServiceProcess("archive", settings, tmp_path) as service:
        await service.until_ready()
        await publish(settings, 50)
        async with asyncio.timeout(30):
            seen = f'_in_total{{service="archive",topic="{settings.topic(EVENTS)}"}} 50'
            while seen not in (await service.get("/metrics"))[1]:
                await asyncio.sleep(0.05)
        members = await group_members(settings, settings.group("archive"))
        started = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(service.process.wait, 25)
        seconds = time.monotonic() - started
    lag = await group_lag(settings, settings.group("archive"))

    assert code == 0
    assert seconds < 25
    assert {at.partition: n for at, n in lag.items() if n or at[1] == 0} == {0: 0}
    assert [version("fleetwake")] == [one.version for one in members]
    # 127.0.0.1, or the gateway where Kafka is in a container.
    assert [ip_address(one.host) for one in members]


async def test_a_killed_service_gets_its_partitions_back_at_once(
    kafka: Any, tmp_path: Path
) -> None:
    """Static membership: a restart does not wait for the session timeout (45 s)."""
    settings = kafka.settings()
    await kafka.create_topics(settings)
    with ServiceProcess("loops", settings, tmp_path) as service:
        await service.until_ready()
    killed = time.monotonic()
    with ServiceProcess("loops", settings, tmp_path) as service:
        await service.until_ready()

    assert time.monotonic() - killed < 30


async def test_a_service_may_start_before_its_broker(own_kafka: Any) -> None:
    """It waits, and then works."""
    settings = own_kafka.settings()
    await own_kafka.create_topics(settings)
    await own_kafka.stop()
    service = Recorder()
    run = running(service, settings)
    refused: list[RetriableError] = []
    start = run.source.start

    async def noting_start() -> None:
        try:
            await start()
        except RetriableError as error:
            refused.append(error)
            raise

    run.source.start = noting_start
    async with run:
        await run.until(lambda: bool(refused))
        before = run.runner.is_ready
        await own_kafka.start()
        await run.until(lambda: run.runner.is_ready)
        await publish(settings, 3)
        await run.until(lambda: service.live == {0: [0, 1, 2]})

    assert not before


async def test_a_broker_that_is_killed_loses_nothing(own_kafka: Any) -> None:
    """After the broker is back, the rest is processed."""
    settings = own_kafka.settings()
    await own_kafka.create_topics(settings)
    service = Recorder()
    async with running(service, settings) as run:
        await run.until(lambda: run.runner.is_ready)
        await publish(settings, 5)
        await run.until(lambda: bool(service.flushed))
        own_kafka.kill()
        await own_kafka.start()
        await publish(settings, 5)
        await run.until(lambda: set(service.live.get(0, ())) == set(range(10)))


async def test_a_publisher_tells_when_the_broker_is_away(
    own_kafka: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aiokafka's idempotent send waits for ever; ours ends, and works again later."""
    monkeypatch.setattr("fleetwake.consumers.runtime.kafka._PUBLISH_DEADLINE_S", 2.0)
    settings = own_kafka.settings()
    await own_kafka.create_topics(settings)
    publisher = KafkaPublisher(settings)
    records = [OutRecord(ALERTS, b"k", b"v", 0)]
    await publisher.publish(records)
    own_kafka.kill()
    with pytest.raises(RetriableError):
        await publisher.publish(records)
    await own_kafka.start()
    await publisher.publish(records)
    await publisher.stop()


async def test_a_publisher_takes_what_a_broker_takes(kafka: Any) -> None:
    """A dead letter may be larger than any event: the client would refuse 1 MiB."""
    settings = kafka.settings()
    await kafka.create_topics(settings)
    publisher = KafkaPublisher(settings)
    value = random.Random(1).randbytes(2 * MAX_RECORD_BYTES - 1_000)
    await publisher.publish([OutRecord(DEAD_LETTERS, b"k", value, 0)])
    await publisher.stop()
    found = [one async for one in KafkaTopicReader(settings).read(DEAD_LETTERS, 0)]

    assert [value] == [one.value for one in found]


async def test_a_tail_follows_all_partitions(kafka: Any) -> None:
    """From the start what is there, and then what comes; all partitions."""
    settings = kafka.settings()
    await kafka.create_topics(settings)
    await publish(settings, 2)
    seen: list[tuple[int, int]] = []
    async with asyncio.timeout(60):
        async for partition, record in tail(settings, EVENTS, from_start=True):
            seen.append((partition, record.offset))
            if len(seen) == 2:
                publishing = asyncio.create_task(publish(settings, 1))
            if len(seen) == 3:
                await publishing
                break

    assert [(0, 0), (0, 1), (0, 2)] == seen


async def test_a_tail_of_a_topic_that_is_not_there_says_so(kafka: Any) -> None:
    """An error with what to do, instead of waiting for ever."""
    with pytest.raises(RetriableError, match="topics --create"):
        await anext(tail(kafka.settings(), EVENTS))
