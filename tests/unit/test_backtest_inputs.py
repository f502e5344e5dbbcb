"""What a back-test makes of files: events, their places, and what it refuses."""

from __future__ import annotations

import gzip
import json
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest

from fleetwake.consumers.loops.backtest.events import event_entries
from fleetwake.consumers.loops.backtest.inputs import read_files, read_labels
from fleetwake.consumers.loops.backtest.recording import Expected
from fleetwake.schemas.errors import ConfigurationError
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.models import to_json

if TYPE_CHECKING:
    from pathlib import Path

LOOP = {
    "loop": True,
    "pattern": "cycle",
    "first_step_at_or_before": 5,
    "not_before": 3,
}


def case(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"case_id": "c", "steps": list(steps), "expect": LOOP} | fields


def row(kind: str, seq: int, **fields: Any) -> dict[str, Any]:
    return {"session_id": "s", "seq": seq, "kind": kind} | fields


def write(folder: Path, *lines: Any) -> str:
    file = folder / "input.jsonl"
    texts = [one if isinstance(one, str) else json.dumps(one) for one in lines]
    file.write_text("\n".join(texts))
    return str(file)


def read(folder: Path, *lines: Any, **options: Any):
    return read_files([write(folder, *lines)], **options)


def events(folder: Path, *steps: dict[str, Any]) -> list[AuditEvent]:
    [recording] = read(folder, case(*steps))
    return [entry.event for entry in recording.entries]


def types(found: list[AuditEvent]) -> list[str]:
    return [event.event_type for event in found]


# Cases


def test_a_finished_call_is_an_attempt_and_its_answer(tmp_path):
    """With the digests that a producer makes, so that key order does not matter."""
    found = events(
        tmp_path,
        {"tool": "t", "args": {"a": 1, "b": 2}, "result": "x", "error": None},
        {"tool": "t", "args": '{"b": 2, "a": 1}', "result": None, "error": "no 7"},
        {"tool": "t", "args": {}, "result": None, "error": None},
    )
    asked, answered, again, failed, _, unknown = found

    assert ["tool.attempt", "tool.complete"] == types(found)[:2]
    assert asked.arguments_digest is not None
    assert asked.arguments_digest == again.arguments_digest
    assert asked.tool_call_id == answered.tool_call_id != again.tool_call_id
    assert ("success", True) == (
        answered.outcome,
        answered.outcome_digest is not None,
    )
    assert ("tool.failure", "failure") == (failed.event_type, failed.outcome)
    assert failed.error_class_digest is not None
    assert ("unknown", None) == (unknown.outcome, unknown.outcome_digest)


def test_a_step_says_its_place_time_round_and_turn(tmp_path):
    """Steps count from 1; a turn goes on until the next."""
    [recording] = read(
        tmp_path,
        case(
            {"kind": "turn_start", "turn": 4},
            {"tool": "t", "args": {}, "result": "", "round": 2, "ts": 60_000},
        ),
    )
    start, asked, answered = recording.entries

    assert [1, 2, 2] == [entry.place for entry in recording.entries]
    assert 60_000 == asked.at_ms - start.at_ms == answered.at_ms - start.at_ms
    assert ["4", "4"] == [start.event.turn_id, asked.event.turn_id]
    assert [None, "2"] == [start.event.round_id, asked.event.round_id]
    assert {"c": Expected(True, "cycle", 3, 5)} == recording.expected


def test_a_pending_call_is_answered_by_its_id(tmp_path):
    """And may tell of its progress before."""
    found = events(
        tmp_path,
        {"tool": "t", "args": {}, "call_id": "c1", "pending": True},
        {"kind": "tool_progress", "call_id": "c1"},
        {"kind": "tool_result", "call_id": "c1", "result": "done"},
    )

    assert ["tool.attempt", "tool.progress", "tool.complete"] == types(found)
    assert {"c1"} == {event.tool_call_id for event in found}


def test_other_kinds_are_events_too(tmp_path):
    """Kinds that nobody knows as well, so that a new file does not stop an old tool."""
    found = events(
        tmp_path,
        {"kind": "user", "text": "go"},
        {"kind": "assistant", "text": "I am done. " * 30},
        {"kind": "context_condensed"},
        {"kind": "delegate", "from": "a", "to": "b", "task": "t"},
        {"kind": "delegate_end", "from": "a", "to": "b"},
        {"kind": "model_request", "request_id": "m1"},
        {"kind": "watermark", "ts": 1},
        {"kind": "session_end"},
        {"kind": "moon_phase", "new": True},
    )

    assert [
        *("user.input", "assistant.message", "context.condensed"),
        *("delegation.start", "delegation.end", "model.request", "mark"),
        *("session.end", "custom"),
    ] == types(found)
    assert 30 == found[1].text_repeats
    assert ("a", "b") == (found[3].agent_from, found[3].agent_to)
    assert found[3].arguments_digest is not None
    assert {"c", "watermark"} == {event.session_id for event in found}


def test_sessions_of_a_case_have_sequences_of_their_own(tmp_path):
    """As their producers would give them."""
    steps = [{"tool": "t", "args": {}, "result": "", "session": s} for s in "abab"]
    found = events(tmp_path, *steps)

    assert [1, 2, 1, 2, 3, 4, 3, 4] == [event.sequence for event in found]


def test_tokens_of_a_step_are_those_of_the_model_behind_it(tmp_path):
    """They stand on its response only, and so count once."""
    found = events(
        tmp_path,
        {"tool": "t", "args": {}, "result": "", "input_tokens": 7},
        {"kind": "model_response", "output_tokens": 8},
    )

    assert [
        ("model.response", 7, None),
        ("tool.attempt", None, None),
        ("tool.complete", None, None),
        ("model.response", None, 8),
    ] == [(one.event_type, one.input_tokens, one.output_tokens) for one in found]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(False, "success"), ("", "failure"), ({"code": 5}, "failure"), (True, "failure")],
)
def test_an_error_is_a_text_or_what_json_can_say(tmp_path, error, outcome):
    """Not all who write cases write them as we do."""
    found = events(tmp_path, {"tool": "t", "args": {}, "result": "x", "error": error})

    assert outcome == found[1].outcome


# Trajectories


def test_rows_become_sessions_that_end(tmp_path):
    """One after the other, numbered by calls, in the order of seq."""
    [recording] = read(
        tmp_path,
        row("tool_call", 1, tool="t", call_id="c1", args={}),
        row("user", 0, text="go"),
        row("tool_result", 2, tool="t", call_id="c1", result="", result_len=0),
        row("tool_call", 0, session_id="r", tool="t", call_id="c1", args={}),
        {"session_id": "s", "n_calls": 1, "reward": 1.0},
        {"session_id": "r", "n_calls": 1, "outcome": "halted"},
    )
    found = [(entry.subject, entry.place) for entry in recording.entries]

    assert [("s", 0), ("s", 1), ("s", 1), ("s", 1), ("r", 1), ("r", 1)] == found
    assert ["user.input", "tool.attempt", "tool.complete", "session.end"] == types(
        [entry.event for entry in recording.entries[:4]]
    )
    assert {"s": True, "r": False} == recording.is_healthy


@pytest.mark.parametrize(
    ("facts", "is_healthy"),
    [
        ({"reward": 1.0}, True),
        ({"reward": 0.0}, False),
        ({"max_reward": 1, "turns_max": 6}, True),
        ({"max_reward": 1, "turns_max": 5}, False),
        ({"max_reward": 0.67, "turns_max": 6}, False),
        ({"outcome": "correct"}, True),
        ({"outcome": "halted"}, False),
        ({"exit_status": "submitted"}, True),
        ({}, False),
    ],
)
def test_who_did_its_task_and_stopped_by_itself_is_healthy(tmp_path, facts, is_healthy):
    """An agent that its benchmark had to stop may have been going in circles."""
    [recording] = read(
        tmp_path, row("user", 0), {"session_id": "s", "n_calls": 5} | facts
    )

    assert {"s": is_healthy} == recording.is_healthy


def test_cut_results_are_equal_where_the_whole_was(tmp_path):
    """By the length and digest of the whole."""
    whole = [("same", 900, "a1"), ("same", 900, "a1"), ("same", 901, "b2")]
    [recording] = read(
        tmp_path,
        *(
            row("tool_result", seq, result=text, result_len=size, result_sha=sha)
            for seq, (text, size, sha) in enumerate(whole)
        ),
    )
    digests = [entry.event.outcome_digest for entry in recording.entries[:3]]

    assert [2, 1] == [len(list(group)) for _, group in groupby(digests)]


# Events


def event(event_type: str, at: int = 0, **fields: Any) -> AuditEvent:
    fields = {"session_id": "s", "event_id": f"{event_type}-{at}"} | fields
    return AuditEvent(event_type=event_type, occurred_at=at * 1000, **fields)


def test_events_of_files_are_one_log(tmp_path):
    """By time, whatever file they stand in; gzip is unpacked."""
    later = tmp_path / "later.jsonl.gz"
    later.write_bytes(gzip.compress(to_json(event("user.input", 5)).encode()))
    sooner = write(tmp_path, to_json(event("tool.attempt", 1, session_id="r")))
    [recording] = read_files([str(later), sooner])

    assert [("r", 1), ("s", 5)] == [
        (entry.subject, entry.at_ms) for entry in recording.entries
    ]


def test_a_session_keeps_its_order():
    """Its clock may go back: what was told later comes later."""
    given = [event("user.input", at) for at in (5, 3, 9)]
    found = event_entries([(one, one.occurred_at // 1000) for one in given])

    assert given == [entry.event for entry in found]
    assert [5, 5, 9] == [entry.at_ms for entry in found]


@pytest.mark.parametrize(
    ("given", "places"),
    [
        ([("tool.attempt", "a"), ("tool.complete", "a"), ("tool.replayed", "a")], 111),
        ([("tool.attempt", "a"), ("tool.attempt", "b"), ("tool.complete", "a")], 122),
        ([("tool.attempt", "a"), ("tool.complete", "a"), ("tool.attempt", "a")], 112),
        ([("tool.confirmation", "a"), ("tool.attempt", "a"), ("mark", None)], 111),
        ([("tool.complete", "a"), ("tool.complete", "b"), ("tool.failure", "c")], 123),
        ([("tool.attempt", None), ("tool.complete", None), ("tool.cached", None)], 112),
    ],
)
def test_calls_are_counted_once(given, places):
    """Whether a source tells attempts, answers, or both."""
    found = event_entries(
        (event(kind, tool_call_id=name, tool_name="t"), 0) for kind, name in given
    )

    assert [int(digit) for digit in str(places)] == [entry.place for entry in found]


# Broken files


BROKEN = [
    ('{"case_id": "c", "steps": [', "it is no JSON"),
    ("[]", "it is no JSON object"),
    ('{"some": "thing"}', "it has none of the formats"),
    ({"case_id": "c", "steps": [], "expect": {}}, "field 'expect.loop'"),
    ({"case_id": "c", "steps": [{"ts": "soon"}], "expect": LOOP}, "'steps.0.ts'"),
    ({"session_id": "s", "seq": 1, "kind": "dream"}, "field 'kind'"),
    ({"event_type": "mark", "session_id": "s", "sequence": "x"}, "sequence"),
    (case(), "there is a case of this case_id already"),
]


@pytest.mark.parametrize(("line", "problem"), BROKEN)
def test_a_broken_line_is_named(tmp_path, line, problem):
    """By file, number and field; what it holds is not repeated."""
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, case(), "", line)

    assert f"{tmp_path / 'input.jsonl'}, line 3: " in str(caught.value)
    assert problem in str(caught.value)
    assert "soon" not in str(caught.value)


def test_only_cases_means_only_cases(tmp_path):
    """Whoever asks for a score must not get one of half a file."""
    with pytest.raises(ConfigurationError, match="line 2: it is no case"):
        read(tmp_path, case(), row("user", 0), only_cases=True)


def test_a_file_that_is_not_there_is_named(tmp_path):
    """As with any other command."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_files([str(tmp_path / "gone.jsonl")])


# Labels


def test_labels_say_what_is_right(tmp_path):
    """In calls; a borderline session may warn."""
    file = write(
        tmp_path,
        {"session_id": "a", "label": "loop", "onset_call": 4, "detect_by_call": 8},
        {"session_id": "b", "label": "borderline", "max_level": "warning"},
        {"session_id": "c", "label": "not_loop", "max_level": "none"},
    )

    assert {
        "a": Expected(True, "none", 4, 8),
        "b": Expected(False, "none", max_level="warning"),
        "c": Expected(False, "none"),
    } == read_labels(file)


def test_a_broken_label_is_named(tmp_path):
    """As any other line."""
    with pytest.raises(ConfigurationError, match="line 1: field 'label'"):
        read_labels(write(tmp_path, {"session_id": "a", "label": "perhaps"}))
