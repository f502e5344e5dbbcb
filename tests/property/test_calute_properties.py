"""Calute's records of any shape, and its detector against the plain algorithm."""

from __future__ import annotations

import json
import zlib
from itertools import pairwise, takewhile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.property import test_loops_replay as replay
from tests.samples import TEXT

from fleetwake.consumers.loops.calute import (
    LoopDetectionConfig,
    LoopDetector,
    LoopSeverity,
)
from fleetwake.consumers.loops.settings import LoopsSettings
from fleetwake.producer.adapters.calute import (
    TYPES,
    CaluteAdapter,
    recognises,
    restore,
)
from fleetwake.producer.adapters.calute.mapping import ENVELOPE
from fleetwake.producer.adapters.mapping import UnmappableError
from fleetwake.producer.enrich import enriched
from fleetwake.schemas.codec import encode

TIME = "2026-04-09T10:00:00.000250+00:00"
NUMBERS = st.one_of(
    st.integers(),
    st.sampled_from([2**53, -(2**64), 10**300]),
    st.floats(allow_nan=False, allow_infinity=False),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXT),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = sorted(
    {*ENVELOPE, "duration_ms"}.union(
        *(
            {*row.columns.values(), *row.content.values(), *row.attributes}
            | ({row.outcome_from} - {""})
            for row in TYPES.values()
        )
    )
)
WORDS = st.one_of(
    TEXT, st.sampled_from(["ok", "critical", "deny", "ToolLoopError", "x" * 200])
)
RECORDS = st.fixed_dictionaries(
    {
        "event_type": st.one_of(st.sampled_from(sorted(TYPES)), JSON),
        "timestamp": st.one_of(st.just(TIME), st.just(TIME), JSON),
    },
    optional={
        name: st.one_of(WORDS, JSON) for name in {*FIELDS, "own"} - {*ENVELOPE[:2]}
    },
)


def mapped_or_reason(adapter, record, ordinal):
    try:
        (mapped,) = adapter.map(record, ordinal=ordinal)
    except UnmappableError as error:
        return error.reason
    return mapped


@settings(max_examples=100, deadline=None)
@given(st.lists(RECORDS, max_size=5))
def test_every_record_is_mapped_and_comes_back_or_is_refused_with_a_reason(records):
    """Any JSON in any field: nothing else is raised, and Avro takes the event."""
    adapter = CaluteAdapter(stream="s", session_id="own")
    for number, record in enumerate(records, start=1):
        before = json.dumps(record)
        mapped = mapped_or_reason(adapter, record, number)
        if isinstance(mapped, str):
            kind = record["event_type"]
            is_named = isinstance(kind, str) and kind

            assert (mapped == "event_type_missing") == (not is_named)
            assert not is_named or record["timestamp"] != TIME
            continue
        event = enriched(*mapped)
        stamped = event._replace(producer_id="p", sequence=number, recorded_at=1)

        assert encode(stamped)
        assert record == restore([event])
        assert before == json.dumps(record)
        assert record["event_type"] == event.source_event_type


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_a_record_is_recognised_by_its_keys(record):
    """Whatever the values are."""
    assert set(ENVELOPE).issubset(record) == recognises(record)


@given(RECORDS)
def test_a_warning_of_level_ok_is_never_one(record):
    """Whatever else it says."""
    warning = record | {
        "event_type": "tool_loop_warning",
        "timestamp": TIME,
        "severity_level": "ok",
    }
    (mapped,) = CaluteAdapter(stream="s", session_id="s").map(warning, ordinal=1)

    assert ("custom", "info") == (mapped.event.event_type, mapped.event.severity)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                ("tool_call_attempt", ""),
                ("tool_call_complete", ""),
                ("tool_call_failure", "ValueError"),
                ("tool_call_failure", "ToolLoopError"),
                ("tool_call_failure", "ToolPolicyViolation"),
                ("tool_loop_block", ""),
                ("tool_policy_decision", ""),
                ("turn_start", ""),
            ]
        ),
        st.sampled_from("xy"),
        st.sampled_from(["t", "u", None]),
    ),
    max_size=30,
)


@given(STEPS)
def test_no_call_has_two_ends_and_no_refusal_two_views(steps):
    """However attempts, answers, blocks and turns are mixed."""
    adapter = CaluteAdapter(stream="s", session_id="s")
    events = []
    for number, ((event_type, error), tool, turn) in enumerate(steps):
        record = {
            "event_type": event_type,
            "timestamp": TIME,
            "turn_id": turn,
            "tool_name": tool,
            "error_type": error,
            "action": "deny",
        }
        events += [one.event for one in adapter.map(record, ordinal=number)]
    begun = [
        one
        for one in events
        if one.event_type in {"tool.attempt", "loop.block", "policy.decision"}
    ]
    ended = [
        one for one in events if one.tool_call_id and one.tool_call_id != one.event_id
    ]
    refusals = {"loop.block", "policy.decision"}
    views = [one for one in events if one.event_type == "custom"]

    assert all(one.event_id == one.tool_call_id for one in begun)
    assert len({one.tool_call_id for one in ended}) == len(ended)
    assert {one.tool_call_id for one in ended} <= {one.event_id for one in begun}
    assert {one.tool_call_id for one in views} <= {
        one.event_id for one in begun if one.event_type in refusals
    }
    assert all(one.outcome == "unknown" for one in views)


def plainly(config, history):
    """Calute's answer to the last call, found by looking at all of them."""
    if not config.enabled:
        return "ok", "disabled", 0
    if len(history) >= config.max_tool_calls_per_turn:
        return "critical", "max_calls", len(history)
    back = history[::-1]
    pairs = pairwise(back)
    same = length(call == back[0] for call in back)
    changes = length(last[0] != before[0] for last, before in pairs)
    is_pair = len(back) >= 4 and len({name for name, _ in back[:4]}) <= 2
    for pattern, count, warning, critical in (
        ("same_call", same, config.same_call_warning, config.same_call_critical),
        ("pingpong", changes, config.pingpong_warning, config.pingpong_critical),
    ):
        if count >= min(warning, critical) and (pattern == "same_call" or is_pair):
            return "critical" if count >= critical else "warning", pattern, count
    return "ok", "none", 0


def length(answers):
    """How many are true before the first that is not."""
    return len(list(takewhile(bool, answers)))


LIMITS = st.integers(1, 9)
CONFIGS = st.builds(
    LoopDetectionConfig,
    same_call_warning=LIMITS,
    same_call_critical=LIMITS,
    pingpong_warning=LIMITS,
    pingpong_critical=LIMITS,
    max_tool_calls_per_turn=st.integers(1, 40),
    enabled=st.sampled_from([True] * 5 + [False]),
)
CALLS = st.lists(
    st.tuples(
        st.sampled_from("aab" * 3 + "c"), st.sampled_from([None, "", "{}", "[]"])
    ),
    max_size=45,
)


@given(CONFIGS, CALLS)
def test_a_detector_that_only_counts_answers_as_one_that_looks_back(config, calls):
    """The history is not kept, and nothing is different for it."""
    detector, history = LoopDetector(config), []
    for call in calls:
        history.append(call)
        found = detector.record_call(*call)

        assert plainly(config, history) == (
            found.severity.value,
            found.pattern,
            found.call_count,
        )
        assert (found.severity is LoopSeverity.OK) == (found.details == "")
    assert detector.call_count == (len(calls) if config.enabled else 0)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(replay.logs(), st.sampled_from([1, 2, 5, 12]), st.data())
def test_alerts_of_calutes_rule_are_those_of_one_undisturbed_pass(log, turns, data):
    """Turns that overlap, any batches, any number of crashes."""
    log = [
        (one._replace(turn_id=f"{zlib.crc32(one.event_id.encode()) % turns}"), clock)
        for one, clock in log
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "SETTINGS", LoopsSettings(rules="calute", idle_s=60.0))
        expected = replay.undisturbed(log)
        actual = replay.disturbed(log, data.draw)

    assert set(expected) == set(actual)
