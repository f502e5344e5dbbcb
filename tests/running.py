"""A service that notes what it is given, run in the background of a test."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from fleetwake.consumers.runtime.service import FlushPolicy
from fleetwake.schemas.codec import PackagedSchemas, encode
from fleetwake.schemas.errors import RetriableError
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.topics import EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetwake.consumers.runtime.runner import Runner
    from fleetwake.consumers.runtime.service import EventBatch, PartitionStart
    from fleetwake.schemas.topics import Topic

PROMPT = FlushPolicy(max_age_s=0.05)


def event(n: int) -> bytes:
    return encode(
        AuditEvent(
            event_id=f"e{n}",
            source="native",
            source_event_type="mark",
            event_type="mark",
            occurred_at=1,
            recorded_at=1,
            session_id="s",
            producer_id="p",
            sequence=n + 1,
        )
    )


class LearningSchemas(PackagedSchemas):
    """A look-up that notes what it is asked for, and may be out of reach."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.unreachable = False

    async def refresh(self, *references: str) -> None:
        self.asked += references
        if self.unreachable:
            raise RetriableError("registry away", after_s=0.01)


@dataclass
class Recorder:
    """A service whose processors note what they are given."""

    topics: tuple[Topic, ...] = (EVENTS,)
    name: str = "recorder"
    flush_policy: FlushPolicy = PROMPT
    owns_dead_letters: bool = False
    held: int | None = None
    resume: int | None = None
    starts: list[PartitionStart] = field(default_factory=list)
    live: dict[int, list[int]] = field(default_factory=dict)
    replayed: dict[int, list[int]] = field(default_factory=dict)
    invalid: list[tuple[int, str]] = field(default_factory=list)
    decoded: list[str] = field(default_factory=list)
    flushed: list[int] = field(default_factory=list)
    on_process: Callable[[EventBatch], None] = lambda _: None
    on_flush: Callable[[int], Any] = lambda _: None

    async def open(self, start: PartitionStart) -> Processor:
        self.starts.append(start)
        return Processor(self, start.partition)


@dataclass
class Processor:
    service: Recorder
    partition: int

    @property
    def resume_from(self) -> int | None:
        return self.service.resume if self.partition == 0 else None

    def process(self, batch: EventBatch) -> None:
        self.service.on_process(batch)
        noted = self.service.replayed if batch.replayed else self.service.live
        noted.setdefault(batch.partition, []).extend(r.offset for r in batch.records)
        if batch.events is not None:
            self.service.decoded += batch.events.column("event_id").to_pylist()
        self.service.invalid += [(r.offset, e.reason) for r, e in batch.invalid]

    async def flush(self) -> int | None:
        waited = self.service.on_flush(self.partition)
        if waited is not None:
            await waited
        self.service.flushed.append(self.partition)
        return self.service.held


@dataclass
class Running:
    service: Recorder
    runner: Runner
    schemas: LearningSchemas
    source: Any

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.runner.run())
        return self

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not done():
                if self._task.done():
                    await self._task
                await asyncio.sleep(0.01)

    async def ended(self) -> None:
        async with asyncio.timeout(30):
            await self._task

    async def __aexit__(self, *exc: object) -> None:
        self.runner.request_stop()
        if exc[0] is None and not self._task.done():
            await self.ended()
        elif not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
