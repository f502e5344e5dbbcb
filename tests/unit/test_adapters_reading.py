"""What every adapter reads by: names and ids stay short, and enumerations are text."""

from __future__ import annotations

import json
from enum import Enum
from importlib.resources import files
from typing import Any

import pytest

from fleetwake.producer.adapters.formats import FORMATS
from fleetwake.producer.adapters.mapping import REPAIRED
from fleetwake.producer.adapters.reading import Reading, short_id
from fleetwake.producer.testing import memory_producer

RECORDINGS = files("fleetwake.consumers.demo") / "recordings"
FILES = {
    "calute": "calute_0.2.0_audit_events.jsonl",
    "agent-sdk": "agent_sdk_0.9.2_tool_audit_records.jsonl",
    "agent-framework": "agent_framework_trace_events.jsonl",
}
LINES = {
    "calute": "tool_call_failure",
    "agent-sdk": "completed",
    "agent-framework": "runtime.tool_call_finished",
}
LONG = "s.p1." + "x" * 5_000_000


class Level(Enum):
    """As a source has it: no text by itself."""

    HIGH = "high"


def changed(record: dict[str, Any], path: str, value: str) -> dict[str, Any]:
    """The record with another value at `a.b`."""
    head, _, rest = path.partition(".")
    if rest:
        return record | {head: changed(record.get(head) or {}, rest, value)}
    return record | {head: value}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        *(("calute", one) for one in ("event_type", "session_id", "turn_id")),
        *(("calute", one) for one in ("agent_id", "tool_name", "error_type")),
        *(("agent-sdk", one) for one in ("tool_call_id", "tool_name", "outcome.kind")),
        *(("agent-sdk", f"provenance.{one}") for one in ("provider", "model")),
        *(("agent-framework", one) for one in ("kind", "span_id", "event_id")),
        *(("agent-framework", f"context.{one}") for one in ("session_id", "run_id")),
        ("agent-framework", "payload.tool_name"),
    ],
)
def test_names_of_megabytes_are_sent(name: str, path: str) -> None:
    """Cut, with a note; two that differ stay two."""
    lines = (RECORDINGS / FILES[name]).read_text("utf-8").splitlines()
    record = next(json.loads(line) for line in lines if LINES[name] in line)
    mapped = [
        FORMATS[name].open(stream="f", session_id="s").map(given, ordinal=0)[0]
        for given in (changed(record, path, LONG + end) for end in "ab")
    ]
    # Of agent-sdk it has the digest of the whole record.
    one, other = [
        event if path == "event_id" else event._replace(event_id="")
        for event, _ in mapped
    ]
    producer, log = memory_producer()
    with producer:
        for event, content in mapped:
            producer.emit(event, content)
    field = path.rpartition(".")[2]

    assert one != other
    assert 2 == len([one for one in log.events() if one.event_type != "producer.close"])
    assert f"{field}_cut" in one.attributes[REPAIRED].split(",")
    assert 1024 >= max(len(text) for text in one if isinstance(text, str))


def test_a_short_id_stays_and_a_long_one_keeps_its_head() -> None:
    """Of 1,024 code points at most."""
    longest, longer = "é" * 1024, "é" * 1025

    assert longest == short_id(longest)
    assert 1024 == len(short_id(longer))
    assert longer[:900] == short_id(longer)[:900]
    assert short_id(longer) != short_id(longer + "e")
    assert 1024 == len(short_id("\ud800" * 1025))


def test_other_texts_are_whole() -> None:
    """They are cut at the border, by the policy."""
    reading = Reading()

    assert LONG == reading.text({"reason": LONG}, "reason")
    assert {} == reading.attributes({})


def test_a_member_of_an_enumeration_is_its_text() -> None:
    """Not its name, and nothing to repair."""
    reading = Reading()

    assert "high" == reading.text({"level": Level.HIGH}, "level")
    assert {} == reading.attributes({})
