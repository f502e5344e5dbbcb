"""
What each of Calute's types becomes, and what it counts as.

docs/integrations/calute.md has this table. Metrics count the end of a call as a call,
outcome failure as a failure, blocked and denied as a block; so what tells a fact once
more is `custom`, and has neither outcome nor severity.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "OK_WARNING",
    "OTHER",
    "REFUSALS",
    "REFUSED",
    "REFUSED_AGAIN",
    "TYPES",
    "Row",
    "fields_of",
]

_NONE: Final[Mapping[str, str]] = MappingProxyType({})
_TOOL: Final = {"tool_name": "tool_name"}


class Row(NamedTuple):
    """An `EventTypeRow`, and how the type is mapped."""

    event_type: str
    counts: str = ""
    otherwise: Mapping[str, str] = _NONE
    outcome: str = "unknown"
    outcome_from: str = ""
    """A field of the source that says the outcome."""
    columns: Mapping[str, str] = _NONE
    """Column of text: field of the source."""
    content: Mapping[str, str] = _NONE
    """Part of the content: field of the source."""
    attributes: tuple[str, ...] = ()
    has_duration: bool = False


TYPES: Final[Mapping[str, Row]] = {
    "base": Row("custom"),
    "turn_start": Row(
        "turn.start",
        "a turn; detectors start anew",
        content={"text": "prompt_preview"},
    ),
    "turn_end": Row(
        "turn.end",
        content={"text": "content_preview"},
        attributes=("function_calls_count",),
    ),
    "tool_call_attempt": Row(
        "tool.attempt",
        "the begin of a call, each retry anew",
        outcome="attempted",
        columns=_TOOL,
        content={"arguments": "arguments_preview"},
    ),
    "tool_call_complete": Row(
        "tool.complete",
        "a call, or its end",
        outcome_from="status",
        columns=_TOOL,
        content={"result": "result_preview"},
        has_duration=True,
    ),
    "tool_call_failure": Row(
        "tool.failure",
        "a call, or its end; a failure",
        {
            "custom": "the error of a call whose block or denial was told before",
            "tool.blocked": "the same if it was not; a call, or its end; a block",
        },
        outcome="failure",
        columns=_TOOL | {"error_type": "error_type"},
        content={"error": "error_message"},
    ),
    "tool_policy_decision": Row(
        "policy.decision",
        "a block if `action` is `deny`",
        outcome_from="action",
        columns=_TOOL,
        attributes=("policy_source",),
    ),
    "sandbox_decision": Row(
        "sandbox.decision",
        columns=_TOOL | {"reason": "reason"},
        attributes=("context", "backend_type"),
    ),
    "tool_loop_warning": Row(
        "loop.warning",
        "a warning of Calute's own detector",
        {"custom": "`severity_level` is `ok`: there is no loop"},
        columns=_TOOL,
        attributes=("pattern", "severity_level", "call_count"),
    ),
    "tool_loop_block": Row(
        "loop.block",
        "a block",
        outcome="blocked",
        columns=_TOOL,
        attributes=("pattern", "call_count"),
    ),
    "hook_mutation": Row(
        "hook.mutation",
        columns=_TOOL,
        attributes=("hook_name", "mutated_field"),
    ),
    "error": Row(
        "error",
        "an error outside of tools",
        columns={"error_type": "error_type"},
        content={"error": "error_message"},
        attributes=("error_context",),
    ),
    "skill_used": Row(
        "skill.used",
        "a skill's use",
        outcome_from="outcome",
        attributes=("skill_name", "version", "triggered_automatically"),
        has_duration=True,
    ),
    "skill_authored": Row(
        "skill.authored",
        attributes=(
            *("skill_name", "version", "source_path", "tool_count"),
            *("unique_tools", "confirmed_by_user"),
        ),
    ),
    "skill_feedback": Row(
        "skill.feedback",
        columns={"reason": "reason"},
        attributes=("skill_name", "rating", "source"),
    ),
    "agent_switch": Row(
        "agent.switch",
        columns={
            "agent_from": "from_agent",
            "agent_to": "to_agent",
            "reason": "reason",
        },
    ),
}

OTHER: Final = Row("custom", columns=_TOOL)
"""Types that users have made."""

OK_WARNING: Final = TYPES["tool_loop_warning"]._replace(event_type="custom")
"""With a detector configured, Calute sends one for every healthy call."""

REFUSALS: Final[Mapping[str, str]] = {
    "ToolLoopError": "blocked",
    "ToolPolicyViolation": "denied",
}
"""Errors of calls that were not let run, and their outcomes."""

REFUSED_AGAIN: Final = TYPES["tool_call_failure"]._replace(
    event_type="custom", outcome="unknown"
)
REFUSED: Final = TYPES["tool_call_failure"]._replace(
    event_type="tool.blocked", outcome_from="error_type"
)


def fields_of(event_type: object) -> tuple[str, ...]:
    """Return the names of what a type has beside the envelope, as far as it is read."""
    return _FIELDS.get(event_type, _OTHERS) if isinstance(event_type, str) else ()


def _read_by(row: Row) -> tuple[str, ...]:
    names = (*row.columns.values(), *row.content.values(), *row.attributes)
    duration = ("duration_ms",) if row.has_duration else ()
    return tuple(dict.fromkeys(filter(None, (*names, row.outcome_from, *duration))))


_FIELDS: Final = {name: _read_by(row) for name, row in TYPES.items()}
_OTHERS: Final = _read_by(OTHER)
