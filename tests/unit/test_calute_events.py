"""Calute's events and its own collectors, as its module has them."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import fields
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import pytest

from fleetwake.producer.adapters import calute
from fleetwake.producer.adapters.calute import (
    AuditCollector,
    AuditEvent,
    CompositeCollector,
    InMemoryCollector,
    JSONLSinkCollector,
    SkillAuthoredEvent,
    ToolCallAttemptEvent,
    ToolCallFailureEvent,
    ToolLoopWarningEvent,
    TurnStartEvent,
)
from fleetwake.producer.adapters.calute import events as module

RECORDING = (
    files("fleetwake.consumers.demo") / "recordings/calute_0.2.0_audit_events.jsonl"
)
ENVELOPE = [
    "event_type",
    "timestamp",
    "agent_id",
    "turn_id",
    "session_id",
    "severity",
    "metadata",
]
CLASSES = [getattr(module, name) for name in module.__all__]
BY_TYPE = {one().event_type: one for one in CLASSES}
SEVERITIES = {
    "tool_call_failure": "error",
    "tool_loop_warning": "warning",
    "tool_loop_block": "error",
    "error": "error",
}
OWN_FIELDS = {
    "base": {},
    "turn_start": {"prompt_preview": ""},
    "turn_end": {"content_preview": "", "function_calls_count": 0},
    "tool_call_attempt": {"tool_name": "", "arguments_preview": ""},
    "tool_call_complete": {
        "tool_name": "",
        "status": "success",
        "duration_ms": 0.0,
        "result_preview": "",
    },
    "tool_call_failure": {"tool_name": "", "error_type": "", "error_message": ""},
    "tool_policy_decision": {"tool_name": "", "action": "", "policy_source": ""},
    "sandbox_decision": {
        "tool_name": "",
        "context": "",
        "reason": "",
        "backend_type": "",
    },
    "tool_loop_warning": {
        "tool_name": "",
        "pattern": "",
        "severity_level": "",
        "call_count": 0,
    },
    "tool_loop_block": {"tool_name": "", "pattern": "", "call_count": 0},
    "hook_mutation": {"hook_name": "", "tool_name": "", "mutated_field": ""},
    "error": {"error_type": "", "error_message": "", "error_context": ""},
    "skill_used": {
        "skill_name": "",
        "version": "",
        "outcome": "unknown",
        "duration_ms": 0.0,
        "triggered_automatically": True,
    },
    "skill_authored": {
        "skill_name": "",
        "version": "",
        "source_path": "",
        "tool_count": 0,
        "unique_tools": [],
        "confirmed_by_user": False,
    },
    "skill_feedback": {
        "skill_name": "",
        "rating": "neutral",
        "reason": "",
        "source": "user",
    },
    "agent_switch": {"from_agent": "", "to_agent": "", "reason": ""},
}


@pytest.mark.parametrize("event_type", OWN_FIELDS)
def test_a_type_has_calutes_fields_in_its_order_with_its_defaults(event_type):
    """Envelope first, nothing left out, null where nothing is known."""
    said = BY_TYPE[event_type]().to_dict()
    expected = {
        "event_type": event_type,
        "timestamp": said["timestamp"],
        "agent_id": None,
        "turn_id": None,
        "session_id": None,
        "severity": SEVERITIES.get(event_type, "info"),
        "metadata": {},
        **OWN_FIELDS[event_type],
    }

    assert list(expected.items()) == list(said.items())


def test_no_two_classes_have_one_type():
    """The type names the class."""
    assert len(CLASSES) == len(BY_TYPE) == len(OWN_FIELDS)


def test_only_the_base_takes_its_type():
    """It stays assignable on the others."""
    event = TurnStartEvent()
    event.event_type = "mine"

    assert AuditEvent("mine").event_type == event.event_type
    with pytest.raises(TypeError):
        TurnStartEvent(event_type="mine")


def test_an_event_is_stamped_when_it_is_made_in_utc():
    """Never naive, never `Z`."""
    before = datetime.now(UTC)
    event = AuditEvent()
    stamped = datetime.fromisoformat(event.timestamp)

    assert event.timestamp.endswith("+00:00")
    assert before <= stamped <= datetime.now(UTC)


def test_a_time_without_a_fraction_is_written_without_one(monkeypatch):
    """As isoformat does when the microsecond is 0."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 4, 9, 10, 0, 0, tzinfo=tz)

    monkeypatch.setattr(module, "datetime", Clock)

    assert AuditEvent().timestamp == "2026-04-09T10:00:00+00:00"


@pytest.mark.parametrize("line", RECORDING.read_text("utf-8").splitlines())
def test_a_recorded_line_is_written_again_as_it_is(line):
    """Separators, escapes, order of keys: byte for byte."""
    said = json.loads(line)
    event = BY_TYPE[said.pop("event_type")](**said)

    assert line == event.to_json()


def test_metadata_is_copied_and_not_shared():
    """A dict of its own for each event, and copies to any depth."""
    event = AuditEvent(metadata={"k": [1, {"n": None}]})
    said = event.to_dict()
    said["metadata"]["k"].append(2)

    assert {"k": [1, {"n": None}]} == event.metadata
    assert AuditEvent().metadata is not AuditEvent().metadata


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"a": float("nan"), "b": float("-inf")}, '{"a": NaN, "b": -Infinity}'),
        ({1: "int", None: "null", 1.5: "float"}, None),
        ({"path": Path("a/b")}, '{"path": "a/b"}'),
        ({"quote": "\"'&<>\n"}, r"""{"quote": "\"'&<>\n"}"""),
        ({"text": "é😀\ud800"}, r'{"text": "\u00e9\ud83d\ude00\ud800"}'),
    ],
)
def test_what_json_lacks_is_written_as_pythons_json_does(metadata, expected):
    """Literals for NaN, `str` for other objects, ASCII only."""
    expected = expected or json.dumps(metadata)
    text = AuditEvent(metadata=metadata).to_json()

    assert f'"metadata": {expected}}}' in text
    assert "\n" not in text


@pytest.mark.parametrize("metadata", [{"lock": threading.Lock()}, {(1, 2): "tuple"}])
def test_what_cannot_be_copied_or_be_a_key_is_refused(metadata):
    """As Calute does."""
    with pytest.raises(TypeError):
        AuditEvent(metadata=metadata).to_json()


def test_a_users_subclass_keeps_its_type_and_its_fields():
    """Whoever extends Calute's classes extends these."""
    from dataclasses import dataclass, field

    @dataclass
    class Mine(AuditEvent):
        event_type: str = field(default="mine", init=False)
        extra: int = 7

    assert [*ENVELOPE, "extra"] == [one.name for one in fields(Mine)]
    assert json.loads(Mine().to_json())["extra"] == 7


def test_the_module_has_calutes_names():
    """So that an import line replaces the other."""
    theirs = {
        *("AuditCollector", "AuditEmitter", "CompositeCollector", "InMemoryCollector"),
        *("JSONLSinkCollector", *module.__all__),
    }

    assert theirs <= set(calute.__all__)


# Collectors


def test_a_collector_is_whatever_emits_and_flushes():
    """No base class is needed."""

    class Mine:
        def emit(self, event): ...

        def flush(self): ...

    assert isinstance(Mine(), AuditCollector)
    assert not isinstance(object(), AuditCollector)
    for one in (InMemoryCollector(), JSONLSinkCollector(io.StringIO())):
        assert isinstance(one, AuditCollector)


def test_the_memory_keeps_events_in_order_and_gives_copies():
    """The events themselves, in a new list each time."""
    events = [TurnStartEvent(), ToolCallAttemptEvent(), TurnStartEvent()]
    memory = InMemoryCollector()
    for event in events:
        memory.emit(event)
    memory.flush()
    memory.get_events().clear()

    assert events == memory.get_events()
    assert events[0] is memory.get_events()[0]
    assert len(memory) == 3
    assert [events[1]] == memory.get_events_by_type("tool_call_attempt")
    assert memory.get_events_by_type("nothing") == []

    memory.clear()

    assert memory.get_events() == []


def test_a_sink_appends_lines_to_its_file_and_closes_it(tmp_path):
    """By path, as text or not; twice is appended."""
    path = tmp_path / "audit.jsonl"
    events = [TurnStartEvent(prompt_preview="é"), ToolCallFailureEvent()]
    for sink, event in zip((path, str(path)), events, strict=True):
        collector = JSONLSinkCollector(sink)
        collector.emit(event)
        collector.close()
        with pytest.raises(ValueError, match="closed"):
            collector.emit(event)

    assert [one.to_json() for one in events] == path.read_text("utf-8").splitlines()


def test_a_sink_leaves_a_stream_open_that_it_did_not_open():
    """It only flushes it."""
    stream = io.StringIO()
    collector = JSONLSinkCollector(stream)
    event = ToolLoopWarningEvent()
    collector.emit(event)
    collector.flush()
    collector.close()

    assert stream.getvalue() == event.to_json() + "\n"


def test_lines_of_many_threads_do_not_mix():
    """8 threads, 50 events each: every line parses."""
    stream = io.StringIO()
    collector = JSONLSinkCollector(stream)
    event = SkillAuthoredEvent(unique_tools=["a", "b"])
    run_together(8, lambda: [collector.emit(event) for _ in range(50)])

    assert [event.to_dict()] * 400 == list(
        map(json.loads, stream.getvalue().splitlines())
    )


def test_a_composite_hands_each_event_to_all_in_order():
    """Those that are added later, too; flush likewise."""
    seen = []

    class Noting:
        def __init__(self, name):
            self.name = name

        def emit(self, event):
            seen.append((self.name, event))

        def flush(self):
            seen.append((self.name, "flush"))

    composite = CompositeCollector([Noting("a")])
    composite.add(Noting("b"))
    event = AuditEvent()
    composite.emit(event)
    composite.flush()

    assert [("a", event), ("b", event), ("a", "flush"), ("b", "flush")] == seen
    CompositeCollector().emit(event)


def test_a_failing_collector_keeps_the_event_from_the_later_ones():
    """Calute's behaviour, and the reason why ours must never raise."""

    class Failing:
        def emit(self, event):
            raise RuntimeError("no")

        def flush(self):
            raise RuntimeError("no")

    memory = InMemoryCollector()
    composite = CompositeCollector([Failing(), memory])
    for call in (lambda: composite.emit(AuditEvent()), composite.flush):
        with pytest.raises(RuntimeError):
            call()

    assert len(memory) == 0


def run_together(threads, work):
    running = [threading.Thread(target=work) for _ in range(threads)]
    for one in running:
        one.start()
    for one in running:
        one.join()
