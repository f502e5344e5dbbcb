"""The live stream: each `TraceEvent` is one event."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from fleetwake.producer.adapters.agent_framework.call_kinds import CALL_KINDS
from fleetwake.producer.adapters.agent_framework.host_kinds import HOST_KINDS
from fleetwake.producer.adapters.agent_framework.model_kinds import MODEL_KINDS
from fleetwake.producer.adapters.agent_framework.run_ids import session_of
from fleetwake.producer.adapters.agent_framework.run_kinds import RUN_KINDS
from fleetwake.producer.adapters.agent_framework.runs import Runs
from fleetwake.producer.adapters.agent_framework.seen import Seen
from fleetwake.producer.adapters.agent_framework.told import SOURCE, Place, Told, tell
from fleetwake.producer.adapters.mapping import event_id
from fleetwake.producer.adapters.reading import Reading
from fleetwake.producer.adapters.times import micros
from fleetwake.schemas.event import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetwake.producer.adapters.agent_framework.seen import Kind
    from fleetwake.producer.adapters.mapping import Mapped

__all__ = ["TraceEvents"]


class TraceEvents:
    """Maps one stream of trace events, in the order of their publication."""

    def __init__(self, *, stream: str, session_id: str, agent_id: str | None) -> None:
        self._stream = stream
        self._session_id = session_id
        self._agent_id = agent_id
        self._runs = Runs()

    def map(self, record: Mapping[str, object], ordinal: int) -> Mapped:
        """
        Return the event.

        Raises:
            UnmappableError: its timestamp is none.
        """
        reading = Reading()
        at = micros(record.get("timestamp"))
        context = reading.mapping(record, "context")
        payload = reading.mapping(record, "payload")
        run_id = reading.text(context, "run_id") or reading.text(payload, "run_id")
        seen = Seen(
            kind=reading.text(record, "kind") or "unknown",
            at=at,
            run_id=run_id or None,
            agent_id=reading.text(context, "agent_id")
            or reading.text(payload, "agent_id")
            or reading.text(payload, "agent_name"),
            span_id=reading.text(record, "span_id"),
            context=context,
            payload=payload,
            reading=reading,
            runs=self._runs,
        )
        told = _KINDS.get(seen.kind, _other)(seen)
        level = reading.text(record, "level") or "info"
        if level not in SEVERITIES:
            told = told._replace(attributes={**told.attributes, "level": level})
        place = Place(
            event_id=self._event_id(reading.text(record, "event_id"), at, ordinal),
            source_event_type=seen.kind,
            occurred_at=at,
            session_id=self._session(seen),
            agent_id=seen.agent_id or seen.run.agent_id or self._agent_id,
            run_id=seen.run_id,
            span_id=seen.span_id,
            parent_span_id=reading.text(record, "parent_span_id"),
            severity=level if level in SEVERITIES else "info",
        )
        return tell(place, told, reading, record)

    def _event_id(self, own_id: str | None, at: int, ordinal: int) -> str:
        if own_id:
            return event_id(SOURCE, own_id, at)
        return event_id(SOURCE, self._stream, ordinal, at)

    def _session(self, seen: Seen) -> str:
        return (
            seen.reading.text(seen.context, "session_id")
            or session_of(seen.run_id)
            or seen.text("session_id")
            or self._session_id
        )


def _other(_: Seen) -> Told:
    return Told()


_KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {**RUN_KINDS, **CALL_KINDS, **MODEL_KINDS, **HOST_KINDS}
)
