"""
What the archive costs, beside the loop that anyone would write (bench/plain_archive).

    python -m bench.archive 1000000
    python -m bench.archive 10000000 --memory      the archive alone, of made events

Prints JSON: per second and core from the topic to durable Parquet (events by the CPU
time of the process), bytes per event with and without the values as they came, the
most memory in each quarter and how much it grew after the first, and how long after
its append to the topic a record can be queried.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from bench import many
from bench.events import events
from fleetwake.consumers.broker import BrokerSettings, EmbeddedKafka
from fleetwake.consumers.runtime.kafka_admin import create_topics
from fleetwake.producer import AuditProducer
from fleetwake.producer.kafka import KafkaTransport
from fleetwake.producer.settings import KafkaSettings
from fleetwake.producer.transport import OutgoingRecord
from fleetwake.schemas.topics import EVENTS

_WITHOUT: Final = {"FLEETWAKE_ARCHIVE_KEEP_BYTES": "false"}
_BATCH: Final = 2_000
_FRESH_S: Final = 40
_FRESH_PER_S: Final = 500


def figures(env: dict[str, str], total: int) -> dict[str, Any]:
    """Archive the `total` events of a topic, in turn by each, the better of twice."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for nth in range(2):
        for name, service, more in (
            ("plain", "plain-archive", {}),
            ("archive", "archive", {}),
            ("archive without values", "archive", _WITHOUT),
        ):
            own = {"FLEETWAKE_HOME": f"{env['FLEETWAKE_HOME']}/{name}-{nth}"}
            one = _child(env | own | more, "bench.consume", service, str(total))
            runs.setdefault(name, []).append(one)
    found = {
        name: min(ones, key=lambda one: one["cpu_s"]) for name, ones in runs.items()
    }
    return {
        name: {
            "per_s": total / one["seconds"],
            "per_core_s": total / one["cpu_s"],
            "bytes_per_event": one["bytes"] / total,
            "memory_mb": one["memory_mb"],
        }
        | growth(one["memory_mb"])
        for name, one in found.items()
    }


def growth(memory_mb: list[int]) -> dict[str, float]:
    """How much more memory there was after the first quarter, at most; 0.1: 10 %."""
    return {"growth": max(memory_mb) / memory_mb[0] - 1} if memory_mb else {}


def freshness(env: dict[str, str]) -> dict[str, float]:
    """Publish at a steady pace beside a service with its defaults; times in seconds."""
    home = Path(env["FLEETWAKE_HOME"]) / "fresh"
    own = env | {
        "FLEETWAKE_HOME": str(home),
        "FLEETWAKE_KAFKA_TOPIC_PREFIX": "fresh.",
        "FLEETWAKE_RUNTIME_HEALTH_PORT": "0",
    }
    code = (
        "from fleetwake.consumers.runtime import main; "
        "main.configure_logging('ERROR'); main.run('archive')"
    )
    asyncio.run(create_topics(_kafka(own)))
    service = subprocess.Popen(
        [sys.executable, "-c", code], env=own, stderr=subprocess.DEVNULL
    )
    os.environ.update(own)
    with AuditProducer() as producer:
        producer.emit(next(events(1)))
        while not [*home.rglob("raw/**/*.parquet")]:
            time.sleep(0.1)
        begin, started = time.time(), time.monotonic()
        for nth, event in enumerate(events(_FRESH_S * _FRESH_PER_S)):
            producer.emit(event)
            time.sleep(max(0.0, started + nth / _FRESH_PER_S - time.monotonic()))
    service.terminate()
    service.wait()
    paths = home.rglob("raw/**/*.parquet")
    ages = sorted(age for path in paths for age in _ages(path, begin))
    return {f"p{p}": ages[len(ages) * p // 100] for p in (50, 99)} | {"max": ages[-1]}


def _ages(path: Path, begin: float) -> list[float]:
    # A file can be queried from its link on, which is its last change.
    at = path.stat().st_ctime
    column = pq.read_table(path, columns=["kafka_timestamp"])["kafka_timestamp"]
    times = (one.timestamp() for one in column.to_pylist())
    return [at - one for one in times if one >= begin]


def _child(env: dict[str, str], module: str, *args: str) -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, "-m", module, *args],
        env=env,
        stdout=subprocess.PIPE,
        check=True,
    )
    return dict(json.loads(ran.stdout))


def _kafka(env: dict[str, str]) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=env["FLEETWAKE_KAFKA_BOOTSTRAP_SERVERS"],
        topic_prefix=env["FLEETWAKE_KAFKA_TOPIC_PREFIX"],
    )


def memory(env: dict[str, str], total: int) -> dict[str, Any]:
    """Archive the `total` events of a topic, once; quarters of memory."""
    own = {"FLEETWAKE_HOME": f"{env['FLEETWAKE_HOME']}/once"}
    found = _child(env | own, "bench.consume", "archive", str(total))
    return {
        "rows": total,
        "per_core_s": total / found["cpu_s"],
        "bytes_per_event": found["bytes"] / total,
        "memory_mb": found["memory_mb"],
    } | growth(found["memory_mb"])


async def publish(kafka: KafkaSettings, total: int) -> None:
    """Publish made events, by the million a minute: a batch to each partition."""
    transport = KafkaTransport(kafka)
    await transport.start()
    made = many.batches(total, _BATCH, digests=True)
    while batches := [*itertools.islice(made, kafka.partitions)]:
        async with asyncio.TaskGroup() as sending:
            for partition, batch in enumerate(batches):
                records = [
                    OutgoingRecord(one.key or b"", one.value or b"", [*one.headers])
                    for one in batch
                ]
                sent = transport.send(kafka.topic(EVENTS), partition, records)
                sending.create_task(sent)
    await transport.stop()


async def measure(total: int, home: Path, *, only_memory: bool) -> dict[str, Any]:
    settings = BrokerSettings()
    broker = EmbeddedKafka(
        home / "broker",
        port=settings.port + 200,
        controller_port=settings.controller_port + 200,
        heap_mb=1024,
    )
    await broker.start()
    env = os.environ | {
        "FLEETWAKE_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "FLEETWAKE_KAFKA_TOPIC_PREFIX": "bench.",
        "FLEETWAKE_HOME": str(home),
    }
    try:
        await create_topics(_kafka(env))
        if only_memory:
            await publish(_kafka(env), total)
            return await asyncio.to_thread(memory, env, total)
        published = ("bench.emit", "fleetwake", "fast", "1", str(total), "0")
        await asyncio.to_thread(_child, env, *published)
        return await asyncio.to_thread(figures, env, total) | {
            "freshness_s": await asyncio.to_thread(freshness, env)
        }
    finally:
        await broker.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
        once = "--memory" in sys.argv
        found = asyncio.run(measure(count, Path(folder), only_memory=once))
        print(json.dumps(found, indent=2))
