"""Our recorder: the names, the file and the rules of agent_framework's own."""

from __future__ import annotations

import errno
import inspect
import json
import os
import re
import threading
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from types import SimpleNamespace
from typing import Any

import pytest

from fleetwake.producer.adapters.agent_framework import audit_trace
from fleetwake.producer.adapters.agent_framework.audit_trace import (
    AgentCallAuditRecord,
    AuditTraceSubscriber,
    InMemoryAuditTracer,
)
from fleetwake.producer.testing import memory_producer

RECORDINGS = files("fleetwake.consumers.demo") / "recordings"
RUN = "fa0ea394-215.p1.planner"
SIGNATURES = {
    "start_agent_call": (
        *("run_id", "caller_id", "agent_name", "system_prompt"),
        *("system_prompt_sources", "user_prompt", "user_prompt_sources"),
    ),
    "record_llm_request": ("run_id", "payload"),
    "record_llm_response": ("run_id", "raw_text", "parsed_payload"),
    "record_decision": ("run_id", "decision"),
    "record_callback": ("run_id", "intent", "prompt", "target", "response"),
    "record_skill_invocation": (
        *("run_id", "skill_name", "parameters", "inventory"),
        *("status", "loaded_resources"),
    ),
    "record_event": ("run_id", "event"),
    "finish_agent_call": ("run_id",),
    "record_user_output": ("role", "text"),
    "record_user_input": ("prompt", "response"),
    "record_permission": (
        *("tool_name", "action", "resource", "summary", "allowed"),
        "remember_for_session",
    ),
    "record_memory_operation": (
        *("operation", "memory_uri", "scope", "mime_type", "title", "summary"),
        *("size_bytes", "version", "metadata"),
    ),
}


def lines(name):
    text = (RECORDINGS / name).read_text("utf-8")
    return [json.loads(line) for line in text.splitlines() if line]


TRACE = lines("agent_framework_trace_events.jsonl")
AUDIT = lines("agent_framework_0.5_audit_trace.jsonl")


@pytest.fixture(name="tracer")
def _tracer(tmp_path):
    return InMemoryAuditTracer(tmp_path / "logs")


def start(tracer, run_id=RUN, **fields):
    tracer.start_agent_call(
        **{
            "run_id": run_id,
            "caller_id": "host",
            "agent_name": "planner",
            "system_prompt": "You plan.",
            "system_prompt_sources": ("agents/planner.md",),
            "user_prompt": "Find für Oslo",
            "user_prompt_sources": ("agents/planner.md",),
        }
        | fields
    )


def written(tracer):
    if not tracer.output_path.exists():
        return []
    return [json.loads(line) for line in tracer.output_path.read_text().splitlines()]


def timeless(record):
    """The record with its times replaced: they are those of the test."""
    if isinstance(record, dict):
        return {
            name: "now" if name == "timestamp" else timeless(value)
            for name, value in record.items()
        }
    return [timeless(one) for one in record] if isinstance(record, list) else record


def test_all_public_names_are_there():
    """Those of the source, no more and no less."""
    assert sorted(audit_trace.__all__) == [
        "AgentCallAuditRecord",
        "AuditTraceSubscriber",
        "CallbackAuditRecord",
        "InMemoryAuditTracer",
        "MemoryOperationRecord",
        "PermissionRequestRecord",
        "SkillInvocationRecord",
        "UserInputRecord",
        "UserOutputRecord",
    ]


@pytest.mark.parametrize("name", SIGNATURES)
def test_methods_take_what_the_sources_take(name):
    """By keyword only."""
    parameters = inspect.signature(getattr(InMemoryAuditTracer, name)).parameters
    named = [
        one for one in parameters.values() if one.kind is inspect.Parameter.KEYWORD_ONLY
    ]

    assert SIGNATURES[name] == tuple(one.name for one in named)
    assert not any(
        one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        for one in list(parameters.values())[1:]
    )


def test_the_recorded_events_give_the_recorded_file(tracer):
    """Fed by the subscriber, as in the source: each line, field by field, in order."""
    subscriber = AuditTraceSubscriber(tracer)
    for event in TRACE:
        subscriber.consume(event)

    assert json.dumps(timeless(AUDIT[:4])) == json.dumps(timeless(written(tracer)))


def test_session_records_are_those_of_the_recording(tracer):
    """Their keys in their order; written at once."""
    tracer.record_user_output(role="assistant", text="It is 3C")
    tracer.record_user_input(prompt="More?", response="no")
    tracer.record_permission(
        tool_name="Bash",
        action="execute",
        resource="rm -rf /tmp/x",
        summary="Delete tmp",
        allowed=False,
        remember_for_session=True,
    )

    assert json.dumps(timeless(AUDIT[4:])) == json.dumps(timeless(written(tracer)))


def consume(tracer, kind, **payload):
    """Give the subscriber an event of the run."""
    event = {"kind": kind, "context": {"run_id": RUN}, "payload": payload}
    AuditTraceSubscriber(tracer).consume(event)


def run_record(tracer):
    """Finish the run."""
    tracer.finish_agent_call(run_id=RUN)
    (record,) = written(tracer)
    return record


def test_what_later_versions_say_of_skills_is_written(tracer):
    """Where it is given, and where the event says more than the usual."""
    skill = {"skill_name": "s", "parameters": {}, "inventory": ["a"]}
    start(tracer)
    tracer.record_skill_invocation(run_id=RUN, **skill)
    tracer.record_skill_invocation(
        run_id=RUN, **skill, status="loaded", loaded_resources=["r"]
    )
    kind = "runtime.audit.skill_invocation"
    consume(tracer, kind, **skill, status="loaded", loaded_resources=[])
    consume(tracer, kind, **skill, status="failed", loaded_resources=[])
    usual, given, of_usual, of_failed = run_record(tracer)["skill_invocations"]

    assert ["timestamp", *skill] == list(usual) == list(of_usual)
    assert ("loaded", ["r"]) == (given["status"], given["loaded_resources"])
    assert ("failed", []) == (of_failed["status"], of_failed["loaded_resources"])


def test_a_decision_without_message_and_parameters_has_empty_ones(tracer):
    """As the source's own subscriber writes it."""
    start(tracer)
    consume(tracer, "runtime.audit.decision", decision={"kind": "final_message"})
    decision = run_record(tracer)["agent_decision"]

    assert ("final_message", "", {}) == (
        decision["kind"],
        decision["message"],
        decision["parameters"],
    )


def test_values_of_other_types_are_kept(tracer):
    """The source keeps them; a prompt becomes its text, as there."""
    consume(tracer, "runtime.audit.agent_call_started", user_prompt=12, caller_id=7)
    consume(tracer, "runtime.audit.callback", response={"a": [1]})
    consume(tracer, "runtime.memory_put", version=3, size_bytes="14")
    tracer.finish_agent_call(run_id=RUN)
    memory, run = written(tracer)

    assert ("12", 7) == (run["user_prompt"], run["caller_id"])
    assert {"a": [1]} == run["callbacks"][0]["response"]
    assert (3, "14") == (memory["version"], memory["size_bytes"])


@pytest.mark.parametrize("run_id", [5, None, ["r"], {"r": 1}])
def test_arguments_of_wrong_types_raise_nothing(tracer, run_id):
    """The run is found under its id all the same."""
    start(tracer, run_id, system_prompt_sources=None, user_prompt_sources=7)
    tracer.record_event(run_id=run_id, event={})
    tracer.record_skill_invocation(
        run_id=run_id, skill_name="s", parameters=None, inventory=None
    )
    tracer.finish_agent_call(run_id=run_id)
    (record,) = written(tracer)

    assert ([], []) == (record["system_prompt_sources"], record["user_prompt_sources"])
    assert [{}] == record["events"]


def test_the_file_is_named_after_the_start_of_the_process(tmp_path):
    """One for each folder, whatever path is given; the folder is made."""
    first = InMemoryAuditTracer(tmp_path / "a" / "b", {}, "ignored.jsonl")
    second = InMemoryAuditTracer(str(tmp_path / "a" / "b"))

    assert first.output_path == second.output_path
    assert re.fullmatch(r"trace-\d{6}_\d{6}\.jsonl", first.output_path.name)
    assert first.output_path.parent.is_dir()


def test_times_are_local_with_their_offset(tracer):
    """To the microsecond, of now."""
    tracer.record_user_output(role="assistant", text="x")
    at = datetime.fromisoformat(written(tracer)[0]["timestamp"])

    assert at.utcoffset() is not None
    assert timedelta(0) <= datetime.now(UTC) - at < timedelta(minutes=1)


def test_a_run_is_written_when_it_finishes(tracer):
    """Its time is that of its start; one that does not finish is never written."""
    start(tracer)
    started = tracer.active_records[RUN].timestamp
    start(tracer, "unfinished")

    assert [] == written(tracer)
    tracer.finish_agent_call(run_id=RUN)

    assert [started] == [one["timestamp"] for one in written(tracer)]
    assert ["unfinished"] == list(tracer.active_records)


def test_what_is_said_of_unknown_runs_is_ignored(tracer):
    """By each method."""
    tracer.record_llm_request(run_id="x", payload={})
    tracer.record_llm_response(run_id="x", raw_text="", parsed_payload=None)
    tracer.record_decision(run_id="x", decision=SimpleNamespace())
    tracer.record_callback(run_id="x", intent="", prompt="", target="")
    tracer.record_skill_invocation(
        run_id="x", skill_name="", parameters={}, inventory=[]
    )
    tracer.record_event(run_id="x", event={})
    tracer.finish_agent_call(run_id="x")

    assert ([], {}) == (written(tracer), tracer.active_records)


def test_starting_a_known_run_begins_anew(tracer):
    """What was recorded of it is gone."""
    start(tracer)
    tracer.record_event(run_id=RUN, event={"type": "plan_updated"})
    start(tracer, user_prompt="again")

    assert () == tracer.active_records[RUN].events
    assert "again" == tracer.active_records[RUN].user_prompt


def test_finishing_twice_writes_once(tracer):
    """The second time does nothing."""
    start(tracer)
    tracer.finish_agent_call(run_id=RUN)
    tracer.finish_agent_call(run_id=RUN)

    assert 1 == len(written(tracer))


def test_the_last_request_answer_and_decision_stay(tracer):
    """Callbacks, skills and events add up."""
    start(tracer)
    for number in range(2):
        tracer.record_llm_request(run_id=RUN, payload={"n": number})
        tracer.record_llm_response(
            run_id=RUN, raw_text=str(number), parsed_payload={"n": number}
        )
        tracer.record_decision(
            run_id=RUN, decision=SimpleNamespace(kind=str(number), parameters={})
        )
        tracer.record_callback(run_id=RUN, intent=str(number), prompt="", target="")
        tracer.record_skill_invocation(
            run_id=RUN, skill_name=str(number), parameters={}, inventory=("a",)
        )
        tracer.record_event(run_id=RUN, event={"n": number})
    tracer.finish_agent_call(run_id=RUN)
    (record,) = written(tracer)

    assert ({"n": 1}, "1", {"n": 1}) == (
        record["llm_message_sent"],
        record["llm_message_received"],
        record["model_response"],
    )
    assert "1" == record["agent_decision"]["kind"]
    assert record["agent_decision"]["response"] is None
    assert ["0", "1"] == [one["intent"] for one in record["callbacks"]]
    assert ["0", "1"] == [one["skill_name"] for one in record["skill_invocations"]]
    assert [{"n": 0}, {"n": 1}] == record["events"]


def test_what_is_recorded_may_change_later(tracer):
    """It is copied."""
    start(tracer)
    event = {"list": [1]}
    tracer.record_event(run_id=RUN, event=event)
    tracer.record_llm_request(run_id=RUN, payload=event)
    event["list"].append(2)
    record = tracer.active_records[RUN]

    assert ({"list": [1]},) == record.events
    assert {"list": [1]} == record.llm_message_sent


def test_records_are_frozen_and_slotted(tracer):
    """And have a form for JSON."""
    start(tracer)
    record = tracer.active_records[RUN]

    assert isinstance(record, AgentCallAuditRecord)
    assert not hasattr(record, "__dict__")
    with pytest.raises(FrozenInstanceError):
        record.run_id = "other"
    assert record.to_jsonable()["events"] == ()


HOSTILE: dict[str, Any] = {"set": {1}, "nan": float("nan"), "surrogate": "\ud800"}
HOSTILE["self"] = HOSTILE


def test_what_is_no_json_is_written_all_the_same(tracer):
    """The source raises; each line of ours can be read by anyone."""
    start(tracer, user_prompt="\ud800")
    tracer.record_llm_request(run_id=RUN, payload=HOSTILE)
    tracer.record_event(run_id=RUN, event=HOSTILE)
    tracer.finish_agent_call(run_id=RUN)
    tracer.record_memory_operation(operation="memory_put", metadata=HOSTILE)
    tracer.record_user_output(role="assistant", text=HOSTILE)
    run, memory, said = written(tracer)

    assert ("\ud800", "NaN") == (run["user_prompt"], run["events"][0]["nan"])
    assert "\ud800" == memory["metadata"]["surrogate"]
    assert "..." == said["text"]["self"]


@pytest.mark.parametrize("kind", sorted({event["kind"] for event in TRACE}))
@pytest.mark.parametrize("payload", [{}, None, [], {"run_id": 5, "decision": 1}])
def test_a_malformed_event_raises_nothing(tracer, kind, payload):
    """The source raises KeyError and TypeError, into the agent."""
    subscriber = AuditTraceSubscriber(tracer)
    start(tracer)
    subscriber.consume({"kind": kind, "context": {"run_id": RUN}, "payload": payload})
    subscriber.consume(7)

    assert {"runtime", "llm"} == subscriber.trace_channels


def test_runs_in_parallel_lose_nothing(tracer):
    """There is a lock."""
    start(tracer)

    def work() -> None:
        for number in range(100):
            tracer.record_event(run_id=RUN, event={"n": number})

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 800 == len(tracer.active_records[RUN].events)


def test_a_file_that_cannot_be_written_is_logged_once(tracer, caplog):
    """The agent goes on."""
    tracer.output_path = tracer.output_dir
    tracer.record_user_input(prompt="", response="")
    tracer.record_user_input(prompt="", response="")

    assert 1 == len(caplog.records)
    assert os.strerror(errno.EISDIR) in caplog.text


def test_with_a_producer_the_records_are_published(tmp_path):
    """As their file would be; session records go with the run that started last."""
    producer, log = memory_producer()
    tracer = InMemoryAuditTracer(tmp_path, producer=producer, agent_id="a")
    subscriber = AuditTraceSubscriber(tracer)
    for event in TRACE:
        subscriber.consume(event)
    tracer.record_user_input(prompt="More?", response="no")
    assert producer.close()
    found = [one for one in log.events() if one.event_type != "producer.close"]

    assert {"fa0ea394-215"} == {event.session_id for event in found}
    records = [
        json.loads(event.payload)
        for event in found
        if "." not in event.source_event_type
    ]
    assert records == written(tracer)
