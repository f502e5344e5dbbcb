"""The bundled fleet is what it says: repeatable, lifelike, with known loops in it."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING

import pytest

from fleetwake.consumers.demo.figures import CODING, DESK, SEARCH, SHELL
from fleetwake.consumers.demo.fleet import AGENTS, Fleet, generate
from fleetwake.schemas.codec import PackagedSchemas, decode, encode

if TYPE_CHECKING:
    from fleetwake.schemas.event import AuditEvent

NOW_US = 1_790_000_000_000_000


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    """The fleet that the demonstration publishes."""
    return generate(seed=1, now_us=NOW_US)


def sessions(events: list[AuditEvent]) -> dict[str, list[AuditEvent]]:
    """Events by session, each in order."""
    found: dict[str, list[AuditEvent]] = {}
    for event in events:
        found.setdefault(event.session_id, []).append(event)
    return found


def calls(events: list[AuditEvent]) -> list[tuple[object, object]]:
    """(tool and arguments, answer) of each answered call of a session."""
    return [
        ((event.tool_name, event.arguments_digest), event.outcome_digest)
        for event in events
        if event.event_type in {"tool.complete", "tool.failure"}
    ]


def longest_repeat(events: list[AuditEvent]) -> int:
    """The most calls in a row that are equal, answers included."""
    return max((len(list(run)) for _, run in groupby(calls(events))), default=0)


def longest_alternation(events: list[AuditEvent]) -> int:
    """The most calls in a row in which two different calls take turns."""
    longest, run, made = 0, 0, calls(events)
    for number in range(2, len(made)):
        in_turn = made[number] == made[number - 2] != made[number - 1]
        run = (run or 2) + 1 if in_turn else 0
        longest = max(longest, run)
    return longest


def test_same_seed_makes_the_same_events() -> None:
    """Events depend on the arguments only; another seed makes others."""
    first = generate(sessions=30, seed=5, now_us=NOW_US)

    assert first == generate(sessions=30, seed=5, now_us=NOW_US)
    assert first != generate(sessions=30, seed=6, now_us=NOW_US)


def test_events_are_in_order_and_end_now(fleet: Fleet) -> None:
    """The last event is at the given time, and no id occurs twice."""
    times = [event.occurred_at for event in fleet.events]

    assert sorted(times) == times
    assert times[-1] == NOW_US
    assert len({event.event_id for event in fleet.events}) == len(fleet.events)


@pytest.mark.parametrize("seed", range(4))
def test_planted_loops_are_all_the_loops_there_are(seed: int) -> None:
    """Three equal calls in a row, or three laps of two, happen where planted only."""
    made = generate(sessions=100, seed=seed, now_us=NOW_US)
    by_session = sessions(made.events)
    repeats = {s for s, e in by_session.items() if longest_repeat(e) >= 3}
    turns = {s for s, e in by_session.items() if longest_alternation(e) >= 6}
    planted = {loop.session_id: loop for loop in made.loops}

    assert {s for s, x in planted.items() if x.rule != "cycle"} == repeats
    assert {s for s, x in planted.items() if x.rule == "cycle"} == turns
    for session_id, loop in planted.items():
        find = longest_alternation if loop.rule == "cycle" else longest_repeat
        assert loop.calls == find(by_session[session_id])


def test_small_fleet_has_every_kind_of_session() -> None:
    """Even twenty sessions show loops, polls and confirmations."""
    made = generate(sessions=20, seed=2, now_us=NOW_US)
    tools = {event.tool_name for event in made.events}

    assert len(sessions(made.events)) == 20
    assert len(made.loops) == 3
    assert {"get_job_status", "pay_refund"} <= tools
    assert any(event.event_type == "tool.confirmation" for event in made.events)


def test_polling_repeats_its_call_and_not_its_answer(fleet: Fleet) -> None:
    """Equal arguments many times, never the same answer twice."""
    polls = Counter(
        (event.session_id, event.arguments_digest)
        for event in fleet.events
        if event.tool_name == "get_job_status" and event.event_type == "tool.complete"
    )
    answers = {
        (event.session_id, event.outcome_digest)
        for event in fleet.events
        if event.tool_name == "get_job_status" and event.event_type == "tool.complete"
    }

    assert min(polls.values()) >= 6
    assert polls.total() == len(answers)


def test_every_answer_belongs_to_an_attempt(fleet: Fleet) -> None:
    """A call's records share tool, arguments and an id that its session has once."""
    for events in sessions(fleet.events).values():
        attempts = {
            (event.tool_call_id, event.tool_name, event.arguments_digest)
            for event in events
            if event.event_type == "tool.attempt"
        }
        answers = [
            (event.tool_call_id, event.tool_name, event.arguments_digest)
            for event in events
            if event.event_type in {"tool.complete", "tool.failure"}
        ]

        assert set(answers) <= attempts
        assert len(answers) == len(set(answers))


def test_tokens_stand_on_model_responses_only(fleet: Fleet) -> None:
    """Nothing counts twice."""
    with_tokens = {
        event.event_type for event in fleet.events if event.input_tokens is not None
    }

    assert {"model.response"} == with_tokens


def test_sizes_and_shares_are_near_the_figures() -> None:
    """What is drawn has the medians and the error share that were measured."""
    made = generate(sessions=1_000, seed=3, now_us=NOW_US)
    planted = {loop.session_id for loop in made.loops}
    work = {agent.name: agent.work for agent in AGENTS}
    for kind in (SHELL, SEARCH, CODING, DESK):
        answers = [
            event
            for event in made.events
            if event.agent_id
            and work[event.agent_id] is kind
            and event.session_id not in planted
            and event.tool_name in kind.tools
            and event.event_type in {"tool.complete", "tool.failure"}
        ]
        attempts = [
            event.arguments_chars
            for event in made.events
            if event.agent_id
            and work[event.agent_id] is kind
            and event.tool_name in kind.tools
            and event.arguments_chars is not None
        ]
        failed = sum(event.outcome == "failure" for event in answers) / len(answers)
        counts = Counter(event.session_id for event in answers)

        assert kind.error_share == pytest.approx(failed, abs=0.05)
        assert kind.arguments_chars.p50 == pytest.approx(median(attempts), rel=0.3)
        assert kind.calls.p50 == pytest.approx(median(counts.values()), abs=1.5)


def test_every_event_can_be_written_and_read(fleet: Fleet) -> None:
    """With the producer's stamps, all pass the strict codec unchanged."""
    schemas = PackagedSchemas()
    for number, event in enumerate(fleet.events[:2_000], start=1):
        stamped = event._replace(
            producer_id="p", sequence=number, recorded_at=event.occurred_at
        )

        assert stamped == decode(encode(stamped), schemas)
