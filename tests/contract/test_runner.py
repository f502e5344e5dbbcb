"""What every service gets from the runtime, on both logs."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from tests.running import LearningSchemas, Processor, Recorder, Running, event

from fleetwake.consumers.runtime import runner as runner_module
from fleetwake.consumers.runtime.dead_letters import TooManyDeadLettersError
from fleetwake.consumers.runtime.runner import FlushTimeoutError, Runner
from fleetwake.consumers.runtime.service import FlushPolicy, PartitionFencedError
from fleetwake.consumers.runtime.settings import RuntimeSettings
from fleetwake.consumers.runtime.source import Committed, TopicPartition
from fleetwake.schemas.codec import SHA256_HEADER
from fleetwake.schemas.errors import RetriableError
from fleetwake.schemas.topics import COMMANDS, DEAD_LETTERS, EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleetwake.consumers.runtime.service import (
        EventBatch,
        Needed,
        PartitionStart,
    )
    from fleetwake.schemas.topics import Topic

# Nothing of it is known to any look-up.
UNKNOWN_SCHEMA = b"\xc3\x01" + b"\x07" * 8 + b"body"


@pytest.fixture
def start(log: Any, group: str) -> Callable[..., Any]:
    """Run a service in the background until the test has seen enough."""

    def started(service: Recorder, **settings: Any) -> Running:
        schemas = LearningSchemas()
        source = log.source(group, *service.topics)
        runner = Runner(
            service,
            source,
            schemas,
            RuntimeSettings(poll_timeout_s=0.05, **settings),
            topic_name=log.name,
        )
        return Running(service, runner, schemas, source)

    return started


async def committed(log: Any, group: str, partition: int) -> Committed | None:
    """What the group has committed, asked from outside."""
    source = log.source(group, EVENTS)
    await source.start()
    found = await source.committed(TopicPartition(log.name(EVENTS), partition))
    await source.stop()
    return found


async def test_each_record_is_processed_once_and_then_committed(
    log: Any, group: str, start: Any
) -> None:
    """Every partition in offset order, and the offset after the last one committed."""
    for n in range(20):
        await log.append(EVENTS, n % 2, event(n))
    service = Recorder()
    async with start(service) as running:
        await running.until(lambda: sum(map(len, service.live.values())) == 20)
        await running.until(lambda: running.runner.is_ready)

    assert {0: list(range(10)), 1: list(range(10))} == service.live
    assert sorted(f"e{n}" for n in range(20)) == sorted(service.decoded)
    assert Committed(10, 10) == await committed(log, group, 0)
    assert service.replayed == {}


async def test_a_stop_flushes_what_is_pending(log: Any, group: str, start: Any) -> None:
    """SIGTERM loses no work: what was processed is flushed and committed."""
    await log.append(EVENTS, 0, event(0))
    service = Recorder(flush_policy=FlushPolicy(max_age_s=3600))
    async with start(service) as running:
        await running.until(lambda: bool(service.live))
        before = list(service.flushed)

    assert before == []
    assert service.flushed == [0]
    assert Committed(1, 1) == await committed(log, group, 0)


async def test_a_crash_in_process_commits_nothing(
    log: Any, group: str, start: Any
) -> None:
    """An unexpected error stops the service; the records come again."""
    await log.append(EVENTS, 0, event(0))

    def crash(_: EventBatch) -> None:
        raise ZeroDivisionError

    async with start(Recorder(on_process=crash)) as running:
        with pytest.raises(ZeroDivisionError):
            await running.ended()
    again = Recorder()
    async with start(again) as running:
        await running.until(lambda: bool(again.live))

    assert again.live == {0: [0]}


async def test_held_records_are_replayed_muted(
    log: Any, group: str, start: Any
) -> None:
    """A processor that holds an offset back sees it again, marked as replayed."""
    for n in range(6):
        await log.append(EVENTS, 0, event(n))
    first = Recorder(held=4)
    async with start(first) as running:
        await running.until(lambda: bool(first.flushed))
    await log.append(EVENTS, 0, event(6))
    second = Recorder()
    async with start(second) as running:
        await running.until(lambda: bool(second.live))

    assert first.live == {0: [0, 1, 2, 3, 4, 5]}
    assert second.replayed == {0: [4, 5]}
    assert second.live == {0: [6]}
    assert [s.committed for s in second.starts if s.partition == 0] == [6]


async def test_the_replay_has_a_cap(log: Any, group: str, start: Any) -> None:
    """A held offset goes back no further than max_replay_records."""
    for n in range(6):
        await log.append(EVENTS, 0, event(n))
    service = Recorder(held=0)
    async with start(service, max_replay_records=2) as running:
        await running.until(lambda: bool(service.flushed))

    assert Committed(6, 4) == await committed(log, group, 0)


async def test_a_processor_may_say_where_to_resume(
    log: Any, group: str, start: Any
) -> None:
    """The archive trusts its last file, not the committed offset."""
    for n in range(6):
        await log.append(EVENTS, 0, event(n))
    first = Recorder()
    async with start(first) as running:
        await running.until(lambda: bool(first.flushed))
    second = Recorder(resume=3)
    async with start(second) as running:
        await running.until(lambda: bool(second.flushed))

    assert second.live == {0: [3, 4, 5]}
    assert second.replayed == {}


async def test_a_retriable_flush_pauses_one_partition_only(
    log: Any, group: str, start: Any
) -> None:
    """The sick partition is tried again, its records once; the healthy ones go on."""
    for p in (0, 1):
        await log.append(EVENTS, p, event(p))
    failures = iter(range(3))

    def sick(partition: int) -> None:
        if partition == 0 and next(failures, None) is not None:
            raise RetriableError("store away", after_s=0.01)

    service = Recorder(on_flush=sick)
    async with start(service) as running:
        await running.until(lambda: 1 in service.flushed)
        await log.append(EVENTS, 1, event(2))
        await running.until(lambda: 0 in service.flushed)
        await log.append(EVENTS, 0, event(3))
        await running.until(lambda: service.live.get(0) == [0, 1])
        await running.until(lambda: service.live.get(1) == [0, 1])

    assert Committed(2, 2) == await committed(log, group, 0)


async def test_a_fenced_partition_is_opened_anew(
    log: Any, group: str, start: Any
) -> None:
    """Another owner was first: the state is dropped and the truth read again."""
    await log.append(EVENTS, 0, event(0))
    fences = iter([True])

    def fence(_: int) -> None:
        if next(fences, False):
            raise PartitionFencedError("there is a file already")

    service = Recorder(on_flush=fence)
    async with start(service) as running:
        await running.until(lambda: bool(service.flushed))

    assert [s.partition for s in service.starts if s.partition == 0] == [0, 0]
    assert service.live == {0: [0, 0]}


async def test_a_hanging_flush_stops_the_service(
    log: Any, group: str, start: Any
) -> None:
    """A flush has a deadline, and nothing of it is committed."""
    await log.append(EVENTS, 0, event(0))
    service = Recorder(on_flush=lambda _: asyncio.sleep(3600))
    async with start(service, flush_deadline_s=0.1) as running:
        with pytest.raises(FlushTimeoutError):
            await running.ended()

    assert await committed(log, group, 0) is None


async def test_poison_is_set_aside_and_the_rest_goes_on(
    log: Any, group: str, start: Any
) -> None:
    """The owner of the dead letters publishes the bytes with reason and origin."""
    good = event(0)
    digest = ((SHA256_HEADER, hashlib.sha256(b"other").digest()),)
    await log.append(EVENTS, 2, good)
    await log.append(EVENTS, 2, b"\x99junk", key=b"k")
    await log.append(EVENTS, 2, None, key=b"k")
    await log.append(EVENTS, 2, good, headers=digest)
    await log.append(EVENTS, 2, event(1))
    service = Recorder(owns_dead_letters=True)
    async with start(service) as running:
        await running.until(lambda: service.live.get(2) == [0, 1, 2, 3, 4])
        await running.until(lambda: bool(service.flushed))
    letters = await log.records(DEAD_LETTERS, 2)
    headers = [dict(letter.headers) for letter in letters]

    assert service.decoded == ["e0", "e1"]
    assert service.invalid == [
        (1, "unknown_framing"),
        (2, "tombstone"),
        (3, "digest_mismatch"),
    ]
    assert [b"\x99junk", None, good] == [letter.value for letter in letters]
    assert [
        (one["fleetwake-reason"], one["fleetwake-origin-offset"]) for one in headers[:2]
    ] == [(b"unknown_framing", b"1"), (b"tombstone", b"2")]
    assert Committed(5, 5) == await committed(log, group, 2)


async def test_other_services_skip_poison(log: Any, group: str, start: Any) -> None:
    """One dead letter per record, not one per service."""
    await log.append(EVENTS, 0, b"\x99junk")
    service = Recorder()
    async with start(service) as running:
        await running.until(lambda: bool(service.flushed))

    assert await log.records(DEAD_LETTERS, 0) == []


async def test_a_flood_of_poison_stops_the_service(
    log: Any, group: str, start: Any
) -> None:
    """When nearly everything is poison, a wrong schema was deployed."""
    for _ in range(20):
        await log.append(EVENTS, 0, b"\x99junk")
    service = Recorder(owns_dead_letters=True)
    async with start(service, dead_letter_window=10) as running:
        with pytest.raises(TooManyDeadLettersError, match="20 of 20"):
            await running.ended()

    assert await committed(log, group, 0) is None


async def test_an_unknown_schema_waits_for_a_look_up_that_is_away(
    log: Any, group: str, start: Any
) -> None:
    """A registry that does not answer is no reason for a dead letter."""
    await log.append(EVENTS, 0, UNKNOWN_SCHEMA)
    await log.append(EVENTS, 1, event(0))
    service = Recorder(owns_dead_letters=True)
    running = start(service)
    running.schemas.unreachable = True
    async with running:
        await running.until(lambda: len(running.schemas.asked) >= 2)
        await running.until(lambda: 1 in service.live)
        waiting = dict(service.live)
        running.schemas.unreachable = False
        await running.until(lambda: 0 in service.live)

    assert waiting == {1: [0]}
    assert service.invalid == [(0, "unknown_schema")]


async def test_a_poll_of_many_bytes_is_taken_in_parts(
    log: Any, group: str, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record once and in order, also where one of them must wait."""
    monkeypatch.setattr(runner_module, "_BATCH_BYTES", 2 * len(event(0)))
    values = [event(0), event(1), event(2), None, UNKNOWN_SCHEMA, event(5) * 3]
    for value in values:
        await log.append(EVENTS, 0, value, key=b"")
    taken: list[int] = []
    service = Recorder(on_process=lambda batch: taken.append(len(batch.records)))
    running = start(service)
    running.schemas.unreachable = True
    async with running:
        await running.until(lambda: len(running.schemas.asked) >= 2)
        before = list(service.live[0])
        running.schemas.unreachable = False
        await running.until(lambda: len(service.live[0]) == len(values))

    assert before == [0, 1]
    assert {0: [0, 1, 2, 3, 4, 5]} == service.live
    assert taken == [2, 3, 1]
    assert ["e0", "e1", "e2"] == service.decoded
    assert [3, 4, 5] == [offset for offset, _ in service.invalid]
    assert Committed(6, 6) == await committed(log, group, 0)


async def test_offsets_that_retention_took_are_told(
    log: Any, group: str, start: Any
) -> None:
    """A hole is never jumped in silence: the processor is made anew and can see it."""
    for n in range(5):
        await log.append(EVENTS, 0, event(n))
    first = Recorder()
    async with start(first) as running:
        await running.until(lambda: bool(first.flushed))
    for n in range(5):
        await log.append(EVENTS, 0, event(n))
    await log.delete_before(EVENTS, 0, 8)
    second = Recorder()
    async with start(second) as running:
        await running.until(lambda: bool(second.live))

    assert [(s.committed, s.log_start) for s in second.starts if s.partition == 0] == [
        (5, 8)
    ]
    assert second.live == {0: [8, 9]}


async def test_a_second_member_shares_the_work(
    log: Any, group: str, start: Any
) -> None:
    """Two members process every record; none is skipped by the rebalance."""
    one, two = Recorder(), Recorder()
    async with start(one) as first:
        await first.until(lambda: first.runner.is_ready)
        async with start(two) as second:
            await second.until(
                lambda: (
                    second.runner.is_ready
                    and first.runner.is_ready
                    and bool(two.starts)
                )
            )
            for n in range(40):
                await log.append(EVENTS, n % 4, event(n))
            await first.until(
                lambda: sum(len(o) for s in (one, two) for o in s.live.values()) >= 40
            )
    seen = {(p, o) for s in (one, two) for p, found in s.live.items() for o in found}

    assert {(p, o) for p in range(4) for o in range(10)} == seen
    assert one.live
    assert two.live


async def test_the_start_waits_for_a_broker(log: Any, start: Any) -> None:
    """A service that starts before its broker does is not an error."""
    if not hasattr(log, "log"):
        pytest.skip("covered for Kafka by tests/integration/test_runtime.py")
    failures = iter(range(2))

    def away(request: str) -> None:
        if request == "start" and next(failures, None) is not None:
            raise RetriableError("no broker", after_s=0.01)

    service = Recorder()
    running = start(service)
    running.source.fail = away
    async with running:
        await running.until(lambda: running.runner.is_ready)

    assert len(service.starts) == 4


async def test_a_start_that_hangs_does_not_hold_up_the_stop(start, monkeypatch):
    """As with a broker that takes the connection and says nothing."""
    running, hanging = start(Recorder()), asyncio.Event()

    async def hang() -> None:
        hanging.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(running.source, "start", hang)
    monkeypatch.setattr(running.source, "stop", _nothing)
    async with asyncio.timeout(10), running:
        await hanging.wait()
        running.runner.request_stop()
        await running.ended()

    assert not running.runner.is_ready


async def _nothing() -> None:
    """Stop what never started."""


@dataclass
class Waiting(Recorder):
    """A service whose processors note when they are told of silence."""

    ticks: list[tuple[int, int]] = field(default_factory=list)
    """Partition, and how many live records it had processed."""
    found: bool = False
    needed: Mapping[Topic, int] | None = None

    async def open(self, start: PartitionStart) -> Any:
        self.starts.append(start)
        return Patient(self, start.partition)


class Patient:
    """A processor that acts on silence."""

    def __init__(self, service: Waiting, partition: int) -> None:
        self._service = service
        self._inner = Processor(service, partition)

    @property
    def resume_from(self) -> None:
        return

    def process(self, batch: EventBatch) -> None:
        self._inner.process(batch)

    def tick(self, now_ms: int) -> bool:
        assert now_ms > 0
        partition = self._inner.partition
        seen = len(self._service.live.get(partition, []))
        self._service.ticks.append((partition, seen))
        return self._service.found

    async def flush(self) -> Needed:
        await self._inner.flush()
        return self._service.needed


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tick as often as there is nothing to do."""
    monkeypatch.setattr(runner_module, "_TICK_EVERY_S", 0.0)


@pytest.mark.usefixtures("hasty")
async def test_silence_is_told_when_all_is_processed(log: Any, start: Any) -> None:
    """Each partition, also one that never had a record; what it finds is flushed."""
    await log.append(EVENTS, 0, event(0))
    service = Waiting(found=True)
    async with start(service) as running:
        await running.until(lambda: {p for p, _ in service.ticks} == {0, 1, 2, 3})
        await running.until(lambda: {0, 1, 2, 3} <= set(service.flushed))

    assert {seen for partition, seen in service.ticks if partition == 0} == {1}


@pytest.mark.usefixtures("hasty")
async def test_a_lane_that_is_behind_hears_of_no_silence(log: Any, start: Any) -> None:
    """What it has not read may be what somebody waits for; the others are told."""
    await log.append(EVENTS, 0, UNKNOWN_SCHEMA)
    service = Waiting()
    running = start(service)
    running.schemas.unreachable = True
    async with running:
        await running.until(lambda: len(running.schemas.asked) >= 2)
        await running.until(lambda: {1, 2, 3} <= {p for p, _ in service.ticks})
        behind = {p for p, _ in service.ticks}
        running.schemas.unreachable = False
        await running.until(lambda: 0 in {p for p, _ in service.ticks})

    assert 0 not in behind


@pytest.mark.usefixtures("hasty")
async def test_a_broker_that_is_away_is_no_silence(log: Any, start: Any) -> None:
    """What agents spool meanwhile is not known to be missing."""
    if not hasattr(log, "log"):
        pytest.skip("a broker that goes away is simulated")
    service = Waiting()
    running = start(service)
    asked: list[str] = []
    away_no_more: list[bool] = []

    def away(request: str) -> None:
        if request == "ends" and not away_no_more:
            asked.append(request)
            raise RetriableError("no broker", after_s=0.01)

    running.source.fail = away
    async with running:
        await running.until(lambda: len(asked) >= 3)
        before = list(service.ticks)
        away_no_more.append(True)
        await running.until(lambda: bool(service.ticks))

    assert before == []


async def test_each_topic_is_replayed_from_what_is_needed_of_it(
    log: Any, group: str, start: Any
) -> None:
    """A processor holds back offsets of several topics, each read again muted."""
    for n in range(4):
        await log.append(EVENTS, 0, event(n))
        await log.append(COMMANDS, 0, b"command")
    topics = (EVENTS, COMMANDS)
    first = Waiting(topics=topics, needed={EVENTS: 3, COMMANDS: 1})
    async with start(first) as running:
        await running.until(lambda: len(first.live.get(0, [])) == 8)
        await running.until(lambda: running.runner.is_ready and 0 in first.flushed)
    seen: list[tuple[Topic, int, bool]] = []

    def note(batch: EventBatch) -> None:
        seen.extend((batch.topic, one.offset, batch.replayed) for one in batch.records)

    second = Waiting(topics=topics, on_process=note)
    async with start(second) as running:
        await running.until(lambda: len(second.replayed.get(0, [])) >= 4)

    assert sorted(seen, key=lambda one: (one[0].name, one[1])) == [
        *((COMMANDS, offset, True) for offset in (1, 2, 3)),
        (EVENTS, 3, True),
    ]
