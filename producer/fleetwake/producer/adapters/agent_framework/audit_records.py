"""The audit file: a run's record is several events, a session's record is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetwake.producer.adapters.agent_framework.audit_parts import run_parts
from fleetwake.producer.adapters.agent_framework.run_ids import parent_of, session_of
from fleetwake.producer.adapters.agent_framework.told import SOURCE, Place, Told, tell
from fleetwake.producer.adapters.mapping import UnmappableError, event_id
from fleetwake.producer.adapters.reading import Reading
from fleetwake.producer.adapters.times import micros
from fleetwake.producer.content import ABSENT, Content

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fleetwake.producer.adapters.mapping import Mapped

__all__ = ["AuditRecords"]


class AuditRecords:
    """Maps one audit file. Keeps nothing of earlier records."""

    def __init__(self, *, stream: str, session_id: str, agent_id: str | None) -> None:
        self.session_id = session_id
        """Of records that name none. May change."""
        self._stream = stream
        self._agent_id = agent_id

    def map(self, record: Mapping[str, object], ordinal: int) -> Sequence[Mapped]:
        """
        Return the record's events.

        Raises:
            UnmappableError: its timestamp is none, or it is neither of both.
        """
        at = micros(record.get("timestamp"))
        if "type" in record:
            return [self._session_record(record, at, ordinal)]
        if "run_id" in record or "agent_name" in record:
            return list(self._run_record(record, at, ordinal))
        raise UnmappableError("unknown_format", "it is no audit record and no event")

    def _session_record(
        self, record: Mapping[str, object], at: int, ordinal: int
    ) -> Mapped:
        reading = Reading()
        kind = reading.text(record, "type") or "unknown"
        # What was stored by itself names its run; other records name none.
        metadata = reading.mapping(record, "metadata")
        run_id = reading.text(metadata, "run_id")
        scope = reading.text(record, "scope") or ""
        told = _session_told(kind, record, reading)
        place = Place(
            event_id=event_id(SOURCE, self._stream, ordinal, kind, at),
            source_event_type=kind,
            occurred_at=at,
            session_id=session_of(run_id)
            or (scope.partition(":")[2] if scope.startswith("session:") else "")
            or self.session_id,
            agent_id=reading.text(metadata, "agent_id") or self._agent_id,
            run_id=run_id or None,
        )
        return tell(place, told, reading, record)

    def _run_record(
        self, record: Mapping[str, object], at: int, ordinal: int
    ) -> Iterator[Mapped]:
        reading = Reading()
        run_id = reading.text(record, "run_id")
        agent = reading.text(record, "agent_name") or self._agent_id
        parent = parent_of(run_id, agent)
        session_id = session_of(run_id) or self.session_id
        # All are read before the first is told: it has the notes of the whole record.
        parts = list(run_parts(record, reading, agent, parent))
        for number, part in enumerate(parts):
            place = Place(
                event_id=event_id(SOURCE, self._stream, ordinal, run_id, at, number),
                source_event_type=part.kind,
                occurred_at=at if part.at is None else part.at,
                session_id=session_id,
                agent_id=agent,
                run_id=run_id or None,
                span_id=None if number else run_id or None,
                parent_span_id=run_id or None if number else None,
                severity="error" if part.told.outcome == "failure" else "info",
            )
            yield tell(place, part.told, Reading() if number else reading, part.value)


def _session_told(kind: str, record: Mapping[str, object], reading: Reading) -> Told:
    match kind:
        case "user_output":
            return _said(record, reading, "text", is_user=record.get("role") == "user")
        case "user_input":
            return _said(record, reading, "response", is_user=True)
        case "permission_request":
            return _permission(record, reading)
        case "memory_operation":
            names = ("operation", "memory_uri", "scope")
            return Told(
                "memory.operation",
                attributes={name: reading.text(record, name) for name in names},
            )
        case _:
            return Told()


def _said(
    record: Mapping[str, object], reading: Reading, name: str, *, is_user: bool
) -> Told:
    text = reading.text(record, name)
    if text is None:
        # The end of the input: nobody said anything.
        return Told()
    return Told(
        "user.input" if is_user else "assistant.message",
        content=Content(text=text),
        attributes={"role": reading.text(record, "role")},
    )


def _permission(record: Mapping[str, object], reading: Reading) -> Told:
    allowed = reading.flag(record, "allowed")
    return Told(
        "permission.decision",
        "unknown" if allowed is None else "allowed" if allowed else "denied",
        content=Content(arguments=record.get("resource", ABSENT)),
        attributes={"action": reading.text(record, "action")},
        severity="warning" if allowed is False else None,
        tool_name=reading.text(record, "tool_name"),
        reason=reading.text(record, "summary"),
    )
