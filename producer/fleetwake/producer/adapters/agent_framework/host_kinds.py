"""Kinds that tell of what is around a run: users, memory, skills, the host."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from fleetwake.producer.adapters.agent_framework.told import Told
from fleetwake.producer.adapters.reading import error_kind, json_text
from fleetwake.producer.content import ABSENT, Content

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetwake.producer.adapters.agent_framework.seen import Kind, Seen

__all__ = ["HOST_KINDS"]

_MAX_USER_CHARS: Final = 2000
"""Texts on the channel user are cut there by the source."""


def _tool_unavailable(seen: Seen) -> Told:
    return Told(
        "error",
        "failure",
        Content(error=seen.text("error")),
        {"missing_tool_policy": seen.text("missing_tool_policy")},
        tool_name=seen.tool(seen.payload),
        error_kind="unknown_tool",
        error_type=seen.text("error_type"),
    )


def _callback(seen: Seen) -> Told:
    return Told(
        "callback",
        content=Content(text=seen.text("prompt"), result=seen.payload.get("response")),
        attributes={"intent": seen.text("intent"), "target": seen.text("target")},
    )


def _skill(seen: Seen) -> Told:
    return Told(
        "skill.used",
        content=Content(arguments=seen.payload.get("parameters", ABSENT)),
        attributes={"skill": seen.text("skill_name"), "status": seen.text("status")},
    )


def _memory(seen: Seen) -> Told:
    return Told(
        "memory.operation",
        attributes={
            "operation": seen.kind.removeprefix("runtime."),
            "memory_uri": seen.text("memory_uri"),
            "scope": seen.text("scope"),
        },
    )


def _user(seen: Seen, event_type: str) -> Told:
    text = seen.text("text")
    is_cut = text is not None and len(text) >= _MAX_USER_CHARS
    return Told(
        event_type,
        content=Content(text=text, basis="preview" if is_cut else "full"),
        attributes={"role": seen.text("role"), "prompt_id": seen.text("prompt_id")},
    )


def _message_sent(seen: Seen) -> Told:
    is_user = seen.payload.get("role") == "user"
    return _user(seen, "user.input" if is_user else "assistant.message")


def _prompt_answered(seen: Seen) -> Told:
    # The end of the input has no text: nobody said anything.
    return _user(seen, "custom" if seen.payload.get("text") is None else "user.input")


def _permission_resolved(seen: Seen) -> Told:
    allowed = seen.reading.flag(seen.payload, "allowed")
    return Told(
        "permission.decision",
        "unknown" if allowed is None else "allowed" if allowed else "denied",
        severity="warning" if allowed is False else None,
        tool_name=seen.tool(seen.payload),
    )


def _run_failed(seen: Seen) -> Told:
    error = seen.payload.get("error") or seen.payload.get("message")
    error_type = seen.text("error_type")
    if seen.run_id and seen.run.model_failed:
        # It is why the run failed.
        return Told(error_type=error_type)
    return Told(
        "error",
        "failure",
        Content(error=None if error is None else json_text(error)),
        error_kind=error_kind(error_type),
        error_type=error_type,
    )


def _session_started(_: Seen) -> Told:
    return Told("session.start")


def _session_finished(seen: Seen) -> Told:
    return Told("session.end", attributes={"status": seen.text("status")})


HOST_KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "runtime.audit.callback": _callback,
        "runtime.audit.skill_invocation": _skill,
        "runtime.memory_put": _memory,
        "runtime.memory_update": _memory,
        "runtime.memory_autostore": _memory,
        "runtime.tool_unavailable": _tool_unavailable,
        "runtime.session_started": _session_started,
        "runtime.session_finished": _session_finished,
        "runtime.run_failed": _run_failed,
        "user.message_sent": _message_sent,
        "user.prompt_answered": _prompt_answered,
        "user.permission_resolved": _permission_resolved,
    }
)
