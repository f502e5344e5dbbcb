"""Every promise of Calute's AuditEmitter holds of ours."""

from __future__ import annotations

import inspect
import re
import threading

import pytest

from fleetwake.producer.adapters.calute import (
    AgentSwitchEvent,
    AuditEmitter,
    AuditEvent,
    ErrorEvent,
    HookMutationEvent,
    InMemoryCollector,
    SandboxDecisionEvent,
    SkillAuthoredEvent,
    SkillFeedbackEvent,
    SkillUsedEvent,
    ToolCallAttemptEvent,
    ToolCallCompleteEvent,
    ToolCallFailureEvent,
    ToolLoopBlockEvent,
    ToolLoopWarningEvent,
    ToolPolicyDecisionEvent,
    TurnEndEvent,
    TurnStartEvent,
)

SIGNATURES = {
    "emit_turn_start": "agent_id=None, turn_id=None, prompt=''",
    "emit_turn_end": "agent_id=None, turn_id=None, content='', fc_count=0",
    "emit_tool_call_attempt": "tool_name, args='', agent_id=None, turn_id=None",
    "emit_tool_call_complete": "tool_name, status='success', duration_ms=0.0, "
    "result='', agent_id=None, turn_id=None",
    "emit_tool_call_failure": "tool_name, error_type='', error_msg='', agent_id=None, "
    "turn_id=None",
    "emit_tool_policy_decision": "tool_name, agent_id=None, action='', source='', "
    "turn_id=None",
    "emit_tool_loop_warning": "tool_name, pattern='', severity='warning', count=0, "
    "agent_id=None, turn_id=None",
    "emit_tool_loop_block": "tool_name, pattern='', count=0, agent_id=None, "
    "turn_id=None",
    "emit_sandbox_decision": "tool_name, context='', reason='', backend_type='', "
    "agent_id=None, turn_id=None",
    "emit_hook_mutation": "hook_name, tool_name='', agent_id=None, field='', "
    "turn_id=None, mutated_field=''",
    "emit_error": "error_type='', error_msg='', context='', agent_id=None, "
    "turn_id=None",
    "emit_skill_used": "skill_name, version='', outcome='unknown', duration_ms=0.0, "
    "triggered_automatically=True, agent_id=None, turn_id=None",
    "emit_skill_authored": "skill_name, version='', source_path='', tool_count=0, "
    "unique_tools=None, confirmed_by_user=False, agent_id=None, turn_id=None",
    "emit_skill_feedback": "skill_name, rating='neutral', reason='', source='user', "
    "agent_id=None, turn_id=None",
    "emit_agent_switch": "from_agent, to_agent, reason='', agent_id=None, turn_id=None",
    "emit_loop_warning": "tool_name, pattern='', severity='warning', count=0, "
    "agent_id=None, turn_id=None",
    "flush": "",
    "__init__": "collector=None, session_id=None, hook_runner=None",
}
WHO = {"agent_id": "a", "turn_id": "t"}
CALLS = [
    (
        "emit_turn_start",
        ("a", "t", "p"),
        TurnStartEvent(prompt_preview="p", **WHO),
    ),
    (
        "emit_turn_end",
        ("a", "t", "c", 2),
        TurnEndEvent(content_preview="c", function_calls_count=2, **WHO),
    ),
    (
        "emit_tool_call_attempt",
        ("x", "{}", "a", "t"),
        ToolCallAttemptEvent(tool_name="x", arguments_preview="{}", **WHO),
    ),
    (
        "emit_tool_call_complete",
        ("x", "success", 1.5, "r", "a", "t"),
        ToolCallCompleteEvent(
            tool_name="x", duration_ms=1.5, result_preview="r", **WHO
        ),
    ),
    (
        "emit_tool_call_failure",
        ("x", "E", "m" * 500, "a", "t"),
        ToolCallFailureEvent(
            tool_name="x", error_type="E", error_message="m" * 500, **WHO
        ),
    ),
    (
        "emit_tool_policy_decision",
        ("x", "a", "deny", "s", "t"),
        ToolPolicyDecisionEvent(tool_name="x", action="deny", policy_source="s", **WHO),
    ),
    (
        "emit_tool_loop_warning",
        ("x", "same_call", "critical", 3, "a", "t"),
        ToolLoopWarningEvent(
            tool_name="x",
            pattern="same_call",
            severity_level="critical",
            call_count=3,
            **WHO,
        ),
    ),
    (
        "emit_tool_loop_block",
        ("x", "same_call", 5, "a", "t"),
        ToolLoopBlockEvent(tool_name="x", pattern="same_call", call_count=5, **WHO),
    ),
    (
        "emit_sandbox_decision",
        ("x", "host", "r" * 500, "b", "a", "t"),
        SandboxDecisionEvent(
            tool_name="x", context="host", reason="r" * 500, backend_type="b", **WHO
        ),
    ),
    (
        "emit_hook_mutation",
        ("h", "x", "a", "arguments", "t"),
        HookMutationEvent(
            hook_name="h", tool_name="x", mutated_field="arguments", **WHO
        ),
    ),
    (
        "emit_error",
        ("E", "m" * 500, "c", "a", "t"),
        ErrorEvent(error_type="E", error_message="m" * 500, error_context="c", **WHO),
    ),
    (
        "emit_skill_used",
        ("s", "1", "success", 2.0, False, "a", "t"),
        SkillUsedEvent(
            skill_name="s",
            version="1",
            outcome="success",
            duration_ms=2.0,
            triggered_automatically=False,
            **WHO,
        ),
    ),
    (
        "emit_skill_authored",
        ("s", "1", "/p", 2, ("x",), True, "a", "t"),
        SkillAuthoredEvent(
            skill_name="s",
            version="1",
            source_path="/p",
            tool_count=2,
            unique_tools=["x"],
            confirmed_by_user=True,
            **WHO,
        ),
    ),
    (
        "emit_skill_feedback",
        ("s", "good", "r", "user", "a", "t"),
        SkillFeedbackEvent(skill_name="s", rating="good", reason="r", **WHO),
    ),
    (
        "emit_agent_switch",
        ("f", "g", "r", "a", "t"),
        AgentSwitchEvent(from_agent="f", to_agent="g", reason="r", **WHO),
    ),
]


def emitted(name, *arguments, **named):
    """The one event that a call makes, without its time."""
    emitter = AuditEmitter()
    getattr(emitter, name)(*arguments, **named)
    (event,) = emitter.collector.get_events()
    event.timestamp = ""
    return event


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_method_takes_what_calutes_takes(name):
    """Names, order and defaults."""
    parameters = list(
        inspect.signature(getattr(AuditEmitter, name)).parameters.values()
    )
    said = ", ".join(
        one.name if one.default is one.empty else f"{one.name}={one.default!r}"
        for one in parameters[1:]
    )

    assert SIGNATURES[name] == said


@pytest.mark.parametrize(("name", "arguments", "expected"), CALLS)
def test_a_method_makes_its_event(name, arguments, expected):
    """Each argument in its field; what is no preview is not cut."""
    expected.timestamp = ""

    assert expected == emitted(name, *arguments)


@pytest.mark.parametrize(("name", "arguments", "expected"), CALLS)
def test_a_method_returns_nothing_but_the_id_of_a_turn(name, arguments, expected):
    """Only emit_turn_start has something to say."""
    returned = getattr(AuditEmitter(), name)(*arguments)

    assert ("t" if name == "emit_turn_start" else None) == returned


@pytest.mark.parametrize("given", [None, ""])
def test_a_turn_without_an_id_gets_one(given):
    """12 lower-case hex digits, another one each time, and in the event."""
    emitter = AuditEmitter()
    ids = [emitter.emit_turn_start(turn_id=given) for _ in range(2)]

    assert ids == [one.turn_id for one in emitter.collector.get_events()]
    assert ids[0] != ids[1]
    assert all(re.fullmatch("[0-9a-f]{12}", one) for one in ids)


PREVIEWS = [
    ("emit_turn_start", "prompt", "prompt_preview"),
    ("emit_turn_end", "content", "content_preview"),
    ("emit_tool_call_attempt", "args", "arguments_preview"),
    ("emit_tool_call_complete", "result", "result_preview"),
]


@pytest.mark.parametrize(("name", "parameter", "field"), PREVIEWS)
def test_a_preview_is_the_first_200_code_points(name, parameter, field):
    """Not bytes, not UTF-16 units; no ellipsis; nothing becomes the empty text."""
    tool = () if "turn" in name else ("x",)
    for given, expected in [
        ("é😀" * 250, "é😀" * 100),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 200),
        ("", ""),
        (None, ""),
    ]:
        assert expected == getattr(emitted(name, *tool, **{parameter: given}), field)


@pytest.mark.parametrize(("name", "parameter", "field"), PREVIEWS)
def test_what_cannot_be_cut_raises(name, parameter, field):
    """As with Calute: an integer is no text."""
    tool = () if "turn" in name else ("x",)
    with pytest.raises(TypeError):
        emitted(name, *tool, **{parameter: 7})


def test_the_session_is_the_emitters_always():
    """Assigned later by Calute's runtime, and overwritten even by none."""
    emitter = AuditEmitter(session_id="s")
    emitter.emit_error()
    emitter._session_id = "t"
    emitter.emit_error()
    emitter._session_id = None
    emitter.emit_error()
    event = AuditEvent(session_id="mine")
    emitter._emit(event)

    assert ["s", "t", None, None] == [
        one.session_id for one in emitter.collector.get_events()
    ]
    assert emitter.session_id is None


def test_events_straight_to_a_collector_keep_their_session():
    """Only the emitter overwrites."""
    memory = InMemoryCollector()
    memory.emit(AuditEvent(session_id="mine"))

    assert [one.session_id for one in memory.get_events()] == ["mine"]


def test_its_collector_and_session_can_be_read_only():
    """In memory if none is given; an empty one is one."""
    given = InMemoryCollector()

    assert AuditEmitter(given, "s").collector is given
    assert AuditEmitter(given, "s").session_id == "s"
    assert isinstance(AuditEmitter().collector, InMemoryCollector)
    for name in ("collector", "session_id"):
        with pytest.raises(AttributeError):
            setattr(AuditEmitter(), name, None)


def test_mutated_field_is_another_name_of_field():
    """One of Calute's own tools calls it so, and fails there."""
    event = emitted("emit_hook_mutation", "update_plan", mutated_field="arguments")

    assert event.mutated_field == "arguments"


def test_a_warning_has_its_level_beside_its_severity():
    """The severity of the envelope stays warning."""
    event = emitted("emit_tool_loop_warning", "x", severity="ok")

    assert ("ok", "warning") == (event.severity_level, event.severity)


class Hooks:
    def __init__(self, *names):
        self.names = names
        self.ran = []

    def has_hooks(self, name):
        return name in self.names

    def run(self, name, **arguments):
        self.ran.append((name, arguments))


def test_a_loop_warning_goes_to_the_hooks_if_there_are_any():
    """And to the collector if not, or if there is no runner at all."""
    hooks = Hooks("on_loop_warning")
    emitter = AuditEmitter(None, "s", hooks)
    emitter.emit_loop_warning("x", "same_call", "critical", 3, "a", "t")

    assert emitter.collector.get_events() == []
    assert [
        (
            "on_loop_warning",
            {
                "tool_name": "x",
                "pattern": "same_call",
                "severity": "critical",
                "count": 3,
                "agent_id": "a",
                "turn_id": "t",
            },
        )
    ] == hooks.ran

    for runner in (None, Hooks()):
        emitter = AuditEmitter(hook_runner=runner)
        emitter.emit_loop_warning("x", severity="critical")
        (event,) = emitter.collector.get_events()

        assert isinstance(event, ToolLoopWarningEvent)
        assert event.severity_level == "critical"


class Exclusive:
    """A collector that sees whether two threads are in it at once."""

    def __init__(self):
        self.inside = threading.Lock()
        self.events = []
        self.clashes = 0
        self.flushes = 0

    def emit(self, event):
        if not self.inside.acquire(blocking=False):
            self.clashes += 1
            return
        self.events.append(event)
        self.inside.release()

    def flush(self):
        self.clashes += not self.inside.acquire(blocking=False)
        self.flushes += 1
        self.inside.release()


def test_no_event_of_many_threads_is_lost_and_none_come_at_once():
    """One lock around emit and flush: 10 threads, 100 events each."""
    collector = Exclusive()
    emitter = AuditEmitter(collector)

    def work():
        for _ in range(100):
            emitter.emit_error()
            emitter.flush()

    threads = [threading.Thread(target=work) for _ in range(10)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert (1000, 1000, 0) == (
        len(collector.events),
        collector.flushes,
        collector.clashes,
    )


def test_what_a_collector_raises_is_raised_and_the_emitter_goes_on():
    """The lock is free again."""

    class Once(InMemoryCollector):
        raised = False

        def emit(self, event):
            if not self.raised:
                self.raised = True
                raise RuntimeError("no")
            super().emit(event)

    emitter = AuditEmitter(Once())
    with pytest.raises(RuntimeError):
        emitter.emit_error()
    emitter.emit_error()

    assert len(emitter.collector) == 1
