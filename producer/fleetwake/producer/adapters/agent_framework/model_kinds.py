"""Kinds that tell of a model: it is asked, it answers, it fails."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from fleetwake.producer.adapters.agent_framework.told import Told, usage_attributes
from fleetwake.producer.adapters.reading import error_kind, json_text
from fleetwake.producer.content import Content

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetwake.producer.adapters.agent_framework.seen import Kind, Seen

__all__ = ["MODEL_KINDS"]


def _model_started(seen: Seen) -> Told:
    seen.run.model_failed = False
    return Told(provider=seen.text("provider_name"))


def _llm_request(seen: Seen) -> Told:
    run = seen.run
    run.model_failed = False
    run.requested_at = seen.at if seen.run_id else None
    return _llm(seen)._replace(event_type="model.request", outcome="attempted")


def _llm_response(seen: Seen) -> Told:
    seen.run.model_failed = False
    usage = seen.reading.mapping(seen.payload, "usage")
    return _llm(seen)._replace(
        event_type="model.response",
        outcome="success",
        content=Content(text=seen.text("raw_text")),
        duration_ms=_answered(seen),
        input_tokens=seen.reading.integer(usage, "input_tokens"),
        output_tokens=seen.reading.integer(usage, "output_tokens"),
        cache_read_tokens=seen.reading.integer(usage, "input_cached_tokens"),
    )


def _llm_error(seen: Seen) -> Told:
    parsed = seen.reading.mapping(seen.payload, "parsed_payload")
    error = parsed.get("error") or seen.text("raw_text")
    usage = seen.reading.mapping(seen.payload, "usage")
    return _model_error(seen, None if error is None else json_text(error))._replace(
        attributes=usage_attributes(seen.reading, "usage", usage)
    )


def _model_failed(seen: Seen) -> Told:
    status = seen.reading.integer(seen.payload, "status_code")
    told = _model_error(seen, seen.text("message"))
    return told._replace(
        attributes={"status_code": None if status is None else str(status)}
    )


def _model_error(seen: Seen, error: str | None) -> Told:
    run, error_type = seen.run, seen.text("error_type")
    if run.model_failed:
        return _llm(seen)._replace(error_type=error_type)
    run.model_failed = True
    return _llm(seen)._replace(
        event_type="model.error",
        outcome="failure",
        content=Content(error=error),
        severity="error",
        error_kind=error_kind(error_type),
        error_type=error_type,
        duration_ms=_answered(seen),
    )


def _answered(seen: Seen) -> float | None:
    # Spans of a request and its response differ; a run asks one thing at a time.
    run = seen.run
    asked, run.requested_at = run.requested_at, None
    return seen.reading.duration_ms(asked, seen.at)


def _llm(seen: Seen) -> Told:
    return Told(provider=seen.text("provider_name"), model=seen.text("model_name"))


MODEL_KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "runtime.model_call_started": _model_started,
        "runtime.model_call_failed": _model_failed,
        "llm.request": _llm_request,
        "llm.response": _llm_response,
        "llm.error": _llm_error,
    }
)
