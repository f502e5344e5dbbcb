"""
Which records are one call.

Calute gives its calls no id: an answer belongs to the oldest call of its session, turn
and tool that has none. With tools that run in parallel that is a guess; it changes
which of them took how long, not how many there were.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final, TypeAlias

__all__ = ["Calls", "Turn"]

Turn: TypeAlias = tuple[str, str]
"""A session and one of its turns, "" if it has no id."""

_MAX_KEYS: Final = 1_000
_MAX_WAITING: Final = 64
"""Calls of one tool. What is forgotten gets an id of its own when its end comes."""

_MAX_NAME_CHARS: Final = 256
"""Names are hostile text: longer ones that begin alike are the same here."""


class Calls:
    """Calls that have begun, and refusals whose error is still to come. Bounded."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[tuple[str, ...], deque[str]] = OrderedDict()

    def begin(self, turn: Turn, what: str, tool: str, call_id: str) -> None:
        """Note a call; `what` keeps calls and refusals apart."""
        key = _key(*turn, what, tool)
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = deque(maxlen=_MAX_WAITING)
            if len(self._waiting) > _MAX_KEYS:
                self._waiting.popitem(last=False)
        waiting.append(call_id)

    def end(self, turn: Turn, what: str, tool: str) -> str | None:
        """Return the id of the oldest such call, and forget it; None: there is none."""
        key = _key(*turn, what, tool)
        waiting = self._waiting.get(key)
        if waiting is None:
            return None
        call_id = waiting.popleft()
        if not waiting:
            del self._waiting[key]
        return call_id

    def forget(self, turn: Turn) -> None:
        """Forget what a turn has left open."""
        begin = _key(*turn)
        for key in [key for key in self._waiting if key[: len(begin)] == begin]:
            del self._waiting[key]


def _key(*names: str) -> tuple[str, ...]:
    return tuple(name[:_MAX_NAME_CHARS] for name in names)
