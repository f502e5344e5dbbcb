"""agent_framework's subscriber: takes whatever comes, and never raises."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass, field
from importlib.resources import files
from types import SimpleNamespace
from typing import Any

import pytest

from fleetwake.producer.adapters.agent_framework import FleetwakeSubscriber, restore
from fleetwake.producer.testing import memory_producer

RECORDING = (
    files("fleetwake.consumers.demo") / "recordings/agent_framework_trace_events.jsonl"
)
LINES = [json.loads(line) for line in RECORDING.read_text("utf-8").splitlines()]


@dataclass(frozen=True)
class TraceContext:
    """As the source's own, and no more than that."""

    session_id: str | None = None
    run_id: str | None = None
    agent_id: str | None = None
    caller_id: str | None = None
    tool_name: str | None = None
    subagent_id: str | None = None
    conversation_id: str | None = None


@dataclass(frozen=True)
class TraceEvent:
    """As the source's own."""

    event_id: str
    parent_event_id: str | None
    span_id: str | None
    parent_span_id: str | None
    timestamp: str
    channel: str
    level: str
    kind: str
    title: str
    summary: str
    context: TraceContext
    payload: dict[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()


class Publisher:
    """A producer that only notes what it is given."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.letters: list[Any] = []

    def emit(self, event, content=None):
        self.events.append(event)

    def reject(self, letter):
        self.letters.append(letter)


def live(line):
    """The object of a recorded line."""
    return TraceEvent(**line | {"context": TraceContext(**line["context"]), "tags": ()})


def published(*given):
    producer, log = memory_producer()
    subscriber = FleetwakeSubscriber(producer)
    for one in given:
        subscriber.consume(one)
    assert producer.close()
    return [one for one in log.events() if one.event_type != "producer.close"]


def test_objects_and_dicts_are_published_alike():
    """And come back as the lines that the source would write."""
    of_objects, of_dicts = published(*map(live, LINES)), published(*LINES)

    assert LINES == [restore([event]) for event in of_objects]
    assert [event.event_id for event in of_dicts] == [e.event_id for e in of_objects]
    assert [event.event_type for event in of_dicts] == [
        event.event_type for event in of_objects
    ]


@dataclass(frozen=True)
class LaterContext(TraceContext):
    """With a field that nobody knows yet."""

    workflow_id: str = "w"


@dataclass(frozen=True, slots=True)
class LaterEvent(TraceEvent):
    """Likewise, and without a __dict__ of its own."""

    cost: float = 0.5


def test_fields_of_later_versions_are_kept():
    """As those of dicts: dataclasses, and whatever else has attributes."""
    line = LINES[0]
    later = {**line, "context": line["context"] | {"workflow_id": "w"}, "cost": 0.5}
    context = LaterContext(**line["context"])
    as_dataclass = LaterEvent(**line | {"context": context})
    as_object = SimpleNamespace(**line | {"context": context}, cost=0.5, _own=1)

    assert [later, later] == [
        restore([event]) for event in published(as_dataclass, as_object)
    ]


def test_the_channels_can_be_chosen():
    """The host looks at the attribute; by default all are handed on."""
    publisher: Any = Publisher()
    chosen = frozenset({"llm"})

    assert FleetwakeSubscriber(publisher).trace_channels >= {
        line["channel"] for line in LINES
    }
    assert (
        chosen == FleetwakeSubscriber(publisher, trace_channels=chosen).trace_channels
    )


class Hostile:
    """An object that does not want to be read."""

    kind = "runtime.agent_started"

    def __getattr__(self, name):
        raise RuntimeError(name)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (None, "not_a_trace_event"),
        (7, "not_a_trace_event"),
        pytest.param(Hostile(), "unreadable", id="hostile"),
        ({}, "timestamp_missing"),
        (LINES[0] | {"timestamp": "2026-04-29T10:00:00"}, "timestamp_without_zone"),
    ],
)
def test_what_cannot_be_mapped_is_rejected(event, reason):
    """With its reason; nothing is raised, nothing is lost in silence."""
    publisher: Any = Publisher()
    FleetwakeSubscriber(publisher, session_id="s-1").consume(event)
    (letter,) = publisher.letters

    assert (reason, "s-1") == (letter.reason, letter.key)
    assert {"source": "agent_framework"} == letter.origin
    assert letter.value.decode().isascii()


def test_a_payload_that_is_no_json_is_published():
    """Circular, with a set, an object, NaN and a lone surrogate."""
    payload: dict[str, Any] = {
        "a": {1},
        "b": object(),
        "c": float("nan"),
        "d": "\ud800",
    }
    payload["self"] = payload
    (event,) = published(live(LINES[4] | {"payload": payload}))

    assert json.loads(event.payload)["payload"]["c"] == "NaN"
    assert "not_finite" in event.attributes["fleetwake.repaired"]


def test_threads_may_publish_at_once():
    """Parallel agents do; the events of each stay in order."""
    publisher: Any = Publisher()
    subscriber = FleetwakeSubscriber(publisher)

    def run(number: int) -> None:
        for line in LINES:
            context = line["context"] | {
                "run_id": f"s.p1.a{number}",
                "session_id": None,
            }
            subscriber.consume(live(line | {"context": context}))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == publisher.letters
    for number in range(8):
        of_run = [e for e in publisher.events if e.turn_id == f"s.p1.a{number}"]
        assert [line["kind"] for line in LINES] == [e.source_event_type for e in of_run]
        assert {"s"} == {event.session_id for event in of_run}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_does_not_wait_for_a_lock_of_its_parent():
    """Another thread may have held it."""
    publisher: Any = Publisher()
    subscriber = FleetwakeSubscriber(publisher)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with subscriber._stream._lock:
            held.set()
            release.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    child = os.fork()
    if not child:
        subscriber.consume(LINES[0])
        os._exit(0 if len(publisher.events) == 1 else 1)
    release.set()
    thread.join()

    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
