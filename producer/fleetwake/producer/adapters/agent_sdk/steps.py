"""Reading a step in the life of a call, of either kind of record."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from fleetwake.producer.content import ABSENT, Content

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetwake.producer.adapters.reading import Reading

__all__ = ["Step", "step_of"]

_NO_CONTENT: Final = Content()
_TIERS: Final = frozenset({"Observe", "Confirm"})
_BESIDE: Final = frozenset({"success", "duration_ms"})
_MERE_OUTPUT: Final = frozenset({"output", "data"})


class Step(NamedTuple):
    """What a record says. None: it does not say."""

    kind: str
    call_id: str | None
    session_id: str | None = None
    turn_id: str | None = None
    span_id: str | None = None
    success: bool | None = None
    reason: str | None = None
    duration_ms: float | None = None
    provider: str | None = None
    model: str | None = None
    content: Content = _NO_CONTENT
    attributes: Mapping[str, str | None] = MappingProxyType({})


def step_of(record: Mapping[str, object], reading: Reading) -> Step:
    """Read a `ToolAuditRecord`, or the server's `ToolAuditEvent`."""
    if "kind" in record and "outcome" not in record:
        return _server_step(record, reading)
    outcome = reading.mapping(record, "outcome")
    result = reading.mapping(outcome, "result")
    listen = reading.mapping(outcome, "listen_context")
    provenance = reading.mapping(record, "provenance")
    kind, turn = reading.text(outcome, "kind"), reading.integer(record, "turn")
    success = reading.flag(result, "success")
    if kind == "completed" and success is None:
        reading.note("success")
    failed = kind == "completed" and success is False
    error = reading.text(result, "output") if failed else None
    return Step(
        kind=kind or "unknown",
        call_id=reading.text(record, "tool_call_id") or None,
        turn_id=None if turn is None else str(turn),
        success=success,
        reason=reading.text(outcome, "reason") or reading.text(outcome, "description"),
        duration_ms=_duration(result, reading),
        provider=reading.text(provenance, "provider"),
        model=reading.text(provenance, "model"),
        content=Content(
            arguments=_arguments(record),
            result=_result(result),
            error=error or reading.text(outcome, "error"),
        ),
        attributes={
            "tier": _tier(record, reading),
            "display_name": reading.text(record, "display_name"),
            "operation_id": reading.text(listen, "operation_id"),
            "revision": _digits(reading.integer(listen, "revision")),
            "success": None if success is None else str(success).lower(),
        },
    )


def _server_step(record: Mapping[str, object], reading: Reading) -> Step:
    kind = reading.mapping(record, "kind")
    name = reading.text(kind, "kind")
    return Step(
        kind=name or "unknown",
        call_id=reading.text(record, "tool_call_id") or None,
        session_id=reading.text(record, "thread_id") or None,
        span_id=reading.text(record, "operation_id"),
        success=True if name == "completed" else None,
        reason=reading.text(kind, "reason"),
        provider=reading.text(record, "provider"),
        model=reading.text(record, "model"),
        content=Content(
            arguments=record.get("input", ABSENT),
            result=record.get("output"),
            error=reading.text(kind, "error") or reading.text(record, "error"),
        ),
        attributes={
            name: reading.text(record, name)
            for name in ("effect_class", "task_id", "parent_task_id")
        },
    )


def _arguments(record: Mapping[str, object]) -> object:
    # What was asked for may have been changed before it was done.
    return record.get("effective_input", record.get("requested_input", ABSENT))


def _result(result: Mapping[str, object]) -> object:
    """Return the text of a result, or if there is more, all but what is volatile."""
    found = {name: item for name, item in result.items() if name not in _BESIDE}
    if found.get("data") is None and found.keys() <= _MERE_OUTPUT:
        return found.get("output")
    return found


def _duration(result: Mapping[str, object], reading: Reading) -> float | None:
    value = result.get("duration_ms")
    if isinstance(value, int) and value < 0:
        reading.note("negative_duration")
        return None
    duration = reading.integer(result, "duration_ms")
    return None if duration is None else float(duration)


def _tier(record: Mapping[str, object], reading: Reading) -> str | None:
    tier = reading.text(record, "tier")
    if tier is not None and tier not in _TIERS:
        reading.note("tier")
    return tier


def _digits(number: int | None) -> str | None:
    return None if number is None else str(number)
