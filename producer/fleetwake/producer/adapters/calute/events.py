"""
Calute's events, as its own module has them.

Plain dataclasses whose fields all have defaults and stay assignable. The order of the
fields is the order of the keys on the wire.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

__all__ = [
    "AgentSwitchEvent",
    "AuditEvent",
    "ErrorEvent",
    "HookMutationEvent",
    "SandboxDecisionEvent",
    "SkillAuthoredEvent",
    "SkillFeedbackEvent",
    "SkillUsedEvent",
    "ToolCallAttemptEvent",
    "ToolCallCompleteEvent",
    "ToolCallFailureEvent",
    "ToolLoopBlockEvent",
    "ToolLoopWarningEvent",
    "ToolPolicyDecisionEvent",
    "TurnEndEvent",
    "TurnStartEvent",
]


def _now() -> str:
    return datetime.now(UTC).isoformat()


@dataclass
class AuditEvent:
    """What all have. `timestamp` is when the event was made, not when it was sent."""

    event_type: str = "base"
    timestamp: str = field(default_factory=_now)
    agent_id: str | None = None
    turn_id: str | None = None
    session_id: str | None = None
    severity: str = "info"
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])

    def to_dict(self) -> dict[str, Any]:
        """
        Return the fields, copied to any depth.

        Raises:
            TypeError: `metadata` holds what cannot be copied, e.g. a lock.
        """
        return asdict(self)

    def to_json(self) -> str:
        """
        Return one line of JSON as Calute writes it.

        NaN stays a literal that JSON does not have; what JSON cannot say is its `str`.

        Raises:
            TypeError: as `to_dict`, or a key that is neither text, number nor null.
        """
        return json.dumps(self.to_dict(), default=str)


@dataclass
class TurnStartEvent(AuditEvent):
    """A prompt came in."""

    event_type: str = field(default="turn_start", init=False)
    prompt_preview: str = ""


@dataclass
class TurnEndEvent(AuditEvent):
    """The prompt was answered."""

    event_type: str = field(default="turn_end", init=False)
    content_preview: str = ""
    function_calls_count: int = 0


@dataclass
class ToolCallAttemptEvent(AuditEvent):
    """A tool is about to run."""

    event_type: str = field(default="tool_call_attempt", init=False)
    tool_name: str = ""
    arguments_preview: str = ""


@dataclass
class ToolCallCompleteEvent(AuditEvent):
    """A tool has answered."""

    event_type: str = field(default="tool_call_complete", init=False)
    tool_name: str = ""
    status: str = "success"
    duration_ms: float = 0.0
    result_preview: str = ""


@dataclass
class ToolCallFailureEvent(AuditEvent):
    """A tool has failed, or was not allowed to run."""

    event_type: str = field(default="tool_call_failure", init=False)
    severity: str = "error"
    tool_name: str = ""
    error_type: str = ""
    error_message: str = ""


@dataclass
class ToolPolicyDecisionEvent(AuditEvent):
    """A tool may run, or not: `action` is allow or deny."""

    event_type: str = field(default="tool_policy_decision", init=False)
    tool_name: str = ""
    action: str = ""
    policy_source: str = ""


@dataclass
class SandboxDecisionEvent(AuditEvent):
    """Where a tool runs: `context` is host or sandbox."""

    event_type: str = field(default="sandbox_decision", init=False)
    tool_name: str = ""
    context: str = ""
    reason: str = ""
    backend_type: str = ""


@dataclass
class ToolLoopWarningEvent(AuditEvent):
    """What the loop detector says; with `severity_level` ok there is no loop."""

    event_type: str = field(default="tool_loop_warning", init=False)
    severity: str = "warning"
    tool_name: str = ""
    pattern: str = ""
    severity_level: str = ""
    call_count: int = 0


@dataclass
class ToolLoopBlockEvent(AuditEvent):
    """The loop detector has stopped a call."""

    event_type: str = field(default="tool_loop_block", init=False)
    severity: str = "error"
    tool_name: str = ""
    pattern: str = ""
    call_count: int = 0


@dataclass
class HookMutationEvent(AuditEvent):
    """A hook has changed `mutated_field`."""

    event_type: str = field(default="hook_mutation", init=False)
    hook_name: str = ""
    tool_name: str = ""
    mutated_field: str = ""


@dataclass
class ErrorEvent(AuditEvent):
    """Something other than a tool has failed."""

    event_type: str = field(default="error", init=False)
    severity: str = "error"
    error_type: str = ""
    error_message: str = ""
    error_context: str = ""


@dataclass
class SkillUsedEvent(AuditEvent):
    """A skill has run."""

    event_type: str = field(default="skill_used", init=False)
    skill_name: str = ""
    version: str = ""
    outcome: str = "unknown"
    duration_ms: float = 0.0
    triggered_automatically: bool = True


@dataclass
class SkillAuthoredEvent(AuditEvent):
    """A skill was written or changed."""

    event_type: str = field(default="skill_authored", init=False)
    skill_name: str = ""
    version: str = ""
    source_path: str = ""
    tool_count: int = 0
    unique_tools: list[str] = field(default_factory=list[str])
    confirmed_by_user: bool = False


@dataclass
class SkillFeedbackEvent(AuditEvent):
    """A skill was rated."""

    event_type: str = field(default="skill_feedback", init=False)
    skill_name: str = ""
    rating: str = "neutral"
    reason: str = ""
    source: str = "user"


@dataclass
class AgentSwitchEvent(AuditEvent):
    """One agent has handed over to another."""

    event_type: str = field(default="agent_switch", init=False)
    from_agent: str = ""
    to_agent: str = ""
    reason: str = ""
