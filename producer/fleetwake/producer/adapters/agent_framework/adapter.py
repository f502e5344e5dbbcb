"""The adapter: both streams of agent_framework, told apart by their records."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from fleetwake.producer.adapters.agent_framework.audit_records import AuditRecords
from fleetwake.producer.adapters.agent_framework.told import SOURCE
from fleetwake.producer.adapters.agent_framework.trace_events import TraceEvents

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetwake.producer.adapters.mapping import Mapped
    from fleetwake.schemas.event import AuditEvent

__all__ = ["AgentFrameworkAdapter", "recognises", "restore"]

_TRACE_NAMES: Final = frozenset({"event_id", "timestamp", "channel", "kind", "context"})
_RUN_NAMES: Final = frozenset({"timestamp", "run_id", "agent_name"})
_SESSION_TYPES: Final = frozenset(
    {"user_output", "user_input", "permission_request", "memory_operation"}
)


class AgentFrameworkAdapter:
    """
    Maps trace events and the records of audit files.

    A stream is the one or the other: of both, which tell the same, all counts twice.
    """

    source: Final = SOURCE

    def __init__(
        self, *, stream: str, session_id: str, agent_id: str | None = None
    ) -> None:
        self._events = TraceEvents(
            stream=stream, session_id=session_id, agent_id=agent_id
        )
        self._records = AuditRecords(
            stream=stream, session_id=session_id, agent_id=agent_id
        )

    @property
    def session_id(self) -> str:
        """The session of the next audit records that name none."""
        return self._records.session_id

    @session_id.setter
    def session_id(self, session_id: str) -> None:
        self._records.session_id = session_id

    def map(self, record: Mapping[str, object], /, *, ordinal: int) -> Sequence[Mapped]:
        """
        Return one event; for the record of a run, its events in their order.

        Raises:
            UnmappableError: it has no usable timestamp, or no known shape.
        """
        if "kind" in record:
            return [self._events.map(record, ordinal)]
        return self._records.map(record, ordinal)


def recognises(record: Mapping[str, object]) -> bool:
    """Tell by the shape alone whether a record is of this system."""
    if "type" not in record:
        return record.keys() >= _TRACE_NAMES or record.keys() >= _RUN_NAMES
    kind = record["type"]
    return isinstance(kind, str) and kind in _SESSION_TYPES and "timestamp" in record


def restore(events: Sequence[AuditEvent]) -> object:
    """
    Return the record of which `map` made these events: the first one carries it.

    Raises:
        ValueError: it carries none, by the content policy.
    """
    payload = events[0].payload
    if payload is None:
        raise ValueError("the event has no payload")
    return json.loads(payload)
