"""What a guard answers, stops and tells, on verdicts in memory."""

from __future__ import annotations

import asyncio
import inspect
import logging
import pickle
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from fleetwake.producer.guard import (
    Decision,
    LoopGuard,
    SessionBlockedError,
    Verdicts,
)
from fleetwake.producer.guard.table import BlockTable
from fleetwake.producer.testing import MemoryLog, memory_producer
from fleetwake.schemas.records import Block

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def guard(log: MemoryLog) -> LoopGuard:
    return LoopGuard("s-1", verdicts=log.verdicts)


def soon(seconds: float) -> int:
    return time.time_ns() // 1000 + round(seconds * 1e6)


def answer(guard: LoopGuard, tool_name: str | None = None) -> tuple[str, str | None]:
    decision = guard.check(tool_name)
    return decision.action, decision.reason


# Answers


def test_a_session_without_a_verdict_may_go_on(guard: LoopGuard) -> None:
    """And that is known."""
    decision = guard.check("look")

    assert ("allow", True) == (decision.action, decision.known)


def test_a_block_stops_all_tools_of_its_session_only(
    log: MemoryLog, guard: LoopGuard
) -> None:
    """With reason, end and alert."""
    until = soon(60)
    log.block("s-1", "round in circles", until=until, alert_id="a-1")
    other = LoopGuard("s-2", verdicts=log.verdicts)

    decision = guard.check("look")._replace(age_s=None)
    assert decision == Decision(
        "block", "round in circles", until, "a-1", "session", known=True
    )
    assert "block" == guard.check().action
    assert "allow" == other.check("look").action


def test_a_block_of_a_tool_stops_that_tool(log: MemoryLog, guard: LoopGuard) -> None:
    """Others go on; of the session as a whole it is a warning."""
    log.block("s-1", "look fails", tool_name="look\ud800")

    assert ("block", "look fails") == answer(guard, "look\ud800")
    assert ("allow", None) == answer(guard, "find")
    assert ("warn", "look fails") == answer(guard)


def test_a_warning_stops_nothing(log: MemoryLog, guard: LoopGuard) -> None:
    """It is what shadow mode would have done; its scope is told without the word."""
    log.block("s-1", "would stop", tool_name="look", warn=True)

    assert ("warn", "tool:look") == (guard.check("look")[0], guard.check("look").scope)
    assert ("allow", None) == answer(guard, "find")
    log.block("s-1", "stops", tool_name="look")
    assert ("block", "stops") == answer(guard, "look")


def test_the_block_that_lasts_longest_is_told(log: MemoryLog, guard: LoopGuard) -> None:
    """Without an end is longest."""
    log.block("s-1", "short", until=soon(10))
    log.block("s-1", "long", until=soon(1000))
    assert ("block", "long") == answer(guard)
    log.block("s-1", "for ever")
    log.block("s-1", "middle", until=soon(100))

    assert ("block", "for ever") == answer(guard)


def test_a_block_ends_by_itself(log: MemoryLog, guard: LoopGuard) -> None:
    """By the local clock, when it is asked."""
    log.block("s-1", "over", until=soon(-0.001))

    assert ("allow", None) == answer(guard)


def test_a_release_ends_a_block(log: MemoryLog, guard: LoopGuard) -> None:
    """The newest verdict is the whole truth."""
    log.block("s-1", "r")
    log.release("s-1")

    assert ("allow", None) == answer(guard)


def test_a_scope_from_the_future_stops_nothing(guard: LoopGuard) -> None:
    """What a guard does not know it must not act on."""
    table = BlockTable()
    table.put("s-1", [Block(scope="fleet", reason="r", issuer="i")])
    verdicts = Verdicts()
    verdicts.confirm(table, time.monotonic())

    assert "allow" == LoopGuard("s-1", verdicts=verdicts).check("look").action


def test_a_session_id_with_lone_surrogates_is_found(log: MemoryLog) -> None:
    """It is published with U+FFFD in their place."""
    log.block("s\ufffd", "r")

    assert "block" == LoopGuard("s\ud800", verdicts=log.verdicts).check().action


def test_an_answer_takes_microseconds(log: MemoryLog, guard: LoopGuard) -> None:
    """Far below the millisecond that is promised, also with many blocks."""
    for number in range(200):
        log.block("s-1", "r", tool_name=f"tool {number}")
    begin = time.perf_counter()
    for _ in range(1000):
        guard.check("tool 199")

    assert time.perf_counter() - begin < 0.2


# What is not known


def test_what_is_not_known_is_allowed_counted_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line when that begins, one when it is over."""
    caplog.set_level(logging.INFO, "fleetwake.producer")
    verdicts = Verdicts()
    guard = LoopGuard("s-1", verdicts=verdicts)

    assert Decision("allow", known=False) == guard.check("look")
    assert not guard.wait(0)
    guard.check("look")
    assert 2 == guard.statistics().failed_open
    verdicts.confirm(BlockTable(), time.monotonic())
    verdicts.confirm(BlockTable(), time.monotonic())
    assert guard.check("look").known
    assert guard.wait(0)
    assert [
        "Calls go on without a verdict: they are still being read.",
        "Verdicts are known again.",
    ] == caplog.messages


def test_the_last_blocks_hold_while_nobody_answers() -> None:
    """And the answer says how old it is."""
    table = BlockTable()
    table.put("s-1", [Block(reason="r", issuer="i")])
    verdicts = Verdicts(stale_after_s=10)
    verdicts.confirm(table, time.monotonic() - 60)
    blocked = LoopGuard("s-1", verdicts=verdicts).check()
    free = LoopGuard("s-2", verdicts=verdicts).check()

    assert ("block", False) == (blocked.action, blocked.known)
    assert ("allow", False) == (free.action, free.known)
    assert 60 <= (blocked.age_s or 0) < 70
    assert 1 == verdicts.statistics().failed_open


def test_an_unreadable_verdict_fails_open() -> None:
    """For its session: what an older one said may be over."""
    table = BlockTable()
    table.put("s-1", [Block(reason="r", issuer="i")])
    table.put("s-1", None)
    verdicts = Verdicts()
    verdicts.confirm(table, time.monotonic())

    assert not LoopGuard("s-1", verdicts=verdicts).check().known
    assert LoopGuard("s-2", verdicts=verdicts).check().known


def test_too_many_blocks_evict_the_oldest_and_say_so() -> None:
    """Memory is bounded; who is not found is then not known."""
    table = BlockTable(max_blocks=3)
    for number in range(3):
        table.put(f"s-{number}", [Block(reason="r", issuer="i")])
    both = [Block(scope=scope, reason="r", issuer="i") for scope in ("session", "x")]
    table.put("s-3", both)
    verdicts = Verdicts()
    verdicts.confirm(table, time.monotonic())
    answers = [verdicts.check(f"s-{number}") for number in range(4)]

    assert ["allow", "allow", "block", "block"] == [one.action for one in answers]
    assert [False, False, True, True] == [one.known for one in answers]
    assert (2, 2) == (len(table), verdicts.statistics().evicted)


def test_sessions_whose_blocks_have_ended_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A topic keeps them for days, a process does not."""
    table = BlockTable(max_blocks=2)
    table.put("over", [Block(reason="r", issuer="i", until=soon(-1))])
    table.put("s-1", [Block(reason="r", issuer="i", until=soon(60))])
    monkeypatch.setattr("fleetwake.producer.guard.table._SWEEP_S", -1.0)
    table.sweep()
    table.put("s-2", [Block(reason="r", issuer="i")])

    assert (2, 0) == (len(table), table.evicted)
    assert "over" not in table


# Stopping calls


def test_a_stopped_call_is_not_made(log: MemoryLog, guard: LoopGuard) -> None:
    """The error says who, why, until when, and how it is released."""
    log.block("s-1", "round in circles", until=1_900_000_000_000_000, alert_id="a-1")
    calls: list[str] = []

    @guard.protect
    def look(where: str) -> None:
        calls.append(where)

    with pytest.raises(SessionBlockedError) as caught:
        look("here")
    assert [] == calls
    assert (
        "look was not called, session s-1 is stopped: round in circles. "
        "It ends at 2030-03-17 17:46:40 UTC, or when released before (alert a-1)."
    ) == str(caught.value)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.session_id, copy.until, copy.alert_id) == (
        "s-1",
        1_900_000_000_000_000,
        "a-1",
    )
    assert str(copy) == str(caught.value)
    log.release("s-1")
    look("there")
    assert ["there"] == calls
    assert 1 == guard.statistics().stopped


async def test_a_coroutine_is_stopped_when_it_is_awaited(
    log: MemoryLog, guard: LoopGuard
) -> None:
    """And stays a coroutine function, for frameworks that ask."""

    @guard.protect(tool_name="web_search")
    async def search(query: str) -> str:
        await asyncio.sleep(0)
        return query

    assert inspect.iscoroutinefunction(search)
    assert "search" == search.__name__
    assert "q" == await search("q")
    waiting = search("q")
    log.block("s-1", "r", tool_name="web_search")
    with pytest.raises(SessionBlockedError):
        await waiting


async def test_other_callables_are_stopped_when_they_are_called(
    log: MemoryLog, guard: LoopGuard
) -> None:
    """Generators, asynchronous ones, objects, partials, methods."""

    class Tool:
        def __call__(self) -> str:
            return "called"

        def method(self) -> str:
            return "method"

    def many() -> Iterator[int]:
        yield 1

    async def many_later() -> AsyncIterator[int]:
        yield 2

    assert [1] == list(guard.protect(many)())
    assert [2] == [one async for one in guard.protect(many_later)()]
    assert "called" == guard.protect(Tool())()
    assert "method" == guard.protect(Tool().method)()
    assert "x" == guard.protect(partial(str, "x"))()
    log.block("s-1", "r", tool_name="Tool")
    with pytest.raises(SessionBlockedError):
        guard.protect(Tool())()
    log.block("s-1", "r", tool_name="many")
    with pytest.raises(SessionBlockedError):
        guard.protect(many)()


def test_a_body_is_stopped_before_it_begins(log: MemoryLog, guard: LoopGuard) -> None:
    """What the body itself raises passes through."""
    with guard.call("look") as decision:
        assert "allow" == decision.action
    with pytest.raises(ZeroDivisionError), guard.call("look"):
        _ = 1 / 0
    log.block("s-1", "r")
    with pytest.raises(SessionBlockedError), guard.call("look"):
        pytest.fail("it began")


def test_a_warning_is_told_before_the_call(
    log: MemoryLog, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the callback raises, the call is made."""
    told: list[Decision] = []

    def on_warn(decision: Decision) -> None:
        told.append(decision)
        raise RuntimeError

    log.block("s-1", "slow down", warn=True)
    guard = LoopGuard("s-1", verdicts=log.verdicts, on_warn=on_warn)
    made = []
    with guard.call("look"):
        made.append(1)

    assert [1] == made
    assert ["slow down"] == [one.reason for one in told]
    assert 1 == guard.statistics().warned
    assert ["on_warn of a LoopGuard failed"] == caplog.messages


def test_a_stopped_call_is_an_event() -> None:
    """So that the archive shows that the brake worked."""
    producer, log = memory_producer()
    guard = LoopGuard("s-1", agent_id="a", verdicts=log.verdicts, producer=producer)
    log.block("s-1", "r", alert_id="a-1", until=1_900_000_000_000_000)
    with producer, pytest.raises(SessionBlockedError), guard.call("look"):
        pytest.fail("it began")

    event = log.assert_event(event_type="tool.blocked")
    assert ("s-1", "a", "look", "blocked", "r") == (
        event.session_id,
        event.agent_id,
        event.tool_name,
        event.outcome,
        event.reason,
    )
    assert {
        "scope": "session",
        "alert_id": "a-1",
        "until": "1900000000000000",
    } == event.attributes


def test_a_producer_that_fails_does_not_show(log: MemoryLog) -> None:
    """A stopped call raises one kind of error only."""
    producer, _ = memory_producer(strict=True)
    producer.close()
    guard = LoopGuard("s-1", verdicts=log.verdicts, producer=producer)
    log.block("s-1", "r")

    with pytest.raises(SessionBlockedError), guard.call("look"):
        pytest.fail("it began")
