"""What becomes of agent_framework's trace events and audit records."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

from fleetwake.producer.adapters.agent_framework import (
    TYPES,
    AgentFrameworkAdapter,
    recognises,
    restore,
)
from fleetwake.producer.adapters.agent_framework.run_ids import parent_of, session_of
from fleetwake.producer.adapters.agent_framework.trace_events import _KINDS
from fleetwake.producer.adapters.mapping import REPAIRED, UnmappableError
from fleetwake.producer.content import ABSENT
from fleetwake.producer.enrich import enriched
from fleetwake.schemas.codec import encode
from fleetwake.schemas.event import EVENT_TYPES

RECORDINGS = files("fleetwake.consumers.demo") / "recordings"
PAGE = Path(__file__).parents[2] / "docs" / "integrations" / "agent_framework.md"
RUN = "fa0ea394-215.p1.planner"
SESSION = "fa0ea394-215"


def lines(name):
    """A recording's records."""
    text = (RECORDINGS / name).read_text("utf-8")
    return [json.loads(line) for line in text.splitlines() if line]


TRACE = lines("agent_framework_trace_events.jsonl")
AUDIT = lines("agent_framework_0.5_audit_trace.jsonl")
RUN_RECORD = AUDIT[3]


def adapter():
    return AgentFrameworkAdapter(stream="file", session_id="of the file")


def mapped(*records):
    """What one adapter makes of records, one after the other."""
    one = adapter()
    return [
        each
        for number, record in enumerate(records)
        for each in one.map(record, ordinal=number)
    ]


def events(*records):
    return [one.event for one in mapped(*records)]


def trace(kind, payload, second=0, **fields):
    """A trace event of the run."""
    context = {"run_id": fields.pop("run_id", RUN), "agent_id": "planner"}
    return {
        "event_id": f"e-{kind}-{second}",
        "timestamp": f"2026-04-29T10:00:{second:02}.000000+00:00",
        "channel": kind.partition(".")[0],
        "level": "info",
        "kind": kind,
        "span_id": None,
        "parent_span_id": None,
        "context": context,
        "payload": payload,
    } | fields


def named(name, second=0, **fields):
    """A named event."""
    payload = {"event": {"type": name} | fields}
    return trace("runtime.audit.named_event", payload, second, span_id=RUN)


def told(records):
    """What the events of records say."""
    return [(event.event_type, event.outcome) for event in events(*records)]


def test_the_trace_recording_is_what_was_counted_by_hand():
    """Each line's type and outcome; no fact of it counts twice."""
    expected = [
        ("turn.start", "unknown"),
        ("custom", "unknown"),
        ("model.request", "attempted"),
        ("model.response", "success"),
        ("custom", "unknown"),
        ("tool.attempt", "attempted"),
        ("custom", "unknown"),
        ("tool.complete", "success"),
        ("custom", "unknown"),
        ("tool.attempt", "attempted"),
        ("tool.failure", "failure"),
        ("custom", "unknown"),
        ("skill.used", "unknown"),
        ("callback", "unknown"),
        ("delegation.start", "unknown"),
        ("model.error", "failure"),
        ("custom", "unknown"),
        ("delegation.end", "unknown"),
        ("memory.operation", "unknown"),
        ("memory.operation", "unknown"),
        ("assistant.message", "unknown"),
        ("custom", "unknown"),
        ("turn.end", "success"),
        ("custom", "unknown"),
    ]

    assert expected == told(TRACE)


def test_the_audit_recording_is_what_was_counted_by_hand():
    """Run records become their events, in the record's order."""
    expected = [
        ("delegation.start", "unknown"),
        ("model.error", "failure"),
        ("delegation.end", "unknown"),
        ("memory.operation", "unknown"),
        ("memory.operation", "unknown"),
        ("turn.start", "unknown"),
        ("model.request", "attempted"),
        ("model.response", "success"),
        ("custom", "unknown"),
        ("callback", "unknown"),
        ("skill.used", "unknown"),
        ("tool.attempt", "attempted"),
        ("tool.complete", "success"),
        ("tool.attempt", "attempted"),
        ("tool.failure", "failure"),
        ("custom", "unknown"),
        ("turn.end", "unknown"),
        ("assistant.message", "unknown"),
        ("user.input", "unknown"),
        ("permission.decision", "denied"),
    ]

    assert expected == told(AUDIT)


@pytest.mark.parametrize("recording", [TRACE, AUDIT], ids=["trace", "audit"])
def test_both_recordings_tell_the_same_facts_once(recording):
    """Two calls, one of which fails; a model that fails once; both columns agree."""
    found = events(*recording)
    counts = {
        name: sum(name in (event.event_type, event.outcome) for event in found)
        for name in ("tool.attempt", "tool.complete", "tool.failure", "failure")
    }

    assert counts == {
        "tool.attempt": 2,
        "tool.complete": 1,
        "tool.failure": 1,
        "failure": 2,
    }


def test_tokens_count_in_the_models_answer_only():
    """The same 15 are told three times more."""
    found = events(*TRACE)
    counted = [
        (event.input_tokens, event.output_tokens, event.cache_read_tokens)
        for event in found
        if event.input_tokens is not None
    ]

    assert counted == [(10, 5, 3)]
    assert found[-2].attributes["usage_self.total_tokens"] == "15"


@pytest.mark.parametrize("recording", [TRACE, AUDIT], ids=["trace", "audit"])
def test_every_event_is_of_a_type_that_its_row_names(recording):
    """The table is what the code does."""
    for event in events(*recording):
        row = TYPES.get(event.source_event_type)
        allowed = {row.event_type, *row.otherwise} if row else {"custom"}

        assert event.event_type in allowed


def test_the_table_has_every_kind_that_means_something():
    """And says of the others that they mean nothing."""
    assert _KINDS.keys() <= TYPES.keys()
    for kind in TYPES.keys() - _KINDS.keys():
        assert kind.startswith(("agent_call", "user_", "permission", "memory")) or (
            TYPES[kind].event_type == "custom"
        )


def test_the_table_names_event_types():
    """Of the closed list."""
    found = {name for row in TYPES.values() for name in row.otherwise}
    found |= {row.event_type for row in TYPES.values()}

    assert found <= EVENT_TYPES


def test_the_page_has_the_table():
    """Every row, as the code has it, and no other."""
    rows = []
    for kind, row in TYPES.items():
        others = "; ".join(f"`{name}`: {when}" for name, when in row.otherwise.items())
        cells = f"| `{kind}` | `{row.event_type}` | {row.counts or 'nothing'} |"
        rows.append(f"{cells} {others} |" if others else f"{cells} |")
    written = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]

    assert rows == written


@pytest.mark.parametrize("record", [*TRACE, *AUDIT])
def test_a_record_comes_back_from_its_events(record):
    """As parsed JSON, in its order."""
    found = [enriched(*one) for one in adapter().map(record, ordinal=3)]

    assert json.dumps(record) == json.dumps(restore(found))
    assert recognises(record)


@pytest.mark.parametrize("record", [*TRACE, *AUDIT])
def test_every_event_can_be_written(record):
    """The strict codec takes each; all have a session and an id of their own."""
    found = [enriched(*one) for one in adapter().map(record, ordinal=3)]

    assert len({event.event_id for event in found}) == len(found)
    for event in found:
        assert encode(event._replace(producer_id="p", sequence=1, recorded_at=1))


def test_parts_of_a_run_carry_their_part():
    """The record itself stands once."""
    payloads = [enriched(*one).payload for one in mapped(RUN_RECORD)]

    assert json.loads(payloads[0]) == RUN_RECORD
    assert json.loads(payloads[1]) == {
        "llm_message_sent": RUN_RECORD["llm_message_sent"]
    }
    assert [json.loads(one) for one in payloads[6:11]] == RUN_RECORD["events"]
    assert payloads[-1] is None


def test_parts_without_a_time_have_that_of_the_run():
    """Callbacks and skills have their own; UTC, whatever the file's zone."""
    start = 1_777_456_800_000_000
    own = {"callback": 2_000_002, "skill.used": 1_000_001}
    for event in events(RUN_RECORD):
        assert event.occurred_at == start + own.get(event.event_type, 0)
        is_told = event.event_type in own or event.source_event_type == "agent_call"
        assert ("time" in event.attributes) is not is_told


def test_calls_of_a_run_record_have_what_detectors_need():
    """Tool and arguments of the attempt, result or error of its end."""
    calls = [one for one in mapped(RUN_RECORD) if one.event.tool_name]

    assert [
        (one.event.tool_name, one.content.arguments, one.content.result)
        for one in calls
    ] == [
        ("get_weather", {"city": "Oslo"}, None),
        ("get_weather", ABSENT, "3C"),
        ("flaky", {}, None),
        ("flaky", ABSENT, None),
    ]
    assert calls[3].content.error == "disk"
    assert calls[3].event.error_type == "OSError"


def test_another_stream_or_time_is_another_event():
    """Audit records have no ids; trace events have, wherever they are read."""
    other = AgentFrameworkAdapter(stream="other", session_id="of the file")
    later = RUN_RECORD | {"timestamp": "2026-04-29T12:00:01+02:00"}
    (of_other, *_), (of_later, *_) = (
        other.map(RUN_RECORD, ordinal=0),
        adapter().map(later, ordinal=0),
    )
    ours = events(RUN_RECORD)[0]

    assert len({ours.event_id, of_other.event.event_id, of_later.event.event_id}) == 3
    assert (
        other.map(TRACE[0], ordinal=9)[0].event.event_id == events(*TRACE)[0].event_id
    )


@pytest.mark.parametrize(
    ("run_id", "session"),
    [
        (RUN, SESSION),
        (f"{RUN}.researcher", SESSION),
        ("fa0ea394-215.p12.team.p2.planner.x.y", SESSION),
        ("researcher.fa0ea394-215", SESSION),
        ("re.searcher.fa0ea394-215.child", SESSION),
        ("my.session.p1.planner", "my.session"),
        ("planner", None),
        (".p1.planner", None),
        ("fa0ea394-215.p1", None),
        ("", None),
        (None, None),
    ],
)
def test_a_run_names_its_session(run_id, session):
    """Whatever dots its agents have."""
    assert session == session_of(run_id)


@pytest.mark.parametrize(
    ("run_id", "agent", "parent"),
    [
        (RUN, "planner", None),
        (f"{RUN}.researcher", "researcher", RUN),
        ("s.p1.team.planner", "team.planner", None),
        ("s.p1.a.b.c", "b.c", "s.p1.a"),
        ("researcher.fa0ea394-215", "researcher", None),
        ("researcher.fa0ea394-215.child", "child", "researcher.fa0ea394-215"),
        ("s.p1.a.key", "b", None),
        (None, "a", None),
    ],
)
def test_a_run_names_its_parent(run_id, agent, parent):
    """If the agent's name stands at its end."""
    assert parent == parent_of(run_id, agent)


def test_events_without_a_session_get_it_from_the_run_or_the_stream():
    """A context's own comes first."""
    bare = trace("log.record", {}, context={})
    record = trace("log.record", {})
    own = trace("log.record", {}, context={"session_id": "own", "run_id": RUN})

    assert [event.session_id for event in events(bare, record, own)] == [
        "of the file",
        SESSION,
        "own",
    ]


def test_session_records_belong_to_the_stream_unless_they_say_more():
    """A memory's scope and a run's id say more."""
    sessions = {event.event_type: event.session_id for event in events(*AUDIT)}

    assert sessions["user.input"] == "of the file"
    assert sessions["permission.decision"] == "of the file"
    assert sessions["memory.operation"] == SESSION


def test_a_delegation_names_both_agents_and_the_callers_run():
    """In the caller's session, and it is no new turn."""
    start, end = events(TRACE[14], TRACE[17])

    assert ("planner", "researcher") == (start.agent_from, start.agent_to)
    assert ("researcher", RUN) == (end.agent_to, start.parent_span_id)
    assert "delegation.end" == end.event_type
    assert "researcher" == end.agent_id


def test_the_end_of_a_delegation_names_the_caller_of_its_start():
    """Where it does not name it itself."""
    run = f"{RUN}.researcher"
    start = {"run_id": run, "caller_id": "planner", "agent_name": "researcher"}
    _, end = events(
        trace("runtime.audit.agent_call_started", start, run_id=run),
        trace("runtime.audit.agent_call_finished", {"run_id": run}, 1, run_id=run),
    )

    assert ("delegation.end", "planner") == (end.event_type, end.agent_from)


def test_the_failure_of_a_run_counts_once():
    """As that of its model, if that was it; the end of the run counts as nothing."""
    failed = trace("runtime.run_failed", {"error": "boom", "error_type": "E"}, 2)
    ended = trace("runtime.agent_finished", {"status": "failed"}, 1)
    model = trace("llm.error", {"raw_text": "429"})
    recovered = [model, trace("llm.response", {"raw_text": "ok"}, 1)]

    assert [("turn.end", "failure"), ("error", "failure")] == told([ended, failed])
    assert ["model.error", "turn.end", "custom"] == [
        event.event_type for event in events(model, ended, failed)
    ]
    assert "error" == events(*recovered, failed)[-1].event_type


def test_a_call_without_a_run_is_told_once():
    """All events that name no run are taken for those of one."""
    call = {"tool_name": "a", "tool_input": {}}
    found = events(
        trace("runtime.tool_call_started", call, 1, span_id="s", run_id=None),
        named("tool_call", 1, tool_name="a") | {"context": {}},
        trace("runtime.tool_call_finished", call, 3, span_id="s", run_id=None),
        named("tool_result", 3, tool_name="a") | {"context": {}},
    )

    assert ["tool.attempt", "custom", "tool.complete", "custom"] == [
        event.event_type for event in found
    ]
    assert 2000 == found[2].duration_ms


def test_events_without_a_run_take_no_agent_and_no_time_from_each_other():
    """They may be of any run: each end and each failure is one."""
    start = trace("runtime.agent_started", {"caller_id": "host"}, 1, run_id=None)
    end = trace("runtime.agent_finished", {"status": "failed"}, 3, context={})
    failed = trace("runtime.run_failed", {}, 4, context={})
    _, other, first, second, failure = events(
        start, trace("log.record", {}, 2, context={}), end, end, failed
    )

    assert (None, None) == (other.agent_id, first.duration_ms)
    assert ["turn.end", "turn.end", "error"] == [
        event.event_type for event in (first, second, failure)
    ]


def test_durations_are_those_between_start_and_end():
    """Runs by id, calls by span or by tool, the model by run."""
    found = {
        event.event_type: event.duration_ms
        for event in events(*TRACE)
        if event.duration_ms is not None
    }

    assert found == {
        "model.response": 1000.001,
        "tool.complete": 2000.002,
        "tool.failure": 1000.001,
        "delegation.end": 3000.003,
        "turn.end": 22000.022,
    }


def test_an_end_before_its_start_has_no_duration():
    """It is taken, with a note."""
    (_, end) = events(
        trace("runtime.tool_call_started", {"tool_name": "t"}, 9, span_id="s"),
        trace("runtime.tool_call_finished", {"tool_name": "t"}, 3, span_id="s"),
    )

    assert (end.duration_ms, end.attributes[REPAIRED]) == (None, "negative_duration")


def test_named_events_are_the_fact_where_nothing_else_tells_it():
    """A host without the runtime's own kinds of events."""
    records = [
        named("tool_call", 1, tool_name="a", parameters={"x": 1}),
        named("tool_result", 2, tool_name="a", result="1"),
        named("tool_call", 3, tool_name="a", parameters={"x": 1}),
        named("tool_error", 4, tool_name="a", error_type="TimeoutError", error="late"),
    ]
    kinds = ["tool.attempt", "tool.complete", "tool.attempt", "tool.failure"]

    assert kinds == [event.event_type for event in events(*records)]
    assert events(*records)[3].error_kind == "timeout"


def test_calls_of_one_tool_are_told_apart():
    """One after the other, each told twice."""
    started, finished = "runtime.tool_call_started", "runtime.tool_call_finished"
    records = [
        record
        for at in (0, 10, 20)
        for record in (
            trace(started, {"tool_name": "a", "tool_input": {}}, at, span_id=f"s{at}"),
            named("tool_call", at + 1, tool_name="a", parameters={}),
            trace(finished, {"tool_name": "a", "result": 1}, at + 2, span_id=f"s{at}"),
            named("tool_result", at + 3, tool_name="a", result=1),
        )
    ]
    found = events(*records)

    assert ["tool.attempt", "custom", "tool.complete", "custom"] * 3 == [
        event.event_type for event in found
    ]
    assert [s for at in (0, 10, 20) for s in [f"s{at}"] * 4] == [
        event.tool_call_id for event in found
    ]


def test_a_failure_belongs_to_the_call_that_was_started():
    """It has no span of its own."""
    found = events(
        trace("runtime.tool_call_started", {"tool_name": "a"}, 1, span_id="s"),
        named("tool_call", 1, tool_name="a", parameters={}),
        trace("runtime.tool_execution_failed", {"tool_name": "a"}, 2, span_id=RUN),
        named("tool_error", 2, tool_name="a", error="no"),
    )

    assert ["s"] * 4 == [event.tool_call_id for event in found]
    assert ["tool.attempt", "custom", "tool.failure", "custom"] == [
        event.event_type for event in found
    ]


def test_a_call_that_was_vetoed_takes_nothing_from_the_next():
    """It has no end."""
    started = "runtime.tool_call_started"
    found = events(
        trace(started, {"tool_name": "a"}, 1, span_id="vetoed"),
        trace(started, {"tool_name": "a"}, 2, span_id="s"),
        named("tool_call", 2, tool_name="a", parameters={}),
        trace("runtime.tool_execution_failed", {"tool_name": "a"}, 3, span_id=RUN),
    )

    assert ["vetoed", "s", "s", "s"] == [event.tool_call_id for event in found]
    assert 1000 == found[-1].duration_ms


def test_the_end_of_a_call_that_nobody_saw_begin_counts_once():
    """A subscriber that came late."""
    found = events(
        trace("runtime.tool_call_finished", {"tool_name": "a"}, 2, span_id="s"),
        named("tool_result", 3, tool_name="a", result=1),
    )

    assert ["tool.complete", "custom"] == [event.event_type for event in found]


def test_an_agent_that_is_called_again_runs_again():
    """Its run has the same id as before."""
    start, end = TRACE[14], TRACE[17]

    assert ["delegation.start", "delegation.end"] * 2 == [
        event.event_type for event in events(start, end, start, end)
    ]


def test_a_models_failure_counts_again_after_another_request():
    """And without an answer of the model it is told by the call alone."""
    failed = trace("runtime.model_call_failed", {"status_code": 429}, 5)
    records = [failed, failed, trace("llm.request", {}, 6), failed]

    assert ["model.error", "custom", "model.request", "model.error"] == [
        event.event_type for event in events(*records)
    ]


def test_what_is_remembered_of_runs_is_bounded():
    """The oldest is forgotten: its second view then counts."""
    one = adapter()
    start = "runtime.audit.agent_call_started"
    for number in range(5_000):
        one.map(trace(start, {"run_id": f"r{number}"}, run_id=None), ordinal=number)
    again = trace("runtime.agent_started", {}, run_id="r0")

    assert len(one._events._runs._runs) == 4096
    assert one.map(again, ordinal=1)[0].event.event_type == "turn.start"


@pytest.mark.parametrize(
    ("kind", "payload", "expected"),
    [
        ("user.prompt_answered", {"text": "yes"}, ("user.input", "unknown")),
        ("user.prompt_answered", {"text": None}, ("custom", "unknown")),
        ("user.message_sent", {"role": "user"}, ("user.input", "unknown")),
        (
            "user.permission_resolved",
            {"allowed": True},
            ("permission.decision", "allowed"),
        ),
        (
            "user.permission_resolved",
            {"allowed": "?"},
            ("permission.decision", "unknown"),
        ),
        ("runtime.tool_unavailable", {"tool_name": "x"}, ("error", "failure")),
        ("runtime.run_failed", {"error": {"a": 1}}, ("error", "failure")),
        ("runtime.session_finished", {}, ("session.end", "unknown")),
        ("runtime.agent_finished", {"status": "failed"}, ("turn.end", "failure")),
        ("runtime.agent_finished", {"status": "new"}, ("turn.end", "unknown")),
        ("runtime.brand_new", {}, ("custom", "unknown")),
    ],
)
def test_other_kinds(kind, payload, expected):
    """Those that the recordings lack."""
    (event,) = events(trace(kind, payload))

    assert expected == (event.event_type, event.outcome)
    assert kind == event.source_event_type


def test_cut_texts_are_previews():
    """The source cuts what users say at 2,000 characters."""
    cut = mapped(trace("user.message_sent", {"text": "x" * 2000}))[0]
    whole = mapped(trace("user.message_sent", {"text": "x" * 1999}))[0]

    assert ("preview", "full") == (cut.content.basis, whole.content.basis)


@pytest.mark.parametrize(
    ("timestamp", "reason"),
    [
        (None, "timestamp_missing"),
        (1777456800.5, "timestamp_not_text"),
        ("2026-04-29T10:00:00", "timestamp_without_zone"),
        ("yesterday", "timestamp_malformed"),
    ],
)
@pytest.mark.parametrize("record", [TRACE[0], *AUDIT[2:4]])
def test_a_record_without_a_usable_time_is_refused(record, timestamp, reason):
    """Guessing one would forge evidence."""
    with pytest.raises(UnmappableError) as caught:
        adapter().map(record | {"timestamp": timestamp}, ordinal=0)

    assert reason == caught.value.reason


def test_a_record_of_no_known_shape_is_refused():
    """With its reason."""
    with pytest.raises(UnmappableError) as caught:
        adapter().map({"timestamp": "2026-04-29T10:00:00Z"}, ordinal=0)

    assert "unknown_format" == caught.value.reason


def test_a_run_record_without_events_is_its_start_and_end():
    """Older versions may lack whole fields."""
    bare = {name: RUN_RECORD[name] for name in ("timestamp", "run_id", "agent_name")}

    assert ["turn.start", "turn.end"] == [one.event_type for one in events(bare)]
    assert REPAIRED not in events(bare)[0].attributes


def test_fields_of_a_wrong_type_are_left_out_and_named():
    """The record has them all the same."""
    wrong = RUN_RECORD | {"user_prompt": 5, "events": "none", "callbacks": [7]}
    found = mapped(wrong)
    (start, *_, callback, _, _) = found

    assert set(start.event.attributes[REPAIRED].split(",")) == {
        "user_prompt",
        "events",
        "callbacks",
    }
    assert "custom" == callback.event.event_type
    assert "7" == enriched(*callback).payload
    assert restore([enriched(*start)]) == wrong


def test_numbers_that_no_column_holds_are_left_out():
    """They stay in the payload."""
    usage = {"input_tokens": 2**64, "output_tokens": -1, "input_cached_tokens": True}
    (event,) = events(trace("llm.response", {"usage": usage}))

    assert (None, None, None) == (
        event.input_tokens,
        event.output_tokens,
        event.cache_read_tokens,
    )
    assert event.attributes[REPAIRED] == ",".join(usage)


@pytest.mark.parametrize("record", [TRACE[5], RUN_RECORD, AUDIT[2]])
def test_lone_surrogates_are_taken(record):
    """In every text, those that make up an id included."""
    broken = json.loads(
        json.dumps(record).replace("planner", "\\ud800").replace("000006", "\\ud801")
    )
    found = [enriched(*one) for one in mapped(broken)]

    assert broken == restore(found)
    assert encode(found[0]._replace(producer_id="p", sequence=1, recorded_at=1))


def test_unknown_levels_are_kept():
    """The severity is a closed list."""
    (event,) = events(trace("log.record", {}, level="fatal"))

    assert ("info", "fatal") == (event.severity, event.attributes["level"])


def test_other_systems_records_are_not_taken_for_ours():
    """By their shape alone."""
    others = [
        {"event_type": "tool_call_attempt", "timestamp": "x", "session_id": None},
        {"kind": "scope", "uuid": "u", "timestamp": "x", "name": "n"},
        {"tool_call_id": "t", "outcome": {}, "recorded_at": "x"},
        {"type": ["user_output"], "timestamp": "x"},
        {"type": "other", "timestamp": "x", "run_id": "r", "agent_name": "a"},
        {},
    ]

    assert not any(map(recognises, others))
