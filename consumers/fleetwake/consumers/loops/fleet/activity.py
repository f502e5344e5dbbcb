"""How many sessions of a partition act, and for how many a tool works."""
# pyright: basic, reportAttributeAccessIssue=false

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

import pyarrow.compute as pc

if TYPE_CHECKING:
    import pyarrow as pa

    from fleetwake.consumers.runtime.service import EventBatch

__all__ = ["Activity"]

_MINUTE_MS: Final = 60_000
_KEPT: Final = 2
"""Minutes beside the present one."""
_MAX_SESSIONS: Final = 20_000
_MAX_TOOLS: Final = 1_000
_MAX_PER_TOOL: Final = 1_000


class _Minute:
    __slots__ = ("active", "working")

    def __init__(self) -> None:
        self.active: set[str] = set()
        self.working: dict[str, set[str]] = {}


class Activity:
    """
    Sessions by minutes of the broker's append time.

    Answers are of the minute before, which is complete: they do not depend on where a
    batch ends. After a restart they begin with what is read again, so for a minute
    there may be too few.
    """

    def __init__(self) -> None:
        self._minutes: dict[int, _Minute] = {}

    def active(self, now_ms: int) -> int:
        """Count the sessions that had an event in the minute before."""
        minute = self._minutes.get(now_ms // _MINUTE_MS - 1)
        return len(minute.active) if minute else 0

    def working(self, tool_name: str, now_ms: int) -> int:
        """Count the sessions for which a tool worked in the minute before."""
        minute = self._minutes.get(now_ms // _MINUTE_MS - 1)
        return len(minute.working.get(tool_name, ())) if minute else 0

    def take(self, batch: EventBatch) -> None:
        """Take the events of a batch."""
        events = batch.events
        if events is None or not len(events):
            return
        minutes = (batch.positions()[1] // _MINUTE_MS).tolist()
        first = 0
        for number, rows in groupby(minutes):
            count = sum(1 for _ in rows)
            self._add(number, events.slice(first, count))
            first += count

    def forget(self) -> None:
        """Drop the minutes that no later event asks for."""
        newest = max(self._minutes, default=0)
        for number in [one for one in self._minutes if one < newest - _KEPT]:
            del self._minutes[number]

    def _add(self, number: int, events: pa.RecordBatch) -> None:
        minute = self._minutes.setdefault(number, _Minute())
        if len(minute.active) < _MAX_SESSIONS:
            minute.active.update(pc.unique(events.column("session_id")).to_pylist())
        works = pc.and_(
            pc.equal(events.column("event_type"), "tool.complete"),
            pc.equal(events.column("outcome"), "success"),
        )
        tools, sessions = (
            events.column(name).filter(works).to_pylist()
            for name in ("tool_name", "session_id")
        )
        for tool, session in zip(tools, sessions, strict=True):
            known = minute.working.get(tool)
            if known is None:
                if tool is None or len(minute.working) >= _MAX_TOOLS:
                    continue
                known = minute.working[tool] = set()
            if len(known) < _MAX_PER_TOOL:
                known.add(session)
