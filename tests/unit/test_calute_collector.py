"""Our collector where Calute takes its own."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections import UserDict
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import pytest

from fleetwake.consumers.loops.calute import LoopSeverity
from fleetwake.producer.adapters.calute import (
    AuditCollector,
    AuditEmitter,
    AuditEvent,
    CaluteCollector,
    CompositeCollector,
    InMemoryCollector,
    JSONLSinkCollector,
    ToolCallAttemptEvent,
    ToolCallCompleteEvent,
    ToolLoopWarningEvent,
    TurnEndEvent,
    TurnStartEvent,
)
from fleetwake.producer.enrich import enriched
from fleetwake.producer.testing import memory_producer
from fleetwake.schemas.errors import InvalidEventError

PAGE = Path(__file__).parents[2] / "docs" / "integrations" / "calute.md"
TIME = "2026-04-09T10:00:00.000250+00:00"


class Producer:
    """What a collector asks of a producer."""

    def __init__(self):
        self.emitted = []
        self.letters = []
        self.flushes = []

    def emit(self, event, content=None):
        self.emitted.append((event, content))

    def reject(self, letter):
        self.letters.append(letter)

    def flush(self, timeout_s=5.0):
        self.flushes.append(timeout_s)
        return False

    @property
    def payloads(self):
        return [json.loads(enriched(*one).payload) for one in self.emitted]


@pytest.fixture(name="producer")
def _producer():
    return Producer()


@pytest.fixture(name="collector")
def _collector(producer):
    return CaluteCollector(producer)


def test_it_is_a_collector(collector):
    """As Calute checks it: by its methods."""
    assert isinstance(collector, AuditCollector)


def test_an_event_is_published_as_calute_writes_it(producer, collector):
    """The payload is what the event's own JSON says."""
    event = ToolCallCompleteEvent(
        tool_name="x", result_preview="é\ud800", metadata={"k": [1, {"n": None}]}
    )
    collector.emit(event)
    ((mapped, _),) = producer.emitted

    assert event.to_json() == json.dumps(*producer.payloads)
    assert ("tool.complete", "x") == (mapped.event_type, mapped.tool_name)


@dataclass(slots=True)
class Slotted:
    event_type: str = "mine"
    timestamp: str = TIME
    extra: int = 7


@dataclass
class Mine(AuditEvent):
    event_type: str = field(default="mine", init=False)
    extra: int = 7


class Duck:
    event_type = "mine"
    timestamp = TIME

    def __init__(self):
        self.extra = 7

    def to_dict(self):
        raise RuntimeError("not needed")


class Slots:
    __slots__ = ("event_type", "extra", "timestamp")

    def __init__(self):
        self.event_type, self.timestamp, self.extra = "mine", TIME, 7


class SlotsToDict(Slots):
    __slots__ = ()

    def to_dict(self):
        return {name: getattr(self, name) for name in Slots.__slots__}


class SlotsToDictRaises(Slots):
    __slots__ = ()

    def to_dict(self):
        raise TypeError("cannot pickle '_thread.lock' object")


class SlotOfADataclass(Slotted):
    __slots__ = ("extra",)


class OnlyToDict:
    event_type = property(lambda _: "mine")
    timestamp = TIME

    def to_dict(self):
        return {"event_type": "mine", "timestamp": TIME, "extra": 7}


@dataclass
class Computes(AuditEvent):
    event_type: str = field(default="mine", init=False)

    def to_dict(self):
        return super().to_dict() | {"extra": 7}


class OfAnEnum:
    def __init__(self):
        self.event_type, self.timestamp = Kind.MINE, TIME
        self.extra = Number.SEVEN


class Kind(Enum):
    MINE = "mine"


class Number(Enum):
    SEVEN = 7


class WithProperty:
    @property
    def event_type(self):
        return "mine"

    def __init__(self):
        self.timestamp = TIME
        self.extra = 7


@pytest.mark.parametrize(
    "event",
    [
        Mine(),
        Slotted(),
        Duck(),
        WithProperty(),
        Slots(),
        SlotsToDict(),
        SlotsToDictRaises(),
        SlotOfADataclass(),
        OnlyToDict(),
        Computes(),
        OfAnEnum(),
        SimpleNamespace(event_type="mine", timestamp=TIME, extra=7),
        {"event_type": "mine", "timestamp": TIME, "extra": 7},
        UserDict({"event_type": "mine", "timestamp": TIME, "extra": 7}),
    ],
    ids=lambda one: type(one).__name__,
)
def test_any_object_with_calutes_attributes_is_an_event(producer, collector, event):
    """Subclasses, objects of any class, dicts; their own fields come along."""
    collector.emit(event)
    ((mapped, _),) = producer.emitted
    (payload,) = producer.payloads

    assert ("custom", "mine") == (mapped.event_type, mapped.source_event_type)
    assert ("mine", 7) == (payload["event_type"], payload["extra"])


class Attempt:
    """An event of properties, of which one fails."""

    event_type = "tool_call_attempt"
    timestamp = property(lambda _: TIME)
    tool_name = property(lambda _: "x")
    arguments_preview = property(lambda _: 1 / 0)


def test_properties_with_calutes_names_are_read(producer, collector):
    """As far as they can be; one that fails costs no event."""
    collector.emit(Attempt())

    ((event, _),) = producer.emitted
    assert ("tool.attempt", "x") == (event.event_type, event.tool_name)
    assert "arguments_preview" not in producer.payloads[0]


def test_what_a_to_dict_leaves_out_stays_out(producer, collector):
    """It may be a secret."""

    class Discreet(Mine):
        def to_dict(self):
            return {"event_type": self.event_type, "timestamp": self.timestamp}

    collector.emit(Discreet(metadata={"key": "secret"}))

    assert ["event_type", "timestamp"] == list(producer.payloads[0])


def test_nothing_of_an_event_is_copied(producer, collector):
    """Its metadata may hold what cannot be."""
    collector.emit(AuditEvent(metadata={"lock": threading.Lock(), "k": 1}))

    assert 1 == producer.payloads[0]["metadata"]["k"]


@pytest.mark.parametrize("form", [dict, SimpleNamespace])
def test_a_level_may_be_a_member_of_an_enumeration(producer, collector, form):
    """Calute's own LoopSeverity is one, and no text."""
    warning = ToolLoopWarningEvent().to_dict() | {"severity_level": LoopSeverity.OK}
    collector.emit(form(**warning))

    ((event, _),) = producer.emitted
    assert ("custom", "ok") == (event.event_type, event.attributes["severity_level"])


class Raising:
    event_type = "mine"

    @property
    def timestamp(self):
        raise RuntimeError("secret")


class Unspeakable:
    def __getattribute__(self, name):
        raise RuntimeError("secret")

    def __str__(self):
        raise RuntimeError("secret")


def circular():
    record = {"event_type": "mine", "timestamp": "?"}
    record["self"] = record
    return record


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (None, "event_type_missing"),
        ("text", "event_type_missing"),
        (object(), "event_type_missing"),
        ({"event_type": "base", "timestamp": "now"}, "timestamp_malformed"),
        (circular(), "timestamp_malformed"),
        (Raising(), "unreadable"),
        (Unspeakable(), "unreadable"),
        (
            {"event_type": "x", "timestamp": "?", "y": Unspeakable()},
            "timestamp_malformed",
        ),
    ],
    ids=lambda one: type(one).__name__,
)
def test_what_is_no_event_goes_to_the_dead_letters(producer, collector, event, reason):
    """With its reason, and never an exception into the agent."""
    collector.emit(event)
    (letter,) = producer.letters

    assert reason == letter.reason
    assert producer.emitted == []
    assert {"source": "calute"} == letter.origin
    assert collector.session_id == letter.key
    assert "secret" not in letter.error
    assert json.loads(letter.value) is not Ellipsis


def test_a_dead_letter_holds_what_came(producer, collector):
    """As JSON, whatever it is, up to 1 MiB."""
    collector.emit({"event_type": "base", "timestamp": 1.5, "path": Path("a")})
    collector.emit({"event_type": "base", "timestamp": 1.5, "x": "y" * 5_000_000})

    assert {"event_type": "base", "timestamp": 1.5, "path": "a"} == json.loads(
        producer.letters[0].value
    )
    assert 2**20 == len(producer.letters[1].value)


def test_a_producer_that_fails_breaks_no_agent():
    """Nor its siblings in a composite."""

    class Failing(Producer):
        def emit(self, event, content=None):
            raise RuntimeError("no")

        def flush(self, timeout_s=5.0):
            raise RuntimeError("no")

    memory = InMemoryCollector()
    composite = CompositeCollector([CaluteCollector(Failing()), memory])
    composite.emit(AuditEvent())
    composite.flush()

    assert len(memory) == 1


def test_a_producer_that_refuses_all_breaks_no_agent():
    """Neither an event nor a dead letter."""

    class Refusing(Producer):
        def emit(self, event, content=None):
            raise RuntimeError("no")

        reject = emit

    CaluteCollector(Refusing()).emit(AuditEvent())
    CaluteCollector(Refusing()).emit(None)


def test_the_words_of_a_strict_producer_are_kept():
    """It is no fault of the reading."""

    class Strict(Producer):
        def emit(self, event, content=None):
            raise InvalidEventError("turn_id", "no text")

    producer = Strict()
    CaluteCollector(producer).emit(AuditEvent())

    (letter,) = producer.letters
    assert ("invalid", "event field 'turn_id': no text") == letter[1:3]


def test_a_flush_does_not_wait(producer):
    """The emitter above holds its lock: other threads would wait, too."""
    AuditEmitter(CaluteCollector(producer)).flush()

    assert [0.0] == producer.flushes


def test_a_flush_waits_for_so_long_as_one_asks_for(producer):
    """Whether it came to an end or not."""
    assert CaluteCollector(producer, flush_timeout_s=0.5).flush() is None
    assert [0.5] == producer.flushes


def test_events_without_a_session_have_one_for_each_collector(producer):
    """The same for all turns; given, or new."""
    one, other = CaluteCollector(producer), CaluteCollector(producer)
    given = CaluteCollector(producer, session_id="mine", agent_id="a")
    for collector in (one, other, given):
        collector.emit(TurnStartEvent(turn_id="t"))
        collector.emit(TurnEndEvent())
    sessions = [event.session_id for event, _ in producer.emitted]

    assert [one.session_id] * 2 + [other.session_id] * 2 + ["mine"] * 2 == sessions
    assert len(set(sessions)) == 3
    assert "a" == producer.emitted[-1][0].agent_id


def test_the_same_event_twice_is_two_events(producer, collector):
    """Also through two collectors."""
    event = AuditEvent()
    for one in (collector, collector, CaluteCollector(producer)):
        one.emit(event)

    assert len({mapped.event_id for mapped, _ in producer.emitted}) == 3


def test_no_event_of_many_threads_is_lost_and_calls_stay_whole(producer, collector):
    """Each attempt has its answer."""

    def work(turn):
        for _ in range(50):
            collector.emit(ToolCallAttemptEvent(turn_id=turn, tool_name="x"))
            collector.emit(ToolCallCompleteEvent(turn_id=turn, tool_name="x"))

    threads = [threading.Thread(target=work, args=(f"{n}",)) for n in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    calls = [event.tool_call_id for event, _ in producer.emitted]

    assert 800 == len(calls) == 2 * len(set(calls))
    assert 800 == len({event.event_id for event, _ in producer.emitted})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_stream_of_its_own(producer, collector):
    """Even if another thread of its parent was in the middle of an event."""
    collector.emit(AuditEvent())
    held, free = threading.Event(), threading.Event()

    def hold():
        with collector._lock:
            held.set()
            free.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(20)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(20)
        collector.emit(AuditEvent())
        (first, _), (second, _) = producer.emitted
        os.write(writing, f"{first.session_id != second.session_id}".encode())
        os._exit(0)
    free.set()
    holder.join()
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as said:
        assert said.read() == "True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("whose", ["emitter", "memory", "file"])
def test_a_forked_child_does_not_wait_for_a_lock_of_its_parent(whose, tmp_path):
    """Of none of the names that stand for Calute's."""
    memory, file = InMemoryCollector(), JSONLSinkCollector(tmp_path / "x.jsonl")
    emitter = AuditEmitter(CompositeCollector([memory, file]))
    with {"emitter": emitter, "memory": memory, "file": file}[whose]._lock:
        child = os.fork()
        if not child:
            told = threading.Thread(target=emitter.emit_turn_start, daemon=True)
            told.start()
            told.join(10)
            os._exit(told.is_alive())
    file.close()

    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_signal_may_come_in_the_middle_of_an_event():
    """Its handler emits in the same thread."""

    class Interrupted(Producer):
        def emit(self, event, content=None):
            super().emit(event, content)
            if len(self.emitted) == 1:
                collector.emit(AuditEvent())

    producer = Interrupted()
    collector = CaluteCollector(producer)
    collector.emit(TurnStartEvent())

    assert ["turn.start", "custom"] == [one.event_type for one, _ in producer.emitted]
    assert 2 == len({one.event_id for one, _ in producer.emitted})


def test_a_healthy_call_raises_no_loop_warning():
    """From the emitter to the topic: `ok` is no warning."""
    producer, log = memory_producer()
    with producer:
        emitter = AuditEmitter(CaluteCollector(producer), session_id="s")
        emitter.emit_tool_loop_warning("x", pattern="none", severity="ok")
        emitter.emit_tool_loop_warning("x", pattern="same_call", count=3)
        producer.flush()
        found = [(one.event_type, one.severity) for one in log.events("s")]

    assert [("custom", "info"), ("loop.warning", "warning")] == found


def test_a_dead_letter_goes_out_by_the_producer():
    """By the way of its events, to the topic of dead letters."""
    producer, log = memory_producer()
    with producer:
        CaluteCollector(producer).emit({"event_type": "base", "timestamp": "now"})
        producer.flush()

        assert log.records("fleetwake.dead-letters")


def test_the_lines_of_the_page_work(monkeypatch):
    """Wired as Calute does it: the runtime's emitter over the collector given."""
    made = []

    def memory(*_):
        made.append(memory_producer())
        return made[0][0]

    monkeypatch.setattr("fleetwake.producer.AuditProducer", memory)
    collector_lines, emitter_line = re.findall(
        r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL
    )
    names: dict[str, object] = {}
    exec(collector_lines, names)  # what a user is told to write
    exec(emitter_line, names)
    calute = Calute(SimpleNamespace(enabled=True, audit_collector=names["collector"]))
    calute.answer("What is the weather?")
    ((producer, log),) = made
    producer.close()

    assert ["turn.start", "tool.attempt", "tool.complete", "turn.end"] == [
        one.event_type for one in log.events() if one.event_type != "producer.close"
    ]
    assert AuditEmitter is names["AuditEmitter"]
    assert 3 == len(list(filter(None, collector_lines.splitlines())))


class Calute:
    """A stub with Calute's wiring: the emitter is made first, its session later."""

    def __init__(self, runtime_features):
        assert runtime_features.enabled
        self.emitter = AuditEmitter(collector=runtime_features.audit_collector)
        self.emitter._session_id = None

    def answer(self, prompt):
        turn = self.emitter.emit_turn_start(agent_id="a", prompt=prompt)
        who = {"agent_id": "a", "turn_id": turn}
        self.emitter.emit_tool_call_attempt("weather", args=str({"q": 1}), **who)
        self.emitter.emit_tool_call_complete("weather", result="3 degrees", **who)
        self.emitter.emit_turn_end(agent_id="a", content="cold", fc_count=1)


def test_a_loop_warning_of_a_users_object_is_judged_too(producer, collector):
    """Duck-typed: level and severity are read from its attributes."""
    warning = ToolLoopWarningEvent(severity_level="critical")
    collector.emit(SimpleNamespace(**warning.to_dict()))

    assert "error" == producer.emitted[0][0].severity
