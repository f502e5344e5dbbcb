"""Metrics on a real Kafka equal a plain fold, with kills and rebalances."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaProducer
from tests.metrics_fold import SECOND_US, Logged, fold

from fleetwake.consumers.metrics.settings import MetricsSettings
from fleetwake.consumers.metrics.windows import Limits
from fleetwake.consumers.query.windows import Span, Windows
from fleetwake.consumers.runtime.kafka import KafkaTopicReader
from fleetwake.consumers.runtime.kafka_admin import group_lag
from fleetwake.schemas.codec import PackagedSchemas, decode, encode
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.topics import EVENTS
from fleetwake.schemas.windows import GROUPINGS, buckets_of, row_key

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwake.producer.settings import KafkaSettings

BLOCK = 400
"""So that a short log has many."""

WAITING = 70
"""Events that wait for a flush, at most: some polls have more, and some less."""

RUN = f"""
from fleetwake.consumers.metrics import joined, partition_windows
partition_windows.BLOCK_RECORDS = {BLOCK}
joined._MANY = {WAITING}
from fleetwake.consumers.runtime.main import configure_logging, run
configure_logging("ERROR")
run("metrics")
"""
MAX_ROWS = 5
NAMES = [None, "a", "b", "c", "d", "e", "f", "x" * 200, 'q","\u202e\x00']
TYPES = "tool.attempt tool.complete tool.failure turn.start turn.end error loop.block"


def service(kafka: KafkaSettings, home: Path, instance: str) -> subprocess.Popen[bytes]:
    """The service as a process; who comes again under its name waits for nobody."""
    env = os.environ | {
        "FLEETWAKE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "FLEETWAKE_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
        "FLEETWAKE_HOME": str(home),
        "FLEETWAKE_RUNTIME_HEALTH_PORT": "0",
        "FLEETWAKE_RUNTIME_INSTANCE_ID": kafka.topic_prefix + instance,
        "FLEETWAKE_RUNTIME_SESSION_TIMEOUT_MS": "6000",
        "FLEETWAKE_RUNTIME_MAX_POLL_RECORDS": "150",
        "FLEETWAKE_METRICS_PUBLISH_INTERVAL_S": "0.2",
        "FLEETWAKE_METRICS_MAX_ROWS_PER_WINDOW": str(MAX_ROWS),
    }
    return subprocess.Popen([sys.executable, "-c", RUN], env=env)


def drawn(rng: random.Random, now_us: int) -> AuditEvent:
    """Late, ahead of its time, with any names."""
    ago_s = rng.choice([0, 1, 70, 4_000, 100_000, 10**6, -3_000])
    model = rng.choice([None, "m"])
    return AuditEvent(
        event_id=str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        source="native",
        source_event_type="drawn",
        event_type="model.response" if model else rng.choice(TYPES.split()),
        occurred_at=now_us - ago_s * SECOND_US,
        recorded_at=now_us,
        session_id=f"s-{rng.randrange(40)}",
        producer_id="p",
        sequence=1,
        team=rng.choice([None, "red"]),
        agent_id=rng.choice(NAMES),
        tool_name=rng.choice(NAMES),
        outcome=rng.choice(["success", "failure"]),
        duration_ms=rng.choice([None, rng.expovariate(0.001)]),
        cost_usd=rng.choice([None, rng.random()]) if model else None,
        model=model,
        input_tokens=rng.randrange(10_000) if model else None,
    )


async def publish(kafka: KafkaSettings, rng: random.Random, count: int) -> None:
    """Events into their partitions, one in ten of them twice."""
    producer = AIOKafkaProducer(**kafka.client_options(), acks="all")
    await producer.start()
    topic, sent = kafka.topic(EVENTS), list[AuditEvent]()
    now_us = time.time_ns() // 1000
    for _ in range(count):
        one = rng.choice(sent) if sent and rng.random() < 0.1 else drawn(rng, now_us)
        sent = [*sent[-50:], one]
        await producer.send(topic, encode(one), key=one.session_id.encode())
    await producer.stop()


async def the_log(kafka: KafkaSettings, partition: int) -> list[Logged]:
    reader, schemas = KafkaTopicReader(kafka), PackagedSchemas()
    return [
        Logged(one.offset, one.timestamp_ms * 1000, decode(one.value, schemas))
        async for one in reader.read(EVENTS, partition)
        if one.value
    ]


async def caught_up(kafka: KafkaSettings) -> None:
    """The group has committed all that there is."""
    async with asyncio.timeout(60):
        while True:
            lag = await group_lag(kafka, kafka.group("metrics"))
            events = {at: n for at, n in lag.items() if at.topic == kafka.topic(EVENTS)}
            if len(events) == kafka.partitions and not any(events.values()):
                return
            await asyncio.sleep(0.1)


async def disturbed(kafka: KafkaSettings, home: Path, rng: random.Random) -> None:
    """Two members; kill -9 of either, and one that leaves and comes back."""
    members = [service(kafka, home, name) for name in "ab"]
    try:
        for _ in range(4):
            await publish(kafka, rng, 500)
            victim = rng.randrange(2)
            how = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
            members[victim].send_signal(how)
            await asyncio.to_thread(members[victim].wait)
            await publish(kafka, rng, 100)
            members[victim] = service(kafka, home, "ab"[victim])
        await caught_up(kafka)
    finally:
        for one in members:
            one.kill()
            one.wait()


def told(row: Any) -> tuple[int, dict[str, int], dict[int, int]]:
    """What is exact of a row."""
    sums = GROUPINGS[row.grouping].sums
    return (
        row.applied_through,
        {name: value for name in sums if (value := getattr(row, name))},
        buckets_of(row.durations),
    )


async def shown_by_the_command(kafka: KafkaSettings, home: Path) -> dict[str, Any]:
    """All of it in one row, as `fleetwake metrics` says."""
    env = os.environ | {
        "FLEETWAKE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "FLEETWAKE_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
        "FLEETWAKE_HOME": str(home),
    }
    command = [sys.executable, "-m", "fleetwake.consumers.cli", "metrics", "--total"]
    ran = await asyncio.to_thread(
        subprocess.run,
        [*command, "--since", "30d", "--json"],
        env=env,
        stdout=subprocess.PIPE,
        check=True,
    )
    return dict(json.loads(ran.stdout))


@pytest.mark.timeout(180)
async def test_windows_equal_a_plain_fold_over_the_log(
    kafka: Any, tmp_path: Path
) -> None:
    """Exact measures are equal; distinct counts are within the sketch's error."""
    settings = kafka.settings()
    await kafka.create_topics(settings)
    await disturbed(settings, tmp_path, random.Random(9))
    windows = await Windows.read(KafkaTopicReader(settings), range(4))
    limits = Limits.of(MetricsSettings(max_rows_per_window=MAX_ROWS))
    logs = {partition: await the_log(settings, partition) for partition in range(4)}
    folded = {
        (partition, *place): row
        for partition, log in logs.items()
        for place, row in fold(
            log,
            block_records=BLOCK,
            kept_us=dict(limits.kept_us),
            max_rows=MAX_ROWS,
        ).items()
    }
    expected = {
        key: (row.applied_through, dict(+row.sums), dict(row.buckets))
        for key, row in folded.items()
    }
    actual = {
        (
            row.source_partition,
            row.grouping,
            row.window_s,
            row.window_start // (row.window_s * SECOND_US),
            row_key(row).dimensions,
            row.block,
        ): told(row)
        for row in windows.rows
    }
    sessions = {
        one
        for key, row in folded.items()
        if key[1:3] == ("team", 3600)
        for one in row.distinct["sessions"]
    }
    found = windows.totals("team", span=Span(3600))[()].distinct("sessions")
    shown = await shown_by_the_command(settings, tmp_path)

    assert max(map(len, logs.values())) > 2 * BLOCK
    assert expected == actual
    assert len(sessions) == round(found) == shown["sessions"]
    assert shown["events"] == sum(
        row.sums["events"] for key, row in folded.items() if key[1:3] == ("team", 3600)
    )
