"""
Which records are one call.

Calute gives its calls no id: an answer belongs to the oldest call of its session, turn
and tool that has none. With tools that run in parallel that is a guess; it changes
which of them took how long, not how many there were.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final, TypeAlias

from fleetwake.producer.adapters.reading import short_id

__all__ = ["Calls", "Turn"]

Turn: TypeAlias = tuple[str, str]
"""A session and one of its turns, "" if it has no id."""

_Waiting: TypeAlias = "OrderedDict[tuple[str, str], deque[str]]"
"""Of a turn: by what waits, and its tool."""

_MAX_TOOLS: Final = 1_000
"""Of all turns together."""

_MAX_WAITING: Final = 64
"""Calls of one tool. What is forgotten gets an id of its own when its end comes."""


class Calls:
    """Calls that have begun, and refusals whose error is still to come. Bounded."""

    def __init__(self) -> None:
        self._turns: OrderedDict[Turn, _Waiting] = OrderedDict()
        self._tools = 0

    def begin(self, turn: Turn, what: str, tool: str, call_id: str) -> None:
        """Note a call; `what` keeps calls and refusals apart."""
        key = what, short_id(tool)
        waiting = self._turns.setdefault(turn, OrderedDict())
        if key not in waiting:
            waiting[key] = deque(maxlen=_MAX_WAITING)
            self._tools += 1
        waiting[key].append(call_id)
        if self._tools > _MAX_TOOLS:
            oldest = next(iter(self._turns))
            self._remove(oldest, next(iter(self._turns[oldest])))

    def end(self, turn: Turn, what: str, tool: str) -> str | None:
        """Return the id of the oldest such call, and forget it; None: there is none."""
        key = what, short_id(tool)
        waiting = self._turns.get(turn)
        calls = waiting.get(key) if waiting else None
        if not calls:
            return None
        call_id = calls.popleft()
        if not calls:
            self._remove(turn, key)
        return call_id

    def forget(self, turn: Turn) -> None:
        """Forget what a turn has left open."""
        self._tools -= len(self._turns.pop(turn, ()))

    def _remove(self, turn: Turn, key: tuple[str, str]) -> None:
        waiting = self._turns[turn]
        del waiting[key]
        self._tools -= 1
        if not waiting:
            del self._turns[turn]
