"""What becomes of every kind; docs/integrations/agent_framework.md shows it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from fleetwake.producer.adapters.agent_framework.audit_parts import RUN
from fleetwake.producer.adapters.reading import EventTypeRow

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TYPES"]

_TWICE: Final = {"custom": "another kind told it before"}
_START: Final = EventTypeRow(
    "turn.start",
    "resets detectors",
    {"delegation.start": "the run of a called agent; resets nothing", **_TWICE},
)
_END: Final = EventTypeRow(
    "turn.end", "", {"delegation.end": "a called agent"} | _TWICE
)
_MEMORY: Final = EventTypeRow("memory.operation")
_PERMISSION: Final = EventTypeRow(
    "permission.decision", "a block if `allowed` is false"
)
_SECOND_VIEW: Final = EventTypeRow("custom")
_ATTEMPT: Final = EventTypeRow("tool.attempt", "a call begins")
_COMPLETE: Final = EventTypeRow("tool.complete", "a call ends")
_FAILURE: Final = EventTypeRow("tool.failure", "a call ends; a failure")

TYPES: Final[Mapping[str, EventTypeRow]] = MappingProxyType(
    {
        "runtime.audit.agent_call_started": _START,
        "runtime.agent_started": _START,
        "runtime.agent_finished": _END,
        "runtime.audit.agent_call_finished": _END,
        "runtime.tool_call_started": _ATTEMPT._replace(otherwise=_TWICE),
        "runtime.tool_call_finished": _COMPLETE._replace(otherwise=_TWICE),
        "runtime.tool_execution_failed": _FAILURE._replace(otherwise=_TWICE),
        "runtime.tool_unavailable": EventTypeRow("error", "a failure, but no call"),
        "runtime.audit.named_event": EventTypeRow(
            "custom",
            "",
            {
                "tool.attempt": "`tool_call` that nothing told before; a call begins",
                "tool.complete": "`tool_result`, likewise; a call ends",
                "tool.failure": "`tool_error`, likewise; a call ends, a failure",
            },
        ),
        "runtime.audit.decision": _SECOND_VIEW,
        "runtime.audit.callback": EventTypeRow("callback"),
        "runtime.audit.skill_invocation": EventTypeRow("skill.used"),
        "runtime.memory_put": _MEMORY,
        "runtime.memory_update": _MEMORY,
        "runtime.memory_autostore": _MEMORY,
        "runtime.model_call_started": _SECOND_VIEW,
        "runtime.model_call_failed": EventTypeRow("model.error", "a failure", _TWICE),
        "llm.request": EventTypeRow("model.request"),
        "llm.response": EventTypeRow("model.response", "tokens"),
        "llm.error": EventTypeRow("model.error", "a failure", _TWICE),
        "runtime.session_started": EventTypeRow("session.start"),
        "runtime.session_finished": EventTypeRow("session.end", "resets detectors"),
        "runtime.run_failed": EventTypeRow(
            "error", "a failure", {"custom": "its model's failure told it before"}
        ),
        "user.message_sent": EventTypeRow(
            "assistant.message", "", {"user.input": "`role` is user; resets detectors"}
        ),
        "user.prompt_answered": EventTypeRow(
            "user.input", "resets detectors", {"custom": "the input has ended"}
        ),
        "user.permission_resolved": _PERMISSION,
        RUN: EventTypeRow(
            "turn.start",
            "resets detectors",
            {"delegation.start": "a called agent; resets nothing"},
        ),
        f"{RUN}.llm_message_sent": EventTypeRow("model.request"),
        f"{RUN}.llm_message_received": EventTypeRow(
            "model.response",
            "",
            {"model.error": "`model_response` holds an error; a failure"},
        ),
        f"{RUN}.agent_decision": _SECOND_VIEW,
        f"{RUN}.callbacks": EventTypeRow("callback"),
        f"{RUN}.skill_invocations": EventTypeRow("skill.used"),
        f"{RUN}.events.tool_call": _ATTEMPT,
        f"{RUN}.events.tool_result": _COMPLETE,
        f"{RUN}.events.tool_error": _FAILURE,
        f"{RUN}.end": EventTypeRow(
            "turn.end", "", {"delegation.end": "a called agent"}
        ),
        "user_output": EventTypeRow(
            "assistant.message", "", {"user.input": "`role` is user; resets detectors"}
        ),
        "user_input": EventTypeRow(
            "user.input", "resets detectors", {"custom": "the input has ended"}
        ),
        "permission_request": _PERMISSION,
        "memory_operation": _MEMORY,
    }
)
"""By `source_event_type`. Other kinds are `custom` and count as nothing."""
