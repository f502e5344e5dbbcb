"""
The bundled recordings of the source systems, as events.

This is the least mapping that a demonstration needs: type, session, actor, tool,
outcome and time, beside the line itself, verbatim. It has no digests and no tokens.
The adapters replace it.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import NAMESPACE_URL, uuid5

from fleetwake.consumers.demo.shift import shifted
from fleetwake.schemas.event import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["RECORDINGS", "Recording", "recorded_events"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Line = dict[str, Any]


class Recording(NamedTuple):
    """One file, and who wrote it."""

    file: str
    source: str
    mapping: Callable[[list[Line], str], Iterator[AuditEvent]]
    """Gives one event for each line. The second argument names the file's session
    where a line has none."""

    def read(self) -> list[AuditEvent]:
        """The file's events, in its order and with its times."""
        folder = files("fleetwake.consumers.demo") / "recordings"
        lines = (folder / self.file).read_text("utf-8").splitlines()
        own_session = self.file.removesuffix(".jsonl")
        events = self.mapping([json.loads(line) for line in lines], own_session)
        return [
            event._replace(
                event_id=str(
                    uuid5(NAMESPACE_URL, f"{self.file}:{number}:{event.occurred_at}")
                ),
                source=self.source,
                payload=line,
                payload_chars=len(line),
            )
            for number, (line, event) in enumerate(zip(lines, events, strict=True))
        ]


def recorded_events(now_us: int) -> list[AuditEvent]:
    """All recordings, each moved so that its last event is at `now_us`."""
    return [event for file in RECORDINGS for event in shifted(file.read(), now_us)]


_CALUTE_TYPES: Final = {
    "turn_start": "turn.start",
    "turn_end": "turn.end",
    "tool_call_attempt": "tool.attempt",
    "tool_call_complete": "tool.complete",
    "tool_call_failure": "tool.failure",
    "tool_policy_decision": "policy.decision",
    "tool_loop_warning": "loop.warning",
    "tool_loop_block": "loop.block",
    "sandbox_decision": "sandbox.decision",
    "hook_mutation": "hook.mutation",
    "error": "error",
}
_CALUTE_OUTCOMES: Final = {
    "tool_call_attempt": "attempted",
    "tool_call_failure": "failure",
    "tool_loop_block": "blocked",
    "allow": "allowed",
    "deny": "denied",
    "success": "success",
}


def _calute(lines: list[Line], own_session: str) -> Iterator[AuditEvent]:
    for line in lines:
        kind = line["event_type"]
        # Its runtime warns of every call; level "ok" means that there is no loop.
        is_ok = line.get("severity_level") == "ok"
        decided = line.get("action") or line.get("status") or kind
        yield AuditEvent(
            source_event_type=kind,
            event_type="custom" if is_ok else _CALUTE_TYPES.get(kind, "custom"),
            occurred_at=_micros(line["timestamp"]),
            session_id=line["session_id"] or own_session,
            agent_id=line["agent_id"],
            turn_id=line["turn_id"],
            tool_name=line.get("tool_name"),
            severity="info" if is_ok else line["severity"],
            outcome=_CALUTE_OUTCOMES.get(decided, "unknown"),
            error_type=line.get("error_type"),
            error_message=line.get("error_message"),
            duration_ms=line.get("duration_ms"),
        )


_TRACE_TYPES: Final = {
    "runtime.agent_started": ("turn.start", "unknown"),
    "runtime.agent_finished": ("turn.end", "unknown"),
    "runtime.tool_call_started": ("tool.attempt", "attempted"),
    "runtime.tool_call_finished": ("tool.complete", "success"),
    "runtime.tool_execution_failed": ("tool.failure", "failure"),
    "runtime.audit.callback": ("callback", "unknown"),
    "runtime.audit.skill_invocation": ("skill.used", "unknown"),
    "runtime.memory_put": ("memory.operation", "unknown"),
    "runtime.memory_update": ("memory.operation", "unknown"),
    "runtime.memory_autostore": ("memory.operation", "unknown"),
    "llm.request": ("model.request", "unknown"),
    "llm.response": ("model.response", "unknown"),
    "llm.error": ("model.error", "failure"),
    "user.message_sent": ("assistant.message", "unknown"),
}
"""Other kinds are further views of the same facts, or logs: `custom`."""


def _trace_events(lines: list[Line], own_session: str) -> Iterator[AuditEvent]:
    for line in lines:
        context, payload = line["context"], line["payload"]
        kind, outcome = _TRACE_TYPES.get(line["kind"], ("custom", "unknown"))
        is_call = kind in {"tool.attempt", "tool.complete"}
        yield AuditEvent(
            source_event_type=line["kind"],
            event_type=kind,
            occurred_at=_micros(line["timestamp"]),
            session_id=context["session_id"] or own_session,
            agent_id=context["agent_id"],
            turn_id=context["run_id"],
            span_id=line["span_id"],
            parent_span_id=line["parent_span_id"],
            tool_call_id=line["span_id"] if is_call else None,
            tool_name=context["tool_name"],
            severity=line["level"],
            outcome=outcome,
            error_type=payload.get("error_type"),
            error_message=payload.get("error"),
            provider=payload.get("provider_name"),
            model=payload.get("model_name"),
        )


_AUDIT_TYPES: Final = {
    "memory_operation": "memory.operation",
    "user_output": "assistant.message",
    "user_input": "user.input",
    "permission_request": "permission.decision",
}


def _audit_trace(lines: list[Line], own_session: str) -> Iterator[AuditEvent]:
    for line in lines:
        # The record of a run has no type: it sums up what the trace events told.
        kind = line.get("type", "agent_call")
        session, has_run, _ = line.get("run_id", "").partition(".p")
        allowed = {True: "allowed", False: "denied", None: "unknown"}
        yield AuditEvent(
            source_event_type=kind,
            event_type=_AUDIT_TYPES.get(kind, "custom"),
            occurred_at=_micros(line["timestamp"]),
            session_id=session if has_run else own_session,
            agent_id=line.get("agent_name"),
            turn_id=line.get("run_id"),
            tool_name=line.get("tool_name"),
            outcome=allowed[line.get("allowed")],
        )


_SDK_TYPES: Final = {
    "completed": "tool.complete",
    "blocked": "tool.blocked",
    "requires_confirmation": "tool.confirmation",
    "cached": "tool.cached",
    "replayed": "tool.replayed",
    "invalidated": "tool.invalidated",
    "persistence_failed": "tool.persistence_failed",
}


def _tool_audit_records(lines: list[Line], own_session: str) -> Iterator[AuditEvent]:
    for line in lines:
        outcome = line["outcome"]
        kind, result = outcome["kind"], outcome.get("result") or {}
        failed = kind == "completed" and not result["success"]
        ended = "failure" if failed else "success"
        yield AuditEvent(
            source_event_type=kind,
            event_type="tool.failure" if failed else _SDK_TYPES.get(kind, "custom"),
            occurred_at=_micros(line["recorded_at"]),
            session_id=own_session,
            turn_id=str(line["turn"]),
            tool_call_id=line["tool_call_id"],
            tool_name=line["tool_name"],
            severity="error" if failed else "info",
            outcome=ended if kind == "completed" else kind,
            reason=outcome.get("reason"),
            error_message=result["output"] if failed else outcome.get("error"),
            duration_ms=result.get("duration_ms"),
            provider=line["provenance"]["provider"],
            model=line["provenance"]["model"],
        )


_ATOF_TYPES: Final = {
    ("tool", "start"): "tool.attempt",
    ("tool", "end"): "tool.complete",
    ("llm", "start"): "model.request",
    ("llm", "end"): "model.response",
}
_ATOF_STATUS: Final = {"OK": "success", "ERROR": "failure"}


def _atof(lines: list[Line], own_session: str) -> Iterator[AuditEvent]:
    sessions: dict[str, str] = {}
    agents: dict[str, str] = {}
    for line in lines:
        uuid, parent = line["uuid"], line["parent_uuid"]
        metadata, data = line["metadata"] or {}, line["data"]
        profile, category = line["category_profile"] or {}, line["category"]
        # Only the scope that carries a session names it: its children inherit it.
        sessions[uuid] = metadata.get("session_id") or sessions.get(parent, own_session)
        agents[uuid] = line["name"] if category == "agent" else agents.get(parent, "")
        phase = line.get("scope_category", "")
        rejected = isinstance(data, dict) and bool(data.get("rejected")) and not phase
        outcome = _ATOF_STATUS.get(metadata.get("otel.status_code", ""), "unknown")
        kind = _ATOF_TYPES.get((category, phase)) or (f"scope.{phase}" if phase else "")
        if outcome == "failure" and kind in {"tool.complete", "model.response"}:
            kind = "tool.failure" if category == "tool" else "model.error"
        if kind == "tool.attempt":
            outcome = "attempted"
        yield AuditEvent(
            source_event_type=".".join(filter(None, (line["kind"], phase, category))),
            event_type=kind or ("tool.blocked" if rejected else "mark"),
            occurred_at=_micros(line["timestamp"]),
            session_id=sessions[uuid],
            agent_id=agents[uuid] or None,
            span_id=uuid,
            parent_span_id=parent,
            tool_call_id=profile.get(
                "tool_call_id", uuid if category == "tool" else None
            ),
            tool_name=line["name"] if category == "tool" or rejected else None,
            outcome="blocked" if rejected else outcome,
            reason=data["rejection_reason"] if rejected else None,
            error_type=metadata.get("exception.type"),
            error_message=metadata.get("otel.status_description"),
            model=profile.get("model_name"),
        )


def _micros(timestamp: str) -> int:
    """UTC microseconds of an RFC 3339 time; finer digits are cut."""
    return (datetime.fromisoformat(timestamp) - _EPOCH) // timedelta(microseconds=1)


RECORDINGS: Final = (
    Recording("calute_0.2.0_audit_events.jsonl", "calute", _calute),
    Recording("agent_framework_trace_events.jsonl", "agent_framework", _trace_events),
    Recording("agent_framework_0.5_audit_trace.jsonl", "agent_framework", _audit_trace),
    Recording(
        "agent_sdk_0.9.2_tool_audit_records.jsonl", "agent_sdk", _tool_audit_records
    ),
    Recording("nemo_flow_0.2.0_atof_kitchen_sink.jsonl", "atof", _atof),
    Recording("nemo_relay_0.10.4_atof_kitchen_sink.jsonl", "atof", _atof),
)
