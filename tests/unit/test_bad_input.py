"""Bad input of every source has the outcome that docs/ingest.md states."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fleetwake.consumers.ingest.lines import Line
from fleetwake.consumers.ingest.mapping import AUTO, LineMapper
from fleetwake.producer.adapters.mapping import REPAIRED, UnmappableError
from fleetwake.producer.border import Border
from fleetwake.producer.settings import ContentSettings

ROOT = Path(__file__).parents[2]
CALUTE: dict[str, Any] = {
    "event_type": "tool_call_complete",
    "timestamp": "2026-04-09T10:00:05.000250+00:00",
    "agent_id": None,
    "turn_id": "t",
    "session_id": "s",
    "severity": "info",
    "metadata": {},
    "tool_name": "look",
    "status": "success",
    "duration_ms": 1.5,
    "result_preview": "only waves",
}
TRACE: dict[str, Any] = {
    "event_id": "e",
    "parent_event_id": None,
    "span_id": "c",
    "parent_span_id": None,
    "timestamp": "2026-04-29T10:00:05.000005+00:00",
    "channel": "runtime",
    "level": "info",
    "kind": "runtime.tool_call_started",
    "title": "",
    "summary": "",
    "context": {"session_id": None, "run_id": None, "agent_id": "a"},
    "payload": {"tool_name": "look", "tool_input": {}},
    "tags": [],
}
SDK: dict[str, Any] = {
    "tool_call_id": "c",
    "tool_name": "look",
    "display_name": "Look",
    "tier": "Observe",
    "requested_input": {},
    "effective_input": {},
    "turn": 1,
    "provenance": {"provider": "p", "model": "m"},
    "outcome": {"kind": "blocked", "reason": "fog"},
    "recorded_at": "2026-03-04T05:06:07Z",
}
MARK: dict[str, Any] = {
    "kind": "mark",
    "atof_version": "0.1",
    "parent_uuid": None,
    "uuid": "u",
    "timestamp": "2026-11-21T09:08:43.361008239+00:00",
    "name": "replan",
    "data": None,
    "data_schema": None,
    "metadata": None,
    "category": None,
    "category_profile": None,
}
SCOPE = MARK | {
    "kind": "scope",
    "scope_category": "start",
    "attributes": [],
    "category": "tool",
}
TIMED = {
    "calute": (CALUTE, "timestamp"),
    "agent-framework": (TRACE, "timestamp"),
    "agent-sdk": (SDK, "recorded_at"),
    "atof": (MARK, "timestamp"),
}


def events(*records: dict[str, Any]) -> list[Any]:
    """The events of a stream of these records, as they are published."""
    mapper = LineMapper(format_=AUTO, session_id="stand-in")
    border = Border(ContentSettings())
    return [
        border(*mapped)
        for number, record in enumerate(records, start=1)
        for mapped in mapper.map(Line(number, json.dumps(record).encode(), True, True))
    ]


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        ("2026-04-09T10:00:05", "timestamp_without_zone"),
        (1775728805.5, "timestamp_not_text"),
        ("yesterday", "timestamp_malformed"),
        ("2016-12-31T23:59:60Z", "timestamp_malformed"),
        ("1969-12-31T23:59:59Z", "timestamp_out_of_range"),
        (None, "timestamp_missing"),
        (True, "timestamp_not_text"),
        ({}, "timestamp_not_text"),
    ],
)
@pytest.mark.parametrize("name", TIMED)
def test_times_that_are_none_are_refused(name: str, time: object, reason: str) -> None:
    """No time is guessed."""
    record, field = TIMED[name]

    with pytest.raises(UnmappableError) as caught:
        events(record | {field: time})
    assert reason == caught.value.reason


@pytest.mark.parametrize("name", TIMED)
def test_digits_beyond_microseconds_are_cut(name: str) -> None:
    """However many there are."""
    record, field = TIMED[name]
    (event,) = events(record | {field: "2026-04-09T10:00:05.0002509999999999Z"})

    assert event.occurred_at == 1775728805000250


@pytest.mark.parametrize("name", TIMED)
def test_integer_times_are_atofs_only(name: str) -> None:
    """There they are microseconds; nowhere else does a unit follow from them."""
    record, field = TIMED[name]
    if name == "atof":
        (event,) = events(record | {field: 1775728805000250})
        assert event.occurred_at == 1775728805000250
        return

    with pytest.raises(UnmappableError) as caught:
        events(record | {field: 1775728805000250})
    assert caught.value.reason == "timestamp_not_text"


@pytest.mark.parametrize(
    ("record", "event_type", "outcome", "verbatim"),
    [
        (CALUTE | {"event_type": "sailed"}, "custom", "unknown", "sailed"),
        (CALUTE | {"status": "adrift"}, "tool.complete", "unknown", "adrift"),
        (TRACE | {"kind": "runtime.sailed"}, "custom", "unknown", "runtime.sailed"),
        (SDK | {"outcome": {"kind": "adrift"}}, "custom", "unknown", "adrift"),
        (SCOPE | {"category": "sea"}, "scope.start", "unknown", "sea"),
    ],
)
def test_unknown_words_are_kept(
    record: dict[str, Any], event_type: str, outcome: str, verbatim: str
) -> None:
    """The event is taken; the word stands in the source's type or the payload."""
    (event,) = events(record)

    assert (event_type, outcome) == (event.event_type, event.outcome)
    assert verbatim in event.source_event_type + (event.payload or "")


@pytest.mark.parametrize("record", [CALUTE, TRACE, SDK, SCOPE])
def test_sessions_that_nobody_names_stand_in(record: dict[str, Any]) -> None:
    """No event is without one."""
    (event,) = events(record | ({"session_id": None} if record is CALUTE else {}))

    assert event.session_id.startswith("stand-in")


def test_an_end_before_its_start_has_no_duration() -> None:
    """It is taken with a note."""
    early = {"timestamp": "2026-11-21T09:00:00Z", "scope_category": "end"}
    _, end = events(SCOPE, SCOPE | early)

    assert end.duration_ms is None
    assert "negative_duration" in end.attributes[REPAIRED]


def test_a_mark_with_attributes_is_taken() -> None:
    """The reader of the system itself drops them; here they stay in the payload."""
    (event,) = events(MARK | {"attributes": ["remote"]})

    assert event.event_type == "mark"
    assert json.loads(event.payload)["attributes"] == ["remote"]


@pytest.mark.parametrize(
    "record",
    [
        CALUTE | {"duration_ms": float("nan")},
        TRACE | {"payload": {"tool_name": "look", "tool_input": float("inf")}},
        SDK | {"requested_input": [float("-inf")]},
        SCOPE | {"data": {"x": float("nan")}},
    ],
)
def test_numbers_that_are_none_become_text(record: dict[str, Any]) -> None:
    """With a note; the payload is JSON."""
    (event,) = events(record)

    assert event.duration_ms is None
    assert "not_finite" in event.attributes[REPAIRED]
    assert re.search('"(NaN|-?Infinity)"', json.dumps(json.loads(event.payload)))


@pytest.mark.parametrize(
    "record",
    [
        CALUTE | {"result_preview": "x" * 5_000_000},
        TRACE | {"payload": {"tool_name": "look", "tool_input": "x" * 5_000_000}},
        SDK | {"effective_input": {"document": "x" * 5_000_000}},
        SCOPE | {"data": {"document": "x" * 5_000_000}},
    ],
)
def test_five_megabytes_are_cut(record: dict[str, Any]) -> None:
    """The payload stays JSON and says so; its true length is known."""
    (event,) = events(record)

    assert len(event.payload) < 1_000_000
    assert json.loads(event.payload)
    assert re.search(r"\[fleetwake: \d+ characters cut\]", event.payload)
    assert event.payload_chars > 5_000_000


@pytest.mark.parametrize(
    "record",
    [
        CALUTE | {"tool_name": 7},
        TRACE | {"span_id": ["c"]},
        SDK | {"tool_name": {}},
        SCOPE | {"parent_uuid": 7},
    ],
)
def test_fields_of_a_wrong_type_are_noted(record: dict[str, Any]) -> None:
    """The event goes without them."""
    (event,) = events(record)

    assert re.match("tool_name|span_id|parent_uuid", event.attributes[REPAIRED])


def test_every_reason_is_documented() -> None:
    """Whoever finds one in a header finds out what it means."""
    sources = [
        *(ROOT / "producer/fleetwake/producer/adapters").rglob("*.py"),
        *(ROOT / "consumers/fleetwake/consumers/ingest").rglob("*.py"),
    ]
    pages = [ROOT / "docs/ingest.md", *(ROOT / "docs/integrations").glob("*.md")]
    documented = "".join(page.read_text("utf-8") for page in pages)
    reasons = {
        reason
        for source in sources
        for reason in re.findall(
            r'UnmappableError\(\s*"(\w+)"', source.read_text("utf-8")
        )
    }

    assert len(reasons) > 10
    assert [] == [one for one in sorted(reasons) if f"`{one}`" not in documented]
