"""Kinds that tell of a run: it starts, it ends."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from fleetwake.producer.adapters.agent_framework.run_ids import parent_of
from fleetwake.producer.adapters.agent_framework.told import (
    HOST,
    Told,
    usage_attributes,
)
from fleetwake.producer.adapters.reading import json_text
from fleetwake.producer.content import ABSENT, Content

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetwake.producer.adapters.agent_framework.seen import Kind, Seen

__all__ = ["RUN_KINDS"]

_STATUS: Final = {
    "completed": "success",
    "failed": "failure",
    "error": "failure",
    "stopped": "cancelled",
    "blocked": "blocked",
}


def _run_started(seen: Seen) -> Told:
    run, is_first = seen.runs.start(seen.run_id, seen.kind, seen.at)
    caller = seen.text("caller_id")
    if seen.run_id:
        # Without an id, whose the next events are is not known.
        run.agent_id = run.agent_id or seen.agent_id
        run.caller = run.caller or caller
    parent = seen.text("parent_run_id") or parent_of(seen.run_id, seen.agent_id)
    run.is_child |= parent is not None or _is_agent(caller)
    prompt = seen.text("user_prompt") or seen.text("prompt")
    attributes = {"caller_id": caller}
    if not is_first:
        return Told(attributes=attributes)
    if not run.is_child:
        return Told("turn.start", content=Content(text=prompt), attributes=attributes)
    return Told(
        "delegation.start",
        content=Content(arguments=ABSENT if prompt is None else prompt),
        attributes=attributes,
        agent_from=caller,
        agent_to=seen.agent_id,
        parent_span_id=parent,
    )


def _run_ended(seen: Seen) -> Told:
    run, caller, status = seen.run, seen.text("caller_id"), seen.text("status")
    attributes = {"caller_id": caller, "status": status}
    for name in ("usage_self", "usage_inclusive"):
        usage = seen.reading.mapping(seen.payload, name)
        attributes |= usage_attributes(seen.reading, name, usage)
    if run.ended and seen.run_id:
        return Told(attributes=attributes)
    run.ended = True
    run.calls.clear()
    is_child = (
        run.is_child
        or _is_agent(caller)
        or parent_of(seen.run_id, seen.agent_id) is not None
    )
    outcome = _STATUS.get(status or "", "unknown")
    said = seen.payload.get("response") or seen.payload.get("message")
    is_failure = outcome == "failure"
    return Told(
        "delegation.end" if is_child else "turn.end",
        outcome,
        Content(
            result=None if is_failure else said,
            error=json_text(said) if is_failure and said else None,
        ),
        attributes,
        severity="error" if is_failure else None,
        agent_from=(caller or run.caller) if is_child else None,
        agent_to=(seen.agent_id or run.agent_id) if is_child else None,
        error_kind="other" if is_failure else None,
        duration_ms=seen.reading.duration_ms(run.started_at, seen.at),
    )


def _is_agent(caller: str | None) -> bool:
    return caller not in (None, "", HOST)


RUN_KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "runtime.audit.agent_call_started": _run_started,
        "runtime.agent_started": _run_started,
        "runtime.agent_finished": _run_ended,
        "runtime.audit.agent_call_finished": _run_ended,
    }
)
