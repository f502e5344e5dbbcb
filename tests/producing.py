"""What the tests of the producer share."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer

from fleetwake.schemas.codec import SHA256_HEADER, PackagedSchemas, decode
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.topics import EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fleetwake.producer.settings import KafkaSettings


def event(session_id: str = "s-1", **fields: Any) -> AuditEvent:
    """An event that is valid once it is stamped."""
    return AuditEvent(
        **{"event_type": "tool.complete", "session_id": session_id} | fields
    )


def until(condition: Callable[[], object], deadline_s: float = 20.0) -> None:
    """Wait for a condition; fail if that takes too long."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("the condition did not come true in time")
        time.sleep(0.005)


def first_sequences(events: Iterable[AuditEvent]) -> dict[str, list[int]]:
    """Per session the sequences in the order of their first occurrence."""
    seen: dict[str, dict[str, int]] = {}
    for one in events:
        seen.setdefault(one.session_id, {}).setdefault(one.event_id, one.sequence)
    return {session: list(ids.values()) for session, ids in seen.items()}


async def published(settings: KafkaSettings) -> dict[int, list[AuditEvent]]:
    """Per partition all events in the events topic, digests checked."""
    schemas, events = PackagedSchemas(), dict[int, list[AuditEvent]]()
    consumer = AIOKafkaConsumer(
        settings.topic(EVENTS),
        bootstrap_servers=settings.bootstrap_servers,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    async with asyncio.timeout(60), consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        for partition, end in ends.items():
            found = events.setdefault(partition.partition, [])
            while await consumer.position(partition) < end:
                polled = await consumer.getmany(partition, timeout_ms=500)
                for record in polled.get(partition, []):
                    digest = dict(record.headers)[SHA256_HEADER]
                    found.append(decode(record.value, schemas, sha256=digest))
                    assert record.key == found[-1].session_id.encode()
    return events


async def until_async(
    condition: Callable[[], object], deadline_s: float = 30.0
) -> None:
    """Wait for a condition without blocking the loop; fail if that takes too long."""
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.01)
