"""From trace events to the recorder, as the source's own subscriber does it."""

from __future__ import annotations

import logging
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from fleetwake.producer.adapters.agent_framework.subscriber import trace_record
from fleetwake.producer.adapters.reading import Reading, json_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleetwake.producer.adapters.agent_framework.audit_trace import (
        InMemoryAuditTracer,
    )

__all__ = ["AuditTraceSubscriber"]

_LOG: Final = logging.getLogger("fleetwake.producer")


class AuditTraceSubscriber:
    """
    Records what trace events of the channels runtime and llm say. Never raises.

    What is missing in an event is empty in the record. Other events are ignored, and
    what is no event; kinds that belong to a run are, where they name none.
    """

    trace_channels = frozenset({"runtime", "llm"})

    def __init__(self, store: InMemoryAuditTracer) -> None:
        self._store = store

    def consume(self, event: object) -> None:
        """Take an event."""
        try:
            _record(self._store, trace_record(event))
        except Exception as error:  # noqa: BLE001  # the agent's run would fail of it
            _LOG.warning("A trace event was not recorded: %s.", type(error).__name__)


def _record(store: InMemoryAuditTracer, event: Mapping[str, object]) -> None:
    reading = Reading()
    kind, payload = reading.text(event, "kind") or "", reading.mapping(event, "payload")
    if kind in _MEMORY_KINDS:
        _memory(store, kind, payload)
        return
    context = reading.mapping(event, "context")
    run_id = reading.text(context, "run_id") or reading.text(payload, "run_id")
    record = _RUN_KINDS.get(kind)
    if record is not None and run_id:
        record(store, run_id, payload)


def _started(
    store: InMemoryAuditTracer, run_id: str, payload: Mapping[str, Any]
) -> None:
    store.start_agent_call(
        run_id=_text(payload, "run_id") or run_id,
        caller_id=payload.get("caller_id"),
        agent_name=_text(payload, "agent_name"),
        system_prompt=_text(payload, "system_prompt"),
        system_prompt_sources=payload.get("system_prompt_sources") or (),
        user_prompt=_text(payload, "user_prompt"),
        user_prompt_sources=payload.get("user_prompt_sources") or (),
    )


def _finished(
    store: InMemoryAuditTracer, run_id: str, payload: Mapping[str, Any]
) -> None:
    store.finish_agent_call(run_id=_text(payload, "run_id") or run_id)


def _decision(
    store: InMemoryAuditTracer, run_id: str, payload: Mapping[str, Any]
) -> None:
    decision = Reading().mapping(payload, "decision")
    named = {name: item for name, item in decision.items() if name != "response"}
    named["message"] = _text(decision, "message")
    named["parameters"] = decision.get("parameters") or {}
    store.record_decision(run_id=run_id, decision=SimpleNamespace(**named))


def _callback(
    store: InMemoryAuditTracer, run_id: str, payload: Mapping[str, Any]
) -> None:
    store.record_callback(
        run_id=run_id,
        intent=_text(payload, "intent"),
        prompt=_text(payload, "prompt"),
        target=_text(payload, "target"),
        response=payload.get("response"),
    )
    _event(store, run_id, payload)


def _event(store: InMemoryAuditTracer, run_id: str, payload: Mapping[str, Any]) -> None:
    store.record_event(run_id=run_id, event=payload.get("event") or {})


def _skill(store: InMemoryAuditTracer, run_id: str, payload: Mapping[str, Any]) -> None:
    status, resources = payload.get("status"), payload.get("loaded_resources")
    # What is as usual is not written: earlier versions told it, but did not write it.
    is_usual = status in (None, "loaded") and not resources
    store.record_skill_invocation(
        run_id=run_id,
        skill_name=_text(payload, "skill_name"),
        parameters=payload.get("parameters") or {},
        inventory=payload.get("inventory") or (),
        status=None if is_usual else status,
        loaded_resources=None if is_usual else resources,
    )


def _request(
    store: InMemoryAuditTracer, run_id: str, payload: Mapping[str, Any]
) -> None:
    if payload.get("input_payload") is not None:
        store.record_llm_request(run_id=run_id, payload=payload["input_payload"])


def _response(
    store: InMemoryAuditTracer, run_id: str, payload: Mapping[str, Any]
) -> None:
    store.record_llm_response(
        run_id=run_id,
        raw_text=_text(payload, "raw_text"),
        parsed_payload=payload.get("parsed_payload"),
    )


def _memory(store: InMemoryAuditTracer, kind: str, payload: Mapping[str, Any]) -> None:
    store.record_memory_operation(
        operation=kind.removeprefix("runtime."),
        memory_uri=payload.get("memory_uri"),
        scope=payload.get("scope"),
        mime_type=payload.get("mime_type"),
        title=payload.get("title"),
        summary=payload.get("summary"),
        size_bytes=payload.get("size_bytes"),
        version=payload.get("version"),
        metadata=payload,
    )


def _text(payload: Mapping[str, Any], name: str) -> str:
    value = payload.get(name)
    return "" if value is None else json_text(value)


_MEMORY_KINDS: Final = frozenset(
    {"runtime.memory_put", "runtime.memory_update", "runtime.memory_autostore"}
)
_RUN_KINDS: Final[
    Mapping[str, Callable[[InMemoryAuditTracer, str, Mapping[str, object]], None]]
] = MappingProxyType(
    {
        "runtime.audit.agent_call_started": _started,
        "runtime.audit.agent_call_finished": _finished,
        "runtime.audit.decision": _decision,
        "runtime.audit.callback": _callback,
        "runtime.audit.named_event": _event,
        "runtime.audit.skill_invocation": _skill,
        "llm.request": _request,
        "llm.response": _response,
        "llm.error": _response,
    }
)
