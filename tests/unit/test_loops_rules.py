"""What is a loop and what is not, told by one session's events."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import pyarrow as pa
import pytest

from fleetwake.consumers.loops.processor import PartitionLoops
from fleetwake.consumers.loops.settings import LoopsSettings
from fleetwake.consumers.runtime.service import EventBatch, PartitionStart, Record
from fleetwake.schemas.codec import PackagedSchemas, decode_record
from fleetwake.schemas.columnar import EVENT_SCHEMA
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.records import LoopAlert
from fleetwake.schemas.topics import EVENTS

_ids = count()


def event(event_type, tool=None, arguments=None, result=None, **fields):
    """An event of the one session; digests are small numbers."""
    fields = {"fingerprint_version": 1, "digest_basis": "full"} | fields
    return AuditEvent(
        event_type=event_type,
        tool_name=tool,
        arguments_digest=arguments,
        outcome_digest=result,
        **fields,
    )


def attempt(tool, arguments, **fields):
    return event("tool.attempt", tool, arguments, outcome="attempted", **fields)


def complete(tool, arguments, result, **fields):
    return event(
        "tool.complete", tool, arguments, result, **({"outcome": "success"} | fields)
    )


def failure(tool, arguments, result=None):
    return event("tool.failure", tool, arguments, result, outcome="failure")


def blocked(tool, arguments):
    return event("tool.blocked", tool, arguments, outcome="blocked")


def call(tool, arguments, result):
    """Attempt and answer, joined by an id; the answer does not repeat the arguments."""
    name = f"call-{next(_ids)}"
    return [
        attempt(tool, arguments, tool_call_id=name),
        complete(tool, None, result, tool_call_id=name),
    ]


USER = event("user.input")
END = event("session.end")


async def alerts(*script):
    """What the service publishes for one session, as (rule, state, level, count)."""
    events = [
        one._replace(
            event_id=f"event-{offset}",
            session_id="session",
            producer_id="producer",
            sequence=offset + 1,
            occurred_at=offset,
        )
        for offset, one in enumerate(flatten(script))
    ]
    published = []
    processor = PartitionLoops(start(published), LoopsSettings())
    processor.process(batch(events))
    await processor.flush()
    schemas = PackagedSchemas()
    return [decode_record(LoopAlert, one.value, schemas) for one in published]


def flatten(script):
    for one in script:
        yield from [one] if isinstance(one, AuditEvent) else flatten(one)


def start(published):
    async def publish(records):
        published.extend(records)

    return PartitionStart(
        topic=EVENTS,
        topic_name="fleetwake.events",
        partition=0,
        log_start=0,
        log_end=0,
        committed=None,
        publisher=SimpleNamespace(publish=publish),
        reader=SimpleNamespace(),
    )


def batch(events):
    rows = [one._asdict() | {"attributes": []} for one in events]
    return EventBatch(
        topic=EVENTS,
        partition=0,
        records=[Record(offset, 0, b"session", b"") for offset in range(len(events))],
        events=pa.RecordBatch.from_pylist(rows, schema=EVENT_SCHEMA),
        rows=range(len(events)),
    )


def changes(found):
    return [(one.rule, one.state, one.level, one.count) for one in found]


WARNED = ("identical_call", "open", "warning", 3)
ESCALATED = ("identical_call", "escalated", "critical", 5)


async def test_identical_calls_with_one_answer_warn_at_three_and_are_critical_at_five():
    """An episode opens, escalates, and resolves with the first different call."""
    found = await alerts([call("grep", 1, 7)] * 7, call("read", 1, 7))

    assert changes(found) == [
        WARNED,
        ESCALATED,
        ("identical_call", "resolved", "critical", 7),
    ]
    assert len({one.alert_id for one in found}) == 1
    assert [one.first_event_id for one in found] == ["event-0"] * 3
    assert [one.last_event_id for one in found] == ["event-5", "event-9", "event-14"]


async def test_the_reason_names_the_tool_and_the_count():
    """A human learns from one sentence what goes on."""
    found = await alerts([call("grep", 1, 7)] * 5)

    assert found[-1].reason == (
        "`grep` was called 5 times in a row with the same arguments and the same answer"
    )


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([call("grep", 1, 7)] * 2, id="twice is no loop"),
        pytest.param([complete("grep", 1, 7)] * 2, id="answers only"),
        pytest.param(
            [attempt("grep", 1, round_id="r")] * 9
            + [complete("grep", None, 7, round_id="r")] * 9,
            id="a fan-out in one round",
        ),
        pytest.param(
            [call("grep", 1, 7), call("read", 2, 8), call("grep", 1, 7)] * 2,
            id="something else is tried",
        ),
        pytest.param([call("grep", n, 7) for n in range(9)], id="arguments vary"),
        pytest.param([call("grep", 1, n) for n in range(9)], id="answers vary"),
        pytest.param([call("grep", 1, None)] * 9, id="answers are not known"),
        pytest.param([call("grep", None, 7)] * 30, id="arguments are not known"),
        pytest.param(
            [complete("grep", 1, 7, fingerprint_version=n) for n in range(6)],
            id="digests of other versions",
        ),
        pytest.param(
            [call("get_job_status", 1, n) for n in range(40)], id="polls a job"
        ),
        pytest.param(
            [[call("edit", n, 7), call("build", 1, n)] for n in range(9)],
            id="edits and builds",
        ),
        pytest.param(
            [[call("sleep", 1, 7), call("tail", 1, n)] for n in range(30)],
            id="sleeps and looks",
        ),
        pytest.param(
            [[call("a", 1, 7), call("b", 1, 8), call("c", 1, 9)]] * 9,
            id="a longer period is another rule's",
        ),
        pytest.param(
            [[call("grep", 1, 7)] * 2, event("user.input")] * 5, id="the user speaks"
        ),
        pytest.param(
            [[call("grep", 1, 7)] * 2, event("turn.start")] * 5, id="a new turn"
        ),
        pytest.param(
            [[call("grep", 1, 7)] * 2, event("session.end")] * 5, id="session ends"
        ),
    ],
)
async def test_healthy_work_is_left_alone(script):
    """No alert of any level."""
    assert changes(await alerts(script)) == []


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(lambda n: call("grep", 1, 7), id="attempt and answer"),
        pytest.param(lambda n: complete("grep", 1, 7), id="answer only"),
        pytest.param(
            lambda n: [attempt("grep", 1), complete("grep", None, 7)],
            id="no call id: joined by tool",
        ),
        pytest.param(
            lambda n: [
                attempt("grep", None, tool_call_id=f"c{n}"),
                complete("grep", 1, 7, tool_call_id=f"c{n}"),
            ],
            id="only the answer has arguments",
        ),
        pytest.param(
            lambda n: [
                event("tool.confirmation", "grep", 1, tool_call_id=f"c{n}"),
                complete("grep", 1, 7, tool_call_id=f"c{n}"),
            ],
            id="a pause, then the answer",
        ),
        pytest.param(
            lambda n: [
                complete("grep", 1, 7, tool_call_id=f"c{n}"),
                event("tool.persistence_failed", "grep", 1, tool_call_id=f"c{n}"),
                complete("grep", 1, 7, tool_call_id=f"c{n}"),
            ],
            id="answered twice",
        ),
        pytest.param(lambda n: failure("grep", 1, n), id="fails, with other words"),
        pytest.param(lambda n: blocked("grep", 1), id="blocked"),
        pytest.param(
            lambda n: blocked("grep", 1) if n % 2 else complete("grep", 1, 7),
            id="now and then blocked",
        ),
        pytest.param(
            lambda n: [
                call("grep", 1, 7),
                event("tool.blocked", "rm", None, outcome="denied"),
            ],
            id="a veto without arguments in between",
        ),
    ],
)
async def test_a_call_counts_once_whatever_the_source_tells(one):
    """Five calls in a row are five, not ten and not none."""
    found = await alerts(one(n) for n in range(5))

    assert changes(found) == [WARNED, ESCALATED]


async def test_parallel_calls_count_when_their_answers_come():
    """Attempts first, then answers in another order."""
    names = ["a", "b", "c"]

    found = await alerts(
        [attempt("grep", 1, tool_call_id=name) for name in names],
        [complete("grep", None, 7, tool_call_id=name) for name in reversed(names)],
    )

    assert changes(found) == [WARNED]


async def test_more_calls_in_the_air_than_are_remembered_forget_the_oldest():
    """The answer of a forgotten attempt is a call of its own, with its arguments."""
    names = [f"{n}" for n in range(40)]

    found = await alerts(
        [attempt("grep", n, tool_call_id=name) for n, name in enumerate(names)],
        [complete("grep", 0, 7, tool_call_id=name) for name in names[:3]],
    )

    assert changes(found) == [WARNED]


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(lambda n: call("score", 1, n), id="answers vary"),
        pytest.param(lambda n: call("score", 1, None), id="answers are not known"),
        pytest.param(lambda n: attempt("score", 1), id="attempts only"),
    ],
)
async def test_identical_calls_without_one_answer_need_ten_and_twenty(one):
    """Slower: the agent may be waiting, or nobody can tell."""
    found = await alerts(one(n) for n in range(25))

    assert changes(found) == [
        ("identical_call", "open", "warning", 10),
        ("identical_call", "escalated", "critical", 20),
    ]


@pytest.mark.parametrize("reset", [USER, END, event("turn.start")])
async def test_an_open_episode_resolves_with_the_user_the_turn_or_the_session(reset):
    """What happens afterwards is another episode."""
    found = await alerts([call("grep", 1, 7)] * 3, reset, [call("grep", 1, 7)] * 3)

    assert changes(found) == [
        WARNED,
        ("identical_call", "resolved", "warning", 3),
        WARNED,
    ]
    assert len({one.alert_id for one in found}) == 2


async def test_a_cut_preview_may_warn_and_never_is_critical():
    """Two calls that look alike in 200 characters may differ later."""
    found = await alerts([complete("grep", 1, 7, digest_basis="preview")] * 30)

    assert changes(found) == [WARNED]


async def test_two_calls_in_turn_warn_at_three_laps_and_are_critical_at_five():
    """A B A B A B with the same arguments and answers; a third call resolves it."""
    laps = [[call("read", 1, 7), call("list", 2, 8)]] * 6

    found = await alerts(call("open", 0, 1), laps, call("write", 3, 9))

    assert changes(found) == [
        ("alternating_calls", "open", "warning", 3),
        ("alternating_calls", "escalated", "critical", 5),
        ("alternating_calls", "resolved", "critical", 6),
    ]
    assert {"event-2"} == {one.first_event_id for one in found}
    assert found[1].reason == (
        "`read` and `list` were called in turn, 5 times each, with the same "
        "arguments and the same answers"
    )


async def test_two_calls_in_turn_whose_answers_are_not_known_need_ten_laps():
    """As identical calls do."""
    found = await alerts([[attempt("read", 1), attempt("list", 2)]] * 12)

    assert changes(found) == [("alternating_calls", "open", "warning", 10)]


async def test_an_answer_that_changes_starts_the_laps_anew():
    """Two laps with one answer and two with another are no three."""
    laps = [[call("read", 1, 7), call("list", 2, n // 2)] for n in range(8)]

    assert changes(await alerts(laps)) == []


async def test_hostile_tool_names_are_shown_without_control_characters():
    """A name can neither colour a terminal nor fill a page."""
    found = await alerts([call("\x1b[31mgrep\u202e\n" + "x" * 500, 1, 7)] * 3)

    assert found[0].reason.startswith("`[31mgrepxxx")
    assert found[0].reason.isprintable()
    assert len(found[0].reason) < 200
