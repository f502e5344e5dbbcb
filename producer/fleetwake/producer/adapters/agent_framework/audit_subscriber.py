"""From trace events to the recorder, as the source's own subscriber does it."""

from __future__ import annotations

import logging
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Final

from fleetwake.producer.adapters.agent_framework.subscriber import trace_record
from fleetwake.producer.adapters.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
    store: InMemoryAuditTracer, run_id: str, payload: Mapping[str, object]
) -> None:
    store.start_agent_call(
        run_id=_text(payload, "run_id") or run_id,
        caller_id=Reading().text(payload, "caller_id"),
        agent_name=_text(payload, "agent_name"),
        system_prompt=_text(payload, "system_prompt"),
        system_prompt_sources=_texts(payload, "system_prompt_sources"),
        user_prompt=_text(payload, "user_prompt"),
        user_prompt_sources=_texts(payload, "user_prompt_sources"),
    )


def _finished(
    store: InMemoryAuditTracer, run_id: str, payload: Mapping[str, object]
) -> None:
    store.finish_agent_call(run_id=_text(payload, "run_id") or run_id)


def _decision(
    store: InMemoryAuditTracer, run_id: str, payload: Mapping[str, object]
) -> None:
    decision = Reading().mapping(payload, "decision")
    named = {name: item for name, item in decision.items() if name != "response"}
    store.record_decision(run_id=run_id, decision=SimpleNamespace(**named))


def _callback(
    store: InMemoryAuditTracer, run_id: str, payload: Mapping[str, object]
) -> None:
    store.record_callback(
        run_id=run_id,
        intent=_text(payload, "intent"),
        prompt=_text(payload, "prompt"),
        target=_text(payload, "target"),
        response=Reading().text(payload, "response"),
    )
    _event(store, run_id, payload)


def _event(
    store: InMemoryAuditTracer, run_id: str, payload: Mapping[str, object]
) -> None:
    if "event" in payload:
        store.record_event(run_id=run_id, event=payload["event"])


def _skill(
    store: InMemoryAuditTracer, run_id: str, payload: Mapping[str, object]
) -> None:
    store.record_skill_invocation(
        run_id=run_id,
        skill_name=_text(payload, "skill_name"),
        parameters=payload.get("parameters") or {},
        inventory=_texts(payload, "inventory"),
    )


def _request(
    store: InMemoryAuditTracer, run_id: str, payload: Mapping[str, object]
) -> None:
    if payload.get("input_payload") is not None:
        store.record_llm_request(run_id=run_id, payload=payload["input_payload"])


def _response(
    store: InMemoryAuditTracer, run_id: str, payload: Mapping[str, object]
) -> None:
    store.record_llm_response(
        run_id=run_id,
        raw_text=_text(payload, "raw_text"),
        parsed_payload=payload.get("parsed_payload"),
    )


def _memory(
    store: InMemoryAuditTracer, kind: str, payload: Mapping[str, object]
) -> None:
    reading = Reading()
    store.record_memory_operation(
        operation=kind.removeprefix("runtime."),
        memory_uri=reading.text(payload, "memory_uri"),
        scope=reading.text(payload, "scope"),
        mime_type=reading.text(payload, "mime_type"),
        title=reading.text(payload, "title"),
        summary=reading.text(payload, "summary"),
        size_bytes=reading.integer(payload, "size_bytes"),
        version=reading.text(payload, "version"),
        metadata=payload,
    )


def _text(payload: Mapping[str, object], name: str) -> str:
    return Reading().text(payload, name) or ""


def _texts(payload: Mapping[str, object], name: str) -> Sequence[str]:
    return [one for one in Reading().array(payload, name) if isinstance(one, str)]


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
