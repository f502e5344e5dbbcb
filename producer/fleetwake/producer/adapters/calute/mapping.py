"""Calute's audit events, as its collectors and its files have them, become events."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Final

from fleetwake.producer.adapters.calute.calls import Calls
from fleetwake.producer.adapters.calute.types import (
    OK_WARNING,
    OTHER,
    REFUSALS,
    REFUSED,
    REFUSED_AGAIN,
    TYPES,
)
from fleetwake.producer.adapters.mapping import Mapped, UnmappableError, event_id
from fleetwake.producer.adapters.reading import Reading, error_kind, json_text
from fleetwake.producer.adapters.times import micros
from fleetwake.producer.content import ABSENT, Content
from fleetwake.schemas.event import OUTCOMES, SEVERITIES, AuditEvent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetwake.producer.adapters.calute.calls import Turn
    from fleetwake.producer.adapters.calute.types import Row

__all__ = ["ENVELOPE", "CaluteAdapter", "recognises", "restore"]

ENVELOPE: Final = (
    "event_type",
    "timestamp",
    "agent_id",
    "turn_id",
    "session_id",
    "severity",
    "metadata",
)
"""The keys of every record, in its order."""

_ENVELOPE_KEYS: Final = frozenset(ENVELOPE)
_CUT_CHARS: Final = 200
"""Calute cuts previews at this length: one that has it may be cut or whole."""

_SEVERITIES: Final = frozenset(SEVERITIES)
_OUTCOMES: Final = {one: one for one in OUTCOMES} | {
    "allow": "allowed",
    "deny": "denied",
    **REFUSALS,
}
_CALL: Final = "call"
_LEVEL: Final = "severity_level"
_MAX_DURATION_MS: Final = 2**63


class CaluteAdapter:
    """
    The adapter of Calute's audit events; see `Adapter`.

    Calls have the id of the event that began them. Where a preview may have been cut,
    the content's basis is `preview`.
    """

    source: Final = "calute"

    def __init__(
        self, *, stream: str, session_id: str, agent_id: str | None = None
    ) -> None:
        self.session_id: Final = session_id
        self._stream = stream
        self._agent_id = agent_id
        self._calls = Calls()

    def map(self, record: Mapping[str, object], /, *, ordinal: int) -> Sequence[Mapped]:
        """
        Return the record's event.

        Raises:
            UnmappableError: event_type_missing, or what `micros` says of `timestamp`.
        """
        read = Reading()
        source_type = read.text(record, "event_type")
        if not source_type:
            raise UnmappableError("event_type_missing", "event_type is no text")
        at = micros(record.get("timestamp"))
        identity = event_id(self.source, self._stream, ordinal, at)
        session_id = read.text(record, "session_id") or self.session_id
        turn_id = read.text(record, "turn_id") or None
        turn = session_id, turn_id or ""
        row, call_id = self._row(source_type, record, turn, identity)
        texts = {
            column: read.text(record, name) or None
            for column, name in row.columns.items()
        }
        error_type = texts.get("error_type")
        event = AuditEvent(
            event_id=identity,
            source=self.source,
            source_event_type=source_type,
            event_type=row.event_type,
            occurred_at=at,
            session_id=session_id,
            agent_id=read.text(record, "agent_id") or self._agent_id,
            agent_from=texts.get("agent_from"),
            agent_to=texts.get("agent_to"),
            turn_id=turn_id,
            tool_call_id=call_id,
            tool_name=texts.get("tool_name"),
            severity=_severity(row, record),
            outcome=_outcome(row, record),
            reason=texts.get("reason"),
            error_kind=error_kind(error_type) if error_type else None,
            error_type=error_type,
            duration_ms=_duration_ms(read, record) if row.has_duration else None,
            attributes=_attributes(row, read, record),
        )
        return (Mapped(event, _content(row, record)),)

    def _row(
        self,
        source_type: str,
        record: Mapping[str, object],
        turn: Turn,
        identity: str,
    ) -> tuple[Row, str | None]:
        """Find how the record is mapped, and the id of the call that it is about."""
        row = TYPES.get(source_type, OTHER)
        if source_type in {"turn_start", "turn_end"}:
            self._calls.forget(turn)
        elif source_type == "tool_loop_warning":
            return OK_WARNING if _says(record, _LEVEL) == "ok" else row, None
        elif source_type in {"tool_call_complete", "tool_call_failure"}:
            return self._end(row, record, turn, identity)
        elif what := _begins(source_type, record):
            self._calls.begin(turn, what, _says(record, "tool_name"), identity)
            return row, identity
        return row, None

    def _end(
        self, row: Row, record: Mapping[str, object], turn: Turn, identity: str
    ) -> tuple[Row, str]:
        tool, error = _says(record, "tool_name"), _says(record, "error_type")
        if row is TYPES["tool_call_complete"] or error not in REFUSALS:
            return row, self._calls.end(turn, _CALL, tool) or identity
        told = self._calls.end(turn, error, tool)
        return (REFUSED_AGAIN, told) if told else (REFUSED, identity)


def recognises(record: Mapping[str, object]) -> bool:
    """Tell whether a record is Calute's, by its keys."""
    return record.keys() >= _ENVELOPE_KEYS


def restore(events: Sequence[AuditEvent]) -> object:
    """
    Return the record that an event was made of, as parsed JSON.

    Raises:
        ValueError: not one event, or without its payload.
    """
    (event,) = events
    if event.payload is None:
        raise ValueError("the event has no payload")
    return json.loads(event.payload)


def _says(record: Mapping[str, object], name: str) -> str:
    """Return a text, "" if it is none."""
    value = record.get(name)
    return str.__str__(value) if isinstance(value, str) else ""


def _begins(source_type: str, record: Mapping[str, object]) -> str:
    """Name what begins: a call, or a refusal by the error that is to follow."""
    if source_type == "tool_call_attempt":
        return _CALL
    if source_type == "tool_loop_block":
        return "ToolLoopError"
    is_decision = source_type == "tool_policy_decision"
    is_denial = is_decision and _says(record, "action") == "deny"
    return "ToolPolicyViolation" if is_denial else ""


def _severity(row: Row, record: Mapping[str, object]) -> str:
    if row is OK_WARNING or row is REFUSED_AGAIN:
        return "info"
    if row.event_type == "loop.warning" and _says(record, _LEVEL) == "critical":
        return "error"
    severity = _says(record, "severity")
    return severity if severity in _SEVERITIES else "info"


def _outcome(row: Row, record: Mapping[str, object]) -> str:
    if not row.outcome_from:
        return row.outcome
    return _OUTCOMES.get(_says(record, row.outcome_from), "unknown")


def _duration_ms(read: Reading, record: Mapping[str, object]) -> float | None:
    value = record.get("duration_ms")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        read.note("duration_ms")
    elif isinstance(value, float) and not math.isfinite(value):
        read.note("not_finite")
    elif value < 0:
        read.note("negative_duration")
    elif value > _MAX_DURATION_MS:
        read.note("duration_ms")
    else:
        return float(value)
    return None


def _attributes(
    row: Row, read: Reading, record: Mapping[str, object]
) -> dict[str, str]:
    """Return what has no column, and what a column cannot say, under its own name."""
    named = {name: record.get(name) for name in row.attributes}
    if _says(record, "severity") not in _SEVERITIES:
        named["severity"] = record.get("severity")
    said = row.outcome_from
    if said and _says(record, said) not in _OUTCOMES:
        named[said] = record.get(said)
    return read.attributes(
        {
            name: json_text(value)
            for name, value in named.items()
            if value is not None and value != ""
        }
    )


def _content(row: Row, record: Mapping[str, object]) -> Content:
    """An empty preview says nothing: Calute has it for whatever is not given."""
    parts = {
        part: value
        for part, name in row.content.items()
        if (value := record.get(name)) is not None and value != ""
    }
    cut = (parts.get("arguments"), parts.get("result"), parts.get("text"))
    may_be_cut = any(isinstance(one, str) and len(one) >= _CUT_CHARS for one in cut)
    error, text = parts.get("error"), parts.get("text")
    return Content(
        arguments=parts.get("arguments", ABSENT),
        result=parts.get("result"),
        error=None if error is None else json_text(error),
        text=None if text is None else json_text(text),
        record=record,
        basis="preview" if may_be_cut else "full",
    )
