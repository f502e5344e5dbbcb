"""ATOF: what is taken though nobody knows it, and what cannot be an event."""

from __future__ import annotations

from typing import Any

import pytest
from tests.atof import (
    AGENT,
    T0,
    adapter,
    event,
    events,
    mapped,
    mark,
    repairs,
    scope,
)

from fleetwake.producer.adapters.atof import recognises, restore
from fleetwake.producer.adapters.mapping import UnmappableError
from fleetwake.producer.enrich import enriched


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"kind": "Scope"}, "kind_unusable"),
        ({"kind": ["scope"]}, "kind_unusable"),
        ({"uuid": ""}, "uuid_unusable"),
        ({"uuid": 7}, "uuid_unusable"),
        ({"uuid": "x" * 5_000}, "uuid_unusable"),
        ({"name": None}, "name_unusable"),
        ({"timestamp": None}, "timestamp_missing"),
        ({"timestamp": "2026-11-21T09:08:43"}, "timestamp_without_zone"),
        ({"timestamp": 1.5}, "timestamp_not_text"),
        ({"timestamp": True}, "timestamp_not_text"),
        ({"timestamp": -1}, "timestamp_out_of_range"),
        ({"timestamp": 0}, "timestamp_out_of_range"),
        ({"timestamp": 10**40}, "timestamp_out_of_range"),
        ({"timestamp": "yesterday"}, "timestamp_malformed"),
    ],
)
def test_what_cannot_be_an_event_says_why(fields: Any, reason: str) -> None:
    """The word goes with the dead letter; the text quotes no content."""
    with pytest.raises(UnmappableError) as problem:
        adapter().map(scope() | fields, ordinal=0)

    assert reason == problem.value.reason


@pytest.mark.parametrize(
    "timestamp",
    [
        1_795_255_723_351_995,
        "2026-11-21T10:08:43.351995118+00:00",
        "2026-11-21 11:08:43.351995+01:00",
        "2026-11-21t10:08:43.351995z",
    ],
)
def test_both_forms_of_time_are_one_time(timestamp: Any) -> None:
    """And so the same event."""
    one = event(scope(timestamp=timestamp))

    assert 1_795_255_723_351_995 == one.occurred_at
    assert (
        one.event_id == event(scope(timestamp="2026-11-21T10:08:43.351995Z")).event_id
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"atof_version": "0.99"},
        {"atof_version": None},
        {"new": {"deep": [1]}},
        {"data": float("1e308"), "data_schema": {"name": "no version"}},
        {"metadata": [1], "category_profile": "x", "attributes": {"a": 1}},
        {"scope_category": "START"},
    ],
)
def test_what_nobody_knows_yet_is_kept(fields: Any) -> None:
    """Unknown versions, fields and forms are no errors."""
    record = scope() | fields
    (one,) = mapped([record])

    assert restore([enriched(*one)]) == record


def test_unknown_categories_are_scopes() -> None:
    """In their own words."""
    one = event(scope(category="planner2"))

    assert "scope.start" == one.event_type
    assert "scope.start.planner2" == one.source_event_type


def test_a_mark_may_have_what_only_scopes_have() -> None:
    """One of the readers upstream refuses it, the other drops it."""
    one = event(mark(attributes=["remote"], scope_category="start"))

    assert ("mark", "mark") == (one.event_type, one.source_event_type)
    assert "remote" == one.attributes["atof.attributes"]


def test_fields_of_a_wrong_type_become_notes() -> None:
    """The event goes without them, and the payload has them."""
    one = event(scope(parent_uuid=7, category=["agent"], name="x" * 5_000))

    assert {"parent_uuid_unusable", "category_not_text", "name_cut"} == repairs(one)


def test_one_spelling_joins_start_and_end() -> None:
    """Upstream reads upper case and no dashes as the same id."""
    shouted = AGENT.upper().replace("-", "")
    found = events([scope(), scope("end", uuid=shouted, timestamp=T0 + 1_000)])

    assert 1.0 == found[1].duration_ms


def test_a_marks_severity_is_its_own() -> None:
    """Relay's logging says it there."""
    severity = {"nemo_relay.log.severity": "warn"}

    assert "warning" == event(mark(metadata=severity)).severity


@pytest.mark.parametrize(
    "record",
    [
        {"event_type": "tool.complete", "session_id": "s"},
        {"kind": "runtime.tool_call_started", "event_id": "x"},
        {"outcome": {"kind": "completed"}, "tool_call_id": "x"},
        {"kind": ["scope"], "uuid": "x"},
        {},
    ],
)
def test_records_of_other_systems_are_not_recognised(record: Any) -> None:
    """Formats are told apart by the shape alone."""
    assert not recognises(record)
