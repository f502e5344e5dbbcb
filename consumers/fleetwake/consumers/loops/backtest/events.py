"""Recorded events as one log: by time, each session's own in their order."""

from __future__ import annotations

from collections import Counter
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from fleetwake.consumers.loops.backtest.recording import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetwake.schemas.event import AuditEvent

__all__ = ["CONTENT", "event_entries"]

CONTENT: Final = frozenset(
    {"payload", "arguments_preview", "result_preview", "error_message", "reason"}
)
"""Columns that no rule looks at, and that are most of what an event weighs."""

_NO_CONTENT: Final[dict[str, Any]] = dict.fromkeys(CONTENT)
_ASKS: Final = frozenset({"tool.attempt", "tool.confirmation"})
_ANSWERS: Final = frozenset(
    {
        *("tool.complete", "tool.failure", "tool.cached", "tool.replayed"),
        *("tool.blocked", "tool.invalidated"),
    }
)


def event_entries(events: Iterable[tuple[AuditEvent, int]]) -> list[Entry]:
    """
    Return the entries of events, each given with the time in ms that a log took it.

    Times within a session never go back: its events keep the order they are given in.
    """
    calls: dict[str, _Calls] = {}
    latest: dict[str, int] = {}
    entries: list[Entry] = []
    for number, (event, taken_ms) in enumerate(events):
        session_id = event.session_id
        latest[session_id] = at_ms = max(taken_ms, latest.get(session_id, 0))
        place = calls.setdefault(session_id, _Calls()).count(event)
        slim = event._replace(
            event_id=event.event_id or f"{session_id}:{number}", **_NO_CONTENT
        )
        entries.append(Entry(slim, at_ms, session_id, place))
    entries.sort(key=attrgetter("at_ms"))
    return entries


class _Calls:
    """Counts the calls of a session, which tells attempts, answers, or both."""

    def __init__(self) -> None:
        self._calls = 0
        self._waiting: Counter[tuple[str | None, str | None]] = Counter()
        self._answered: set[str] = set()

    def count(self, event: AuditEvent) -> int:
        """Return the number of the latest call."""
        call_id = event.tool_call_id
        name = (call_id, None if call_id else event.tool_name)
        if event.event_type in _ASKS:
            if not (call_id and self._waiting[name]):
                self._waiting[name] += 1
                self._calls += 1
        elif event.event_type in _ANSWERS:
            if self._waiting[name]:
                self._waiting[name] -= 1
            elif call_id not in self._answered:
                self._calls += 1
            if call_id:
                self._answered.add(call_id)
        return self._calls
