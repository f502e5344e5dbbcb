"""Kinds that tell of a tool's call: it begins, it ends."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from fleetwake.producer.adapters.agent_framework.told import Told
from fleetwake.producer.adapters.reading import error_kind
from fleetwake.producer.content import ABSENT, Content

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetwake.producer.adapters.agent_framework.runs import View
    from fleetwake.producer.adapters.agent_framework.seen import Kind, Seen

__all__ = ["CALL_KINDS"]


def _tool_begins(
    seen: Seen, view: View, of: Mapping[str, object], arguments: str
) -> Told:
    tool, span = seen.tool(of), _call_id(seen)
    call, is_first = seen.run.begin_call(view, tool, span, seen.at)
    told = Told(tool_call_id=call.span_id, tool_name=tool)
    if not is_first:
        return told
    return told._replace(
        event_type="tool.attempt",
        outcome="attempted",
        content=Content(arguments=of.get(arguments, ABSENT)),
    )


def _tool_ends(
    seen: Seen, view: View, of: Mapping[str, object], *, failed: bool
) -> Told:
    tool, span = seen.tool(of), _call_id(seen)
    call, is_first = seen.run.end_call(view, tool, span)
    told = Told(
        tool_call_id=call.span_id or span,
        tool_name=tool,
        error_type=seen.reading.text(of, "error_type"),
    )
    if not is_first:
        return told
    duration = seen.reading.duration_ms(call.started_at, seen.at)
    if not failed:
        return told._replace(
            event_type="tool.complete",
            outcome="success",
            content=Content(result=of.get("result")),
            duration_ms=duration,
        )
    return told._replace(
        event_type="tool.failure",
        outcome="failure",
        severity="error",
        content=Content(error=seen.reading.text(of, "error")),
        error_kind=error_kind(told.error_type),
        duration_ms=duration,
    )


def _call_id(seen: Seen) -> str | None:
    # A failure's span is the run's.
    return None if seen.span_id in ("", seen.run_id) else seen.span_id


def _tool_started(seen: Seen) -> Told:
    return _tool_begins(seen, "runtime", seen.payload, "tool_input")


def _tool_finished(seen: Seen) -> Told:
    return _tool_ends(seen, "runtime", seen.payload, failed=False)


def _tool_failed(seen: Seen) -> Told:
    return _tool_ends(seen, "runtime", seen.payload, failed=True)


def _named_event(seen: Seen) -> Told:
    named = seen.reading.mapping(seen.payload, "event")
    name = seen.reading.text(named, "type")
    # It speaks of a call, whatever span it stands in.
    bare = seen._replace(span_id=None)
    match name:
        case "tool_call":
            told = _tool_begins(bare, "named", named, "parameters")
        case "tool_result" | "tool_error":
            told = _tool_ends(bare, "named", named, failed=name == "tool_error")
        case _:
            told = Told(
                error_type=seen.reading.text(named, "error_type"),
                tool_name=seen.reading.text(named, "tool_name"),
                agent_to=seen.reading.text(named, "subagent_id"),
            )
    return told._replace(attributes={"named_event": name})


CALL_KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "runtime.tool_call_started": _tool_started,
        "runtime.tool_call_finished": _tool_finished,
        "runtime.tool_execution_failed": _tool_failed,
        "runtime.audit.named_event": _named_event,
    }
)
