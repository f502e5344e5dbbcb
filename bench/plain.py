"""
The peer: the loop that anyone would write with aiokafka and fastavro.

It keeps the same state as the loops service: per session the run of equal calls and
the alternation of two calls, and raises at the same counts. No rebalance, no held
offsets, no dead letters, no digest check.
"""

from __future__ import annotations

import io
import json
import time
from importlib.resources import files
from typing import TYPE_CHECKING

import fastavro
from aiokafka import AIOKafkaConsumer, TopicPartition

from fleetwake.schemas.topics import EVENTS

if TYPE_CHECKING:
    from fleetwake.producer.settings import KafkaSettings


class Sessions:
    """Streaks of equal and of alternating calls."""

    def __init__(self) -> None:
        self.calls: dict[str, list[object]] = {}
        self.alerts = 0

    def take(self, event: dict[str, object]) -> None:
        if event["event_type"] not in {"tool.complete", "tool.failure"}:
            return
        call = (event["tool_name"], event["arguments_digest"], event["outcome_digest"])
        state = self.calls.setdefault(str(event["session_id"]), [None, None, 0, 0])
        last, before, equal, alternating = state
        equal = equal + 1 if call == last else 1  # type: ignore[operator]
        swapped = call == before and call != last
        alternating = alternating + 1 if swapped else 0  # type: ignore[operator]
        if equal in {3, 5} or alternating in {4, 8}:
            self.alerts += 1
        state[:] = [call, last, equal, alternating]


async def consume(kafka: KafkaSettings, total: int) -> float:
    """Read `total` events of the topic and return the seconds it took."""
    text = (files("fleetwake.schemas") / "avsc" / "audit_event.avsc").read_text()
    schema = fastavro.parse_schema(json.loads(text))
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers,
        enable_auto_commit=False,
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    await consumer.start()
    name = kafka.topic(EVENTS)
    tps = [TopicPartition(name, p) for p in range(kafka.partitions)]
    consumer.assign(tps)
    await consumer.seek_to_beginning(*tps)
    sessions = Sessions()
    seen = 0
    started = time.perf_counter()
    while seen < total:
        for records in (await consumer.getmany(timeout_ms=500)).values():
            for record in records:
                body = io.BytesIO(record.value[10:])
                event = fastavro.schemaless_reader(body, schema, None)
                sessions.take(event)
                seen += 1
    seconds = time.perf_counter() - started
    await consumer.stop()
    return seconds
