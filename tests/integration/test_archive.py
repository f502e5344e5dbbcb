"""The archive as a process on the real Kafka: killed, doubled, with sparse offsets."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

import pyarrow.parquet as pq
from aiokafka import AIOKafkaProducer
from tests.running import event

from fleetwake.schemas.topics import EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleetwake.producer.settings import KafkaSettings

RUN = "from fleetwake.consumers.runtime.main import run; run('archive')"


class ArchiveProcess:
    """`fleetwake run archive`, in a hurry, with a home of its own."""

    def __init__(self, kafka: KafkaSettings, home: Path) -> None:
        self._home = home
        self._env = os.environ | {
            "FLEETWAKE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "FLEETWAKE_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
            "FLEETWAKE_HOME": str(home),
            "FLEETWAKE_ARCHIVE_MAX_AGE_S": "0.05",
            "FLEETWAKE_RUNTIME_HEALTH_PORT": "0",
            # All archives of a cluster are one group: the next test waits for this
            # one's dead member.
            "FLEETWAKE_RUNTIME_SESSION_TIMEOUT_MS": "6000",
            "FLEETWAKE_RUNTIME_INSTANCE_ID": kafka.topic_prefix + "archive",
        }

    def __enter__(self) -> Self:
        with (self._home / "archive.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", RUN], env=self._env, stderr=log
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait for what it archives."""
        async with asyncio.timeout(60):
            while not done():
                assert self._process.poll() is None, self._log()
                await asyncio.sleep(0.05)

    def _log(self) -> str:
        return (self._home / "archive.log").read_text()[-2_000:]


def archived(folder: Path) -> Counter[bytes]:
    """Count the rows by their value."""
    return Counter(
        value
        for path in folder.glob("archive/raw/*/*/*.parquet")
        for value in pq.read_table(path)["kafka_value"].to_pylist()
    )


async def test_kills_in_mid_batch_lose_and_double_nothing(
    kafka: Any, tmp_path: Path
) -> None:
    """Five times kill -9 while events arrive: each of them is in one row."""
    settings = kafka.settings()
    await kafka.create_topics(settings)
    sent: Counter[bytes] = Counter()
    options = settings.client_options()

    enough = asyncio.Event()

    async def publish(producer: AIOKafkaProducer) -> None:
        while not enough.is_set():
            value = event(sent.total())
            at = sent.total() % 4
            await producer.send_and_wait(settings.topic(EVENTS), value, partition=at)
            sent[value] += 1

    async with AIOKafkaProducer(**options, acks="all") as producer:
        publishing = asyncio.create_task(publish(producer))
        for _ in range(5):
            before = archived(tmp_path).total()
            with ArchiveProcess(settings, tmp_path) as service:
                await service.until(lambda: archived(tmp_path).total() > before)  # noqa: B023
        enough.set()
        await publishing
    with ArchiveProcess(settings, tmp_path) as service:
        await service.until(lambda: archived(tmp_path).total() >= sent.total())

    assert archived(tmp_path) == sent


async def test_transactions_leave_no_hole_in_the_chain(
    kafka: Any, tmp_path: Path
) -> None:
    """Markers and aborted records have offsets and no rows."""
    settings = kafka.settings(partitions=1)
    await kafka.create_topics(settings)
    kept: Counter[bytes] = Counter()
    async with AIOKafkaProducer(
        **settings.client_options(), transactional_id=settings.topic_prefix
    ) as producer:
        for n in range(6):
            await producer.begin_transaction()
            await producer.send_and_wait(settings.topic(EVENTS), event(n), partition=0)
            if n % 3 == 1:
                await producer.abort_transaction()
            else:
                await producer.commit_transaction()
                kept[event(n)] += 1
    with ArchiveProcess(settings, tmp_path) as service:
        await service.until(lambda: archived(tmp_path).total() >= kept.total())

    assert archived(tmp_path) == kept
    wanted = 0
    for path in sorted(tmp_path.glob("archive/raw/*/*/*.parquet")):
        assert int(path.stem) == wanted
        wanted = int(pq.read_metadata(path).metadata[b"fleetwake.end_offset"]) + 1
    assert wanted > kept.total()
