"""
One consumer over the whole topic, in a process of its own.

    python -m bench.consume loops|archive|metrics|plain TOTAL

Prints one JSON object: seconds from the first record to the last flush, and the
resident memory at each quarter of the way.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from bench import plain
from fleetwake.consumers.runtime.garbage import collecting_seldom
from fleetwake.consumers.runtime.kafka import KafkaSource
from fleetwake.consumers.runtime.main import configure_logging, load_service
from fleetwake.consumers.runtime.runner import Runner
from fleetwake.consumers.runtime.settings import RuntimeSettings
from fleetwake.producer.lookup import NetworkSchemas
from fleetwake.producer.settings import KafkaSettings

if TYPE_CHECKING:
    from fleetwake.consumers.runtime.service import (
        EventBatch,
        FlushPolicy,
        PartitionStart,
        Processor,
        Service,
    )
    from fleetwake.schemas.topics import Topic


@dataclass
class Watched:
    """A service, its records counted."""

    inner: Service
    total: int
    seen: int = 0
    started: float = 0.0
    ended: float = 0.0
    memory_mb: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def topics(self) -> tuple[Topic, ...]:
        return self.inner.topics

    @property
    def flush_policy(self) -> FlushPolicy:
        return self.inner.flush_policy

    @property
    def owns_dead_letters(self) -> bool:
        return self.inner.owns_dead_letters

    async def open(self, start: PartitionStart) -> Processor:
        return WatchedProcessor(self, await self.inner.open(start))

    def saw(self, count: int) -> None:
        self.seen += count
        while self.seen >= self.total * (len(self.memory_mb) + 1) // 4:
            rss = psutil.Process().memory_info().rss
            self.memory_mb.append(rss // 2**20)
            if len(self.memory_mb) == 4:
                break


@dataclass
class WatchedProcessor:
    """Counts what passes."""

    watched: Watched
    inner: Processor

    @property
    def resume_from(self) -> int | None:
        return self.inner.resume_from

    def process(self, batch: EventBatch) -> None:
        self.watched.started = self.watched.started or time.perf_counter()
        self.inner.process(batch)
        self.watched.saw(len(batch.records))

    async def flush(self) -> int | None:
        held = await self.inner.flush()
        self.watched.ended = time.perf_counter()
        return held


async def consume(name: str, total: int) -> dict[str, object]:
    kafka = KafkaSettings()
    if name == "plain":
        seconds = await plain.consume(kafka, total)
        return {"seconds": seconds, "memory_mb": []}
    watched = Watched(load_service(name), total)
    settings = RuntimeSettings()
    source = KafkaSource(
        kafka,
        watched.topics,
        f"bench-{name}-{time.time_ns()}",
        instance_id=None,
        session_timeout_ms=settings.session_timeout_ms,
    )
    schemas = NetworkSchemas(kafka)
    runner = Runner(watched, source, schemas, settings, topic_name=kafka.topic)
    async with collecting_seldom():
        running = asyncio.create_task(runner.run())
        while watched.seen < total and not running.done():
            await asyncio.sleep(0.02)
        # The last flush comes with the stop; by age it would come ten seconds later.
        runner.request_stop()
        await running
    seconds = watched.ended - watched.started
    return {"seconds": seconds, "memory_mb": watched.memory_mb}


if __name__ == "__main__":
    configure_logging("ERROR")
    print(json.dumps(asyncio.run(consume(sys.argv[1], int(sys.argv[2])))))
