"""What a record tells, and the event that this makes."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from fleetwake.producer.adapters.mapping import Mapped
from fleetwake.producer.content import Content
from fleetwake.schemas.event import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetwake.producer.adapters.reading import Reading

__all__ = ["HOST", "SOURCE", "Place", "Told", "tell", "usage_attributes"]

SOURCE: Final = "agent_framework"
HOST: Final = "host"
"""The caller of a run that answers a prompt."""

_NO_CONTENT: Final = Content()
_NO_ATTRIBUTES: Final[Mapping[str, str | None]] = MappingProxyType({})
_USAGE: Final = (
    "input_tokens",
    "input_cached_tokens",
    "output_tokens",
    "output_cached_tokens",
    "total_tokens",
)


class Place(NamedTuple):
    """Where and when a record stands, and whose it is."""

    event_id: str
    source_event_type: str
    occurred_at: int
    session_id: str
    agent_id: str | None = None
    run_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    severity: str = "info"


class Told(NamedTuple):
    """What a record says. Fields as in `AuditEvent`."""

    event_type: str = "custom"
    outcome: str = "unknown"
    content: Content = _NO_CONTENT
    attributes: Mapping[str, str | None] = _NO_ATTRIBUTES
    severity: str | None = None
    """If it is not the record's own."""
    agent_from: str | None = None
    agent_to: str | None = None
    parent_span_id: str | None = None
    """If the record has none."""
    tool_call_id: str | None = None
    tool_name: str | None = None
    reason: str | None = None
    error_kind: str | None = None
    error_type: str | None = None
    duration_ms: float | None = None
    provider: str | None = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None


def tell(place: Place, told: Told, reading: Reading, record: object) -> Mapped:
    """Make the event, and let it carry `record`."""
    event = AuditEvent(
        event_id=place.event_id,
        source=SOURCE,
        source_event_type=place.source_event_type,
        event_type=told.event_type,
        occurred_at=place.occurred_at,
        session_id=place.session_id,
        agent_id=place.agent_id,
        agent_from=told.agent_from,
        agent_to=told.agent_to,
        turn_id=place.run_id,
        span_id=place.span_id,
        parent_span_id=place.parent_span_id or told.parent_span_id,
        tool_call_id=told.tool_call_id,
        tool_name=told.tool_name,
        severity=told.severity or place.severity,
        outcome=told.outcome,
        reason=told.reason,
        error_kind=told.error_kind,
        error_type=told.error_type,
        duration_ms=told.duration_ms,
        provider=told.provider,
        model=told.model,
        input_tokens=told.input_tokens,
        output_tokens=told.output_tokens,
        cache_read_tokens=told.cache_read_tokens,
        attributes=reading.attributes(told.attributes),
    )
    return Mapped(event, told.content._replace(record=record))


def usage_attributes(
    reading: Reading, name: str, usage: Mapping[str, object]
) -> dict[str, str | None]:
    """Return counts of tokens that are told again: attributes, no columns."""
    counts = {one: reading.integer(usage, one) for one in _USAGE}
    return {f"{name}.{one}": str(n) for one, n in counts.items() if n is not None}
