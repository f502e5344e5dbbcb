"""
Recorded trajectories of agents, as events.

The rows have no times: sessions are spread over the last hour, their rows some seconds
apart, and every event is marked as shifted.
"""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING, Final, Literal
from uuid import NAMESPACE_URL, uuid5

from pydantic import BaseModel, Field, JsonValue

from fleetwake.consumers.demo.shift import SHIFTED_ATTRIBUTE
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.fingerprint import (
    FINGERPRINT_VERSION,
    arguments_digest,
    error_class_digest,
    outcome_digest,
    preview,
    text_digest,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Row", "trajectory_events"]

_SPAN_US: Final = 60 * 60 * 1_000_000
_STEP_US: Final = (1_000_000, 8_000_000)
_TEXT_CHARS: Final = 4_000
"""A longer text is cut in the payload; its digest is of the whole."""


class Row(BaseModel):
    """
    One step of a session. `result_len` and `result_sha` are of the whole result.

    Other fields than these are kept in the payload.
    """

    session_id: str = Field(min_length=1)
    seq: int
    kind: Literal["user", "assistant", "tool_call", "tool_result"]
    tool: str = ""
    call_id: str = ""
    args: JsonValue = None
    result: str | None = None
    result_len: int = 0
    result_sha: str = ""
    error: str | None = None
    text: str = ""
    dur_ms: float | None = None
    model: str | None = None
    source: str | None = None


def trajectory_events(rows: Iterable[Row], now_us: int) -> list[AuditEvent]:
    """
    Map rows to events by time, the last of them at `now_us`.

    The same rows and `now_us` make the same events.
    """
    sessions: dict[str, list[Row]] = {}
    for row in rows:
        sessions.setdefault(row.session_id, []).append(row)
    random = Random(0)  # noqa: S311  # repeatable, not secret
    events: list[AuditEvent] = []
    for number, session in enumerate(sessions.values()):
        end_us = now_us if number == 0 else now_us - random.randrange(_SPAN_US)
        events += _session(random, session, end_us)
    events.sort(key=lambda event: event.occurred_at)
    return events


def _session(random: Random, rows: list[Row], end_us: int) -> list[AuditEvent]:
    """The rows of one session in their order, the last of them at `end_us`."""
    steps = [random.randint(*_STEP_US) for _ in rows]
    time_us = end_us - sum(steps)
    start = AuditEvent(event_type="session.start")
    events = [_common(start, rows[0], time_us)]
    for row, step_us in zip(sorted(rows, key=lambda row: row.seq), steps, strict=True):
        time_us += step_us
        payload = _payload(row)
        event = _event(row)._replace(payload=payload, payload_chars=len(payload))
        events.append(_common(event, row, time_us))
    return events


def _common(event: AuditEvent, row: Row, time_us: int) -> AuditEvent:
    """Add what all events of a session share."""
    name = f"{row.session_id}:{row.seq}:{event.event_type}:{time_us}"
    return event._replace(
        event_id=str(uuid5(NAMESPACE_URL, name)),
        source="trajectory",
        source_event_type=row.kind,
        occurred_at=time_us,
        session_id=row.session_id,
        agent_id=row.source,
        model=row.model,
        attributes={SHIFTED_ATTRIBUTE: "true"},
    )


def _event(row: Row) -> AuditEvent:
    if row.kind == "tool_call":
        return _call(row)
    if row.kind == "tool_result":
        return _answer(row)
    return AuditEvent(
        event_type="user.input" if row.kind == "user" else "assistant.message",
        text_digest=text_digest(row.text),
        fingerprint_version=FINGERPRINT_VERSION,
    )


def _call(row: Row) -> AuditEvent:
    text = json.dumps(row.args)
    return AuditEvent(
        event_type="tool.attempt",
        outcome="attempted",
        tool_call_id=row.call_id,
        tool_name=row.tool,
        arguments_digest=arguments_digest(row.args),
        digest_basis="full",
        fingerprint_version=FINGERPRINT_VERSION,
        arguments_preview=preview(text),
        arguments_chars=len(text),
    )


def _answer(row: Row) -> AuditEvent:
    event = AuditEvent(
        event_type="tool.complete",
        outcome="success",
        tool_call_id=row.call_id,
        tool_name=row.tool,
        outcome_digest=outcome_digest(_whole(row), is_error=row.error is not None),
        digest_basis="full",
        fingerprint_version=FINGERPRINT_VERSION,
        result_preview=preview(row.result or ""),
        result_chars=row.result_len,
        duration_ms=row.dur_ms,
    )
    if row.error is None:
        return event
    return event._replace(
        event_type="tool.failure",
        severity="error",
        outcome="failure",
        error_class_digest=error_class_digest(row.error),
        error_message=row.error[:_TEXT_CHARS],
    )


def _whole(row: Row) -> str | None:
    """The result, or what stands for it: equal where the whole was equal."""
    if row.result is None or row.result_len <= len(row.result):
        return row.result
    return f"{row.result} [{row.result_len} characters, {row.result_sha}]"


def _payload(row: Row) -> str:
    record = row.model_dump(exclude_unset=True)
    for name, value in record.items():
        if isinstance(value, str):
            record[name] = value[:_TEXT_CHARS]
    return json.dumps(record)
