"""What becomes of Calute's records."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from fleetwake.producer.adapters.calute import (
    TYPES,
    AgentSwitchEvent,
    AuditEvent,
    CaluteAdapter,
    SandboxDecisionEvent,
    SkillUsedEvent,
    ToolCallAttemptEvent,
    ToolCallCompleteEvent,
    ToolCallFailureEvent,
    ToolLoopBlockEvent,
    ToolLoopWarningEvent,
    ToolPolicyDecisionEvent,
    TurnEndEvent,
    TurnStartEvent,
    recognises,
    restore,
)
from fleetwake.producer.adapters.calute.types import OTHER
from fleetwake.producer.adapters.mapping import REPAIRED, UnmappableError
from fleetwake.producer.content import ABSENT
from fleetwake.producer.enrich import enriched
from fleetwake.schemas.event import EVENT_TYPES

RECORDING = (
    files("fleetwake.consumers.demo") / "recordings/calute_0.2.0_audit_events.jsonl"
)
LINES = [json.loads(line) for line in RECORDING.read_text("utf-8").splitlines()]
PAGE = Path(__file__).parents[2] / "docs" / "integrations" / "calute.md"


def adapter():
    return CaluteAdapter(stream="file", session_id="of the file")


def mapped(*records):
    """What one adapter makes of records, one after the other."""
    one = adapter()
    found = [one.map(said(record), ordinal=n) for n, record in enumerate(records)]
    assert all(len(each) == 1 for each in found)
    return [each[0] for each in found]


def said(record):
    return record.to_dict() if isinstance(record, AuditEvent) else record


def events(*records):
    return [one.event for one in mapped(*records)]


def event(record):
    return events(record)[0]


def content(record):
    return mapped(record)[0].content


def test_the_recording_is_what_was_counted_by_hand():
    """Each line's type and outcome; no fact of it counts twice."""
    expected = [
        ("turn.start", "unknown", "info"),
        ("policy.decision", "allowed", "info"),
        ("hook.mutation", "unknown", "info"),
        ("tool.attempt", "attempted", "info"),
        ("sandbox.decision", "unknown", "info"),
        ("tool.complete", "success", "info"),
        ("tool.attempt", "attempted", "info"),
        ("tool.failure", "failure", "error"),
        ("custom", "unknown", "info"),
        ("loop.warning", "unknown", "warning"),
        ("loop.block", "blocked", "error"),
        ("custom", "unknown", "info"),
        ("error", "unknown", "error"),
        ("turn.end", "unknown", "info"),
        ("custom", "unknown", "warning"),
        ("turn.start", "unknown", "info"),
        ("turn.end", "unknown", "info"),
    ]

    assert expected == [
        (one.event_type, one.outcome, one.severity) for one in events(*LINES)
    ]


def test_every_recorded_line_is_recognised_mapped_and_restored():
    """Nothing of it is lost, and its key is never null."""
    for line, one in zip(LINES, mapped(*LINES), strict=True):
        whole = enriched(*one)

        assert recognises(line)
        assert line == restore([whole])
        assert line["event_type"] == whole.source_event_type
        assert (line["session_id"] or "of the file") == whole.session_id
        assert whole.source == "calute"


def test_an_event_has_its_fields_in_their_columns():
    """What has a column stands there, what has only a name in the attributes."""
    complete = event(
        ToolCallCompleteEvent(
            agent_id="a", turn_id="t", session_id="s", tool_name="x", duration_ms=1.5
        )
    )
    switch = event(AgentSwitchEvent(from_agent="f", to_agent="g", reason="r"))
    sandbox = event(SandboxDecisionEvent(tool_name="x", context="host", reason="r"))
    skill = event(SkillUsedEvent(skill_name="ci", outcome="failure", duration_ms=2.0))
    failure = event(ToolCallFailureEvent(error_type="TimeoutError"))

    assert ("a", "t", "s", "x", 1.5) == (
        complete.agent_id,
        complete.turn_id,
        complete.session_id,
        complete.tool_name,
        complete.duration_ms,
    )
    assert ("f", "g", "r") == (switch.agent_from, switch.agent_to, switch.reason)
    assert ({"context": "host"}, "r") == (sandbox.attributes, sandbox.reason)
    assert {"skill_name": "ci", "triggered_automatically": "true"} == skill.attributes
    assert ("failure", 2.0) == (skill.outcome, skill.duration_ms)
    assert ("TimeoutError", "timeout") == (failure.error_type, failure.error_kind)


def test_ids_are_of_the_stream_the_ordinal_and_the_time():
    """A replay makes the same ones; another file or another run others."""
    record = {"event_type": "base", "timestamp": "2026-04-09T10:00:00Z"}
    later = record | {"timestamp": "2026-04-09T10:00:01Z"}

    def id_of(stream, record, ordinal):
        one = CaluteAdapter(stream=stream, session_id="s")
        return one.map(record, ordinal=ordinal)[0].event.event_id

    ids = {id_of("a", record, 1), id_of("b", record, 1)}
    ids |= {id_of("a", record, 2), id_of("a", later, 1)}

    assert id_of("a", record, 1) == id_of("a", record, 1)
    assert len(ids) == 4


@pytest.mark.parametrize("session", [None, "", 7, ["s"]])
def test_records_without_a_session_belong_to_that_of_their_stream(session):
    """Never one for each turn."""
    records = [
        TurnStartEvent(turn_id="t", session_id=session),
        TurnEndEvent(session_id=session),
    ]

    assert ["of the file"] * 2 == [one.session_id for one in events(*records)]


def test_an_agent_is_given_to_records_that_name_none():
    """For files that do not say whose they are."""
    one = CaluteAdapter(stream="f", session_id="s", agent_id="mine")
    agents = [
        one.map(AuditEvent(agent_id=agent).to_dict(), ordinal=1)[0].event.agent_id
        for agent in (None, "theirs")
    ]

    assert ["mine", "theirs"] == agents


# Calls

ATTEMPT = ToolCallAttemptEvent(turn_id="t", tool_name="x")
COMPLETE = ToolCallCompleteEvent(turn_id="t", tool_name="x")
FAILURE = ToolCallFailureEvent(turn_id="t", tool_name="x", error_type="ValueError")
BLOCK = ToolLoopBlockEvent(turn_id="t", tool_name="x", pattern="same_call")
LOOP_ERROR = ToolCallFailureEvent(
    turn_id="t", tool_name="x", error_type="ToolLoopError", error_message="a loop"
)
DENIAL = ToolPolicyDecisionEvent(turn_id="t", tool_name="x", action="deny")
VIOLATION = ToolCallFailureEvent(
    turn_id="t", tool_name="x", error_type="ToolPolicyViolation"
)


def calls(*records):
    """For each record, the number of the record that began its call."""
    found = events(*records)
    numbers = {one.event_id: number for number, one in enumerate(found)}
    return [one.tool_call_id and numbers[one.tool_call_id] for one in found]


def test_an_answer_belongs_to_the_oldest_call_that_has_none():
    """Of its turn and its tool."""
    other_turn = ToolCallAttemptEvent(turn_id="u", tool_name="x")
    other_tool = ToolCallAttemptEvent(turn_id="t", tool_name="y")

    assert [0, 1, 2, 3, 0, 3] == calls(
        ATTEMPT, other_turn, other_tool, ATTEMPT, COMPLETE, FAILURE
    )


def test_each_retry_is_a_call():
    """Attempt and failure, again and again."""
    assert [0, 0, 2, 2, 4, 4] == calls(
        ATTEMPT, FAILURE, ATTEMPT, FAILURE, ATTEMPT, COMPLETE
    )


def test_an_answer_without_an_attempt_is_a_call_of_its_own():
    """The file may begin in the middle of it."""
    assert [0, 1] == calls(COMPLETE, FAILURE)


@pytest.mark.parametrize("boundary", [TurnStartEvent, TurnEndEvent])
def test_a_call_that_its_turn_left_open_takes_no_later_answer(boundary):
    """Or all later answers of a turn without an id would belong to a wrong call."""
    attempt = ToolCallAttemptEvent(tool_name="x")
    complete = ToolCallCompleteEvent(tool_name="x")

    assert [0, None, 2, 2] == calls(attempt, boundary(), attempt, complete)


def test_what_is_kept_of_open_calls_is_bounded():
    """By calls, by turns, and by the length of hostile names."""
    one = adapter()
    for number in range(1100):
        for turn in ("t", f"{number}", "x" * 10_000 + f"{number}"):
            record = ToolCallAttemptEvent(turn_id=turn, tool_name="x" * 10_000)
            one.map(record.to_dict(), ordinal=number)
    turns = one._calls._turns
    waiting = [pair for tools in turns.values() for pair in tools.items()]

    assert 1000 == len(waiting) == one._calls._tools
    assert max(len(calls) for _, calls in waiting) <= 64
    assert {1024} == {len(tool) for (_, tool), _ in waiting}
    assert 1024 == max(len(turn) for _, turn in turns)


def test_many_tools_of_one_turn_are_bounded_too():
    """The oldest is forgotten, and what its turn's end forgets is counted once."""
    one = adapter()
    for number in range(1001):
        record = ToolCallAttemptEvent(turn_id="t", tool_name=f"{number}")
        one.map(record.to_dict(), ordinal=number)
    tools = [tool for _, tool in one._calls._turns["of the file", "t"]]

    assert [f"{number}" for number in range(1, 1001)] == tools
    one.map(TurnEndEvent(turn_id="t").to_dict(), ordinal=0)
    assert (0, 0) == (one._calls._tools, len(one._calls._turns))


def test_names_that_begin_alike_are_calls_of_their_own():
    """However late they differ."""
    names = ["x" * 5_000 + end for end in "ab"]
    attempts = [ToolCallAttemptEvent(turn_id="t", tool_name=name) for name in names]
    answers = [ToolCallCompleteEvent(turn_id="t", tool_name=name) for name in names]

    assert [0, 1, 1, 0] == calls(*attempts, *reversed(answers))


@pytest.mark.parametrize(
    ("decision", "error", "event_type", "outcome"),
    [
        (BLOCK, LOOP_ERROR, "loop.block", "blocked"),
        (DENIAL, VIOLATION, "policy.decision", "denied"),
    ],
)
def test_a_refused_call_counts_once(decision, error, event_type, outcome):
    """The error after a block or a denial is a second view of it."""
    first, second = events(decision, error)

    assert (event_type, outcome) == (first.event_type, first.outcome)
    assert ("custom", "unknown", "info") == (
        second.event_type,
        second.outcome,
        second.severity,
    )
    assert first.event_id == first.tool_call_id == second.tool_call_id


@pytest.mark.parametrize(
    ("records", "outcome"),
    [
        ([LOOP_ERROR], "blocked"),
        ([VIOLATION], "denied"),
        ([DENIAL, LOOP_ERROR], "blocked"),
        ([BLOCK, VIOLATION], "denied"),
    ],
)
def test_a_refused_call_of_which_only_the_error_is_told_counts_once(records, outcome):
    """Nothing came before it, or it was for another refusal."""
    last = events(*records)[-1]

    assert ("tool.blocked", outcome) == (last.event_type, last.outcome)


def test_a_retried_refusal_counts_each_time():
    """Block and error, four times."""
    types = [one.event_type for one in events(*[BLOCK, LOOP_ERROR] * 4)]

    assert ["loop.block", "custom"] * 4 == types


def test_an_error_of_another_kind_is_no_refusal():
    """A tool that fails after a denial of its name has failed."""
    assert events(DENIAL, FAILURE)[-1].event_type == "tool.failure"


# Warnings, outcomes, contents


@pytest.mark.parametrize(
    ("level", "event_type", "severity"),
    [
        ("ok", "custom", "info"),
        ("warning", "loop.warning", "warning"),
        ("critical", "loop.warning", "error"),
        ("", "loop.warning", "warning"),
        ("other", "loop.warning", "warning"),
    ],
)
def test_a_loop_warning_is_as_bad_as_its_level(level, event_type, severity):
    """The envelope says warning always, and `ok` is no warning at all."""
    found = event(ToolLoopWarningEvent(severity_level=level, pattern="none"))

    assert (event_type, severity) == (found.event_type, found.severity)
    assert found.attributes["pattern"] == "none"


@pytest.mark.parametrize(
    ("record", "outcome", "kept"),
    [
        (ToolCallCompleteEvent(status="success"), "success", {}),
        (ToolCallCompleteEvent(status="timeout"), "timeout", {}),
        (ToolCallCompleteEvent(status="odd"), "unknown", {"status": "odd"}),
        (ToolCallCompleteEvent(status=""), "unknown", {}),
        (ToolPolicyDecisionEvent(action="allow"), "allowed", {}),
        (ToolPolicyDecisionEvent(action="ask"), "unknown", {"action": "ask"}),
    ],
)
def test_an_outcome_that_nobody_knows_is_kept_beside(record, outcome, kept):
    """It is unknown, never a success."""
    found = event(record)

    assert (outcome, kept) == (found.outcome, found.attributes)


def test_a_severity_that_nobody_knows_is_kept_beside():
    """The event is informational."""
    found = event(AuditEvent(severity="fatal"))

    assert ("info", {"severity": "fatal"}) == (found.severity, found.attributes)


@pytest.mark.parametrize(
    ("record", "part"),
    [
        (ToolCallAttemptEvent(arguments_preview="%s"), "arguments"),
        (ToolCallCompleteEvent(result_preview="%s"), "result"),
        (TurnStartEvent(prompt_preview="%s"), "text"),
        (TurnEndEvent(content_preview="%s"), "text"),
    ],
)
def test_a_preview_that_may_be_cut_is_a_preview(record, part):
    """199 code points are whole; of 200 nobody knows; none at all say nothing."""
    name = next(name for name, value in vars(record).items() if value == "%s")
    for text, basis in [("é" * 199, "full"), ("é" * 200, "preview")]:
        found = content(said(record) | {name: text})

        assert (text, basis) == (getattr(found, part), found.basis)

    nothing = content(said(record) | {name: ""})

    assert getattr(nothing, part) in (ABSENT, None)
    assert nothing.basis == "full"


def test_a_long_error_is_whole():
    """Calute does not cut it."""
    found = content(ToolCallFailureEvent(error_message="x" * 500))

    assert ("x" * 500, "full") == (found.error, found.basis)


# Bad input


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"event_type": None}, "event_type_missing"),
        ({"event_type": 7}, "event_type_missing"),
        ({"timestamp": None}, "timestamp_missing"),
        ({"timestamp": 1.5}, "timestamp_not_text"),
        ({"timestamp": "2026-04-09T10:00:00"}, "timestamp_without_zone"),
        ({"timestamp": "now"}, "timestamp_malformed"),
    ],
)
def test_what_no_event_can_be_made_of_is_refused_with_its_reason(change, reason):
    """It becomes a dead letter."""
    with pytest.raises(UnmappableError) as caught:
        event(LINES[0] | change)

    assert reason == caught.value.reason


@pytest.mark.parametrize(
    ("duration", "expected", "note"),
    [
        (0, 0.0, None),
        (3, 3.0, None),
        (None, None, None),
        (-1.0, None, "negative_duration"),
        (float("nan"), None, "not_finite"),
        ("NaN", None, "duration_ms"),
        (True, None, "duration_ms"),
        (10**400, None, "duration_ms"),
    ],
)
def test_a_duration_that_is_none_is_left_out_with_a_note(duration, expected, note):
    """The event is taken."""
    found = event(said(COMPLETE) | {"duration_ms": duration})

    assert (expected, note) == (found.duration_ms, found.attributes.get(REPAIRED))


def test_fields_of_a_wrong_type_are_left_out_with_a_note():
    """And stand in the payload as they came."""
    wrong = said(COMPLETE) | {"agent_id": 5, "turn_id": [1], "tool_name": {"a": None}}
    (one,) = mapped(wrong)

    assert (None, None, None) == (
        one.event.agent_id,
        one.event.turn_id,
        one.event.tool_name,
    )
    assert one.event.attributes[REPAIRED] == "turn_id,tool_name,agent_id"
    assert wrong == restore([enriched(*one)])


def test_a_users_type_is_custom_and_whole():
    """Its name and its fields are kept as they are."""
    record = said(AuditEvent()) | {"event_type": "mine", "tool_name": "x", "k": [1]}
    (one,) = mapped(record)

    assert ("custom", "mine", "x") == (
        one.event.event_type,
        one.event.source_event_type,
        one.event.tool_name,
    )
    assert record == restore([enriched(*one)])


def test_nothing_comes_back_of_an_event_without_its_payload():
    """A content policy may have dropped it."""
    with pytest.raises(ValueError, match="no payload"):
        restore([event(ATTEMPT)])


# The page


def test_the_page_has_the_table_of_the_code():
    """Types, what they count as, and what else they may become."""
    rows = {f"`{name}`": row for name, row in TYPES.items()} | {"any other": OTHER}
    expected = [
        (
            name,
            f"`{row.event_type}`",
            row.counts or "nothing",
            "; ".join(f"`{to}`: {why}" for to, why in row.otherwise.items()),
        )
        for name, row in rows.items()
    ]
    section = PAGE.read_text("utf-8").partition("## What becomes what")[2]
    row_of = re.compile(r"^\| (.*?) \| (.*?) \| (.*?) \| (.*?) ?\|$", re.MULTILINE)

    assert expected == row_of.findall(section)[2:]


def test_every_type_becomes_one_that_there_is():
    """The list of event types is closed."""
    become = {
        name for row in TYPES.values() for name in (row.event_type, *row.otherwise)
    }

    assert become <= EVENT_TYPES


def test_other_formats_are_not_calutes():
    """One key less, or our own events."""
    whole = LINES[0]

    for name in ("event_type", "timestamp", "session_id", "metadata"):
        assert not recognises({k: v for k, v in whole.items() if k != name})
