"""The producer for asyncio: the same, and the user's loop is never blocked."""

from __future__ import annotations

import asyncio
import time

import pytest
from blockbuster import blockbuster_ctx
from tests.producing import event

from fleetwake.producer import AsyncAuditProducer
from fleetwake.producer.settings import (
    KafkaSettings,
    ProducerSettings,
    RegistrySettings,
)
from fleetwake.producer.testing import MemoryLog, MemoryTransport
from fleetwake.schemas.errors import ConfigurationError


def make(
    log: MemoryLog, settings: ProducerSettings | None = None
) -> AsyncAuditProducer:
    return AsyncAuditProducer(
        settings,
        kafka=KafkaSettings(),
        registry=RegistrySettings(url=None),
        strict=True,
        open_transport=lambda: MemoryTransport(log),
    )


async def test_it_delivers_and_ends_its_runs() -> None:
    """What was emitted is in the log at the end, in order, with its mark."""
    log = MemoryLog()
    async with make(log) as producer:
        for _ in range(100):
            producer.emit(event())
        assert await producer.flush(20)
        assert 100 == len(log.events())

    assert list(range(1, 102)) == [one.sequence for one in log.events()]


async def test_the_loop_is_never_blocked() -> None:
    """Not by emit, flush or close, with the log there or away."""
    log = MemoryLog()
    producer = make(log)
    with blockbuster_ctx():
        for _ in range(500):
            producer.emit(event())
        assert await producer.flush(20)
        log.is_away = True
        producer.emit(event())
        assert not await producer.flush(0.05)
        assert not await producer.close(0.3)


async def test_other_tasks_run_while_it_waits() -> None:
    """A flush against a dead log leaves the loop to others, to the millisecond."""
    log = MemoryLog()
    log.is_away = True
    producer = make(log)
    producer.emit(event())
    gaps: list[float] = []

    async def tick() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            gaps.append(time.perf_counter() - last)
            last = time.perf_counter()

    ticking = asyncio.create_task(tick())
    assert not await producer.flush(0.3)
    assert not await producer.close(0.3)
    ticking.cancel()

    assert max(gaps) < 0.25


async def test_close_keeps_its_deadline() -> None:
    """It answers in time, and False, while the log is away."""
    log = MemoryLog()
    log.is_away = True
    producer = make(log, ProducerSettings(durability="memory"))
    producer.emit(event())

    begin = time.monotonic()
    assert not await producer.close(0.3)

    assert time.monotonic() - begin < 1
    assert {"closed": 1} == producer.statistics().dropped


async def test_a_cancelled_flush_leaves_the_producer_alone() -> None:
    """The caller may give up at any time."""
    log = MemoryLog()
    log.is_away = True
    async with make(log) as producer:
        producer.emit(event())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await producer.flush(20)
        log.is_away = False
        assert await producer.flush(20)

    assert 2 == len(log.events())


def test_a_loop_that_ends_early_does_not_matter() -> None:
    """The user's loop may be closed under the producer; it has one of its own."""
    log = MemoryLog()
    log.is_away = True
    producer = make(log)

    async def agent() -> None:
        producer.emit(event())
        assert not await producer.flush(0.05)

    asyncio.run(agent())
    log.is_away = False
    producer.emit(event())

    async def later() -> None:
        assert await producer.close(20)

    asyncio.run(later())

    assert [1, 2, 3] == [one.sequence for one in log.events()]


def test_block_is_refused() -> None:
    """A policy that blocks the loop is a mistake that is found at start."""
    with pytest.raises(ConfigurationError, match="on_full"):
        make(MemoryLog(), ProducerSettings(on_full="block"))
