"""
Recorded trajectories of agents: rows of a session, without times.

They get times of their own, a few seconds apart, and sessions an hour, so that nothing
seems to happen to two of them at once. Each ends where its rows end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from pydantic import BaseModel, Field, JsonValue

from fleetwake.consumers.loops.backtest.recording import Entry
from fleetwake.producer.content import Content
from fleetwake.producer.enrich import enriched
from fleetwake.schemas.event import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Facts", "Row", "trajectory_entries"]

_START_MS: Final = 1_790_000_000_000
_ROW_MS: Final = 4_000
_APART_MS: Final = 3_600_000


class Row(BaseModel):
    """
    One step of a session; results are cut.

    `result_len` and `result_sha` are of the whole result.
    """

    session_id: str = Field(min_length=1)
    seq: int
    kind: Literal["user", "assistant", "tool_call", "tool_result"]
    tool: str = ""
    call_id: str = ""
    args: JsonValue = None
    result: str | None = None
    result_len: int = Field(default=0, ge=0, lt=2**31)
    result_sha: str = ""
    error: str | None = None
    text: str = ""
    dur_ms: float | None = None
    model: str | None = None
    source: str | None = None


class Facts(BaseModel):
    """How a session ended, in the words of its benchmark."""

    session_id: str = Field(min_length=1)
    n_calls: int
    turns_max: int | None = None
    reward: float | None = None
    max_reward: float | None = None
    outcome: str | None = None
    exit_status: str | None = None

    @property
    def is_healthy(self) -> bool:
        """The task was done, and the agent stopped before it had to."""
        is_solved = (
            1 in (self.reward, self.max_reward)
            or self.outcome == "correct"
            or self.exit_status == "submitted"
        )
        return is_solved and (self.turns_max is None or self.n_calls < self.turns_max)


class _Told(NamedTuple):
    event: AuditEvent
    content: Content = Content()


def trajectory_entries(rows: Iterable[Row]) -> Iterator[Entry]:
    """Yield the events of all sessions, one after the other."""
    sessions: dict[str, list[Row]] = {}
    for row in rows:
        sessions.setdefault(row.session_id, []).append(row)
    at_ms = _START_MS
    for session_id, session in sessions.items():
        calls = 0
        for number, row in enumerate(sorted(session, key=lambda row: row.seq), 1):
            at_ms += _ROW_MS
            calls += row.kind == "tool_call"
            told = _told(row)
            event = told.event._replace(
                agent_id=row.source, model=row.model, source_event_type=row.kind
            )
            event = _stamped(event, session_id, number, at_ms)
            yield Entry(enriched(event, told.content), at_ms, session_id, calls)
        end = AuditEvent(event_type="session.end", source_event_type="end")
        end = _stamped(end, session_id, len(session) + 1, at_ms)
        yield Entry(end, at_ms, session_id, calls)
        at_ms += _APART_MS


def _stamped(event: AuditEvent, session_id: str, number: int, at_ms: int) -> AuditEvent:
    return event._replace(
        event_id=f"{session_id}:{number}",
        source="trajectory",
        occurred_at=at_ms * 1000,
        recorded_at=at_ms * 1000,
        session_id=session_id,
        producer_id=session_id,
        sequence=number,
    )


def _told(row: Row) -> _Told:
    if row.kind == "tool_call":
        return _Told(
            AuditEvent(
                event_type="tool.attempt",
                outcome="attempted",
                tool_call_id=row.call_id,
                tool_name=row.tool,
            ),
            Content(arguments=row.args),
        )
    if row.kind == "tool_result":
        return _answer(row)
    kind = "user.input" if row.kind == "user" else "assistant.message"
    return _Told(AuditEvent(event_type=kind), Content(text=row.text))


def _answer(row: Row) -> _Told:
    failed = row.error is not None
    known = "success" if row.result is not None else "unknown"
    return _Told(
        AuditEvent(
            event_type="tool.failure" if failed else "tool.complete",
            outcome="failure" if failed else known,
            severity="error" if failed else "info",
            tool_call_id=row.call_id,
            tool_name=row.tool,
            result_chars=None if row.result is None else row.result_len,
            duration_ms=row.dur_ms,
        ),
        Content(result=_whole(row), error=row.error),
    )


def _whole(row: Row) -> str | None:
    """The result, or what stands for it: equal where the whole was equal."""
    if row.result is None or row.result_len <= len(row.result):
        return row.result
    return f"{row.result} [{row.result_len} characters, {row.result_sha}]"
