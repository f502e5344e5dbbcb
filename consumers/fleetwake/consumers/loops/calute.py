"""
Calute's loop detector: the same calls get the same answers.

It has one detector for each turn, told of every call before it runs. An answer costs
the same however long the turn is: what is known of the calls so far is their number,
two lengths and four names.
"""

from __future__ import annotations

import contextlib
import json
from collections import deque
from dataclasses import dataclass
from enum import Enum
from hashlib import md5
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = [
    "LoopDetectionConfig",
    "LoopDetector",
    "LoopEvent",
    "LoopSeverity",
    "ToolLoopError",
]

_PINGPONG_CALLS: Final = 4
"""As many of the last calls must be of two tools at most."""


class LoopSeverity(Enum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass
class LoopDetectionConfig:
    """From which count on a pattern has which severity; the defaults are Calute's."""

    same_call_warning: int = 3
    same_call_critical: int = 5
    pingpong_warning: int = 4
    pingpong_critical: int = 6
    max_tool_calls_per_turn: int = 25
    enabled: bool = True


@dataclass
class LoopEvent:
    """
    The answer to one call.

    `pattern` is max_calls, same_call, pingpong, none, or disabled; `call_count` the
    calls of the turn, the identical calls in a row, or the changes of tool in a row.
    """

    severity: LoopSeverity
    pattern: str
    tool_name: str
    details: str
    call_count: int = 0


class ToolLoopError(Exception):
    """What Calute raises in place of a call that its detector blocks."""

    def __init__(self, event: LoopEvent) -> None:
        super().__init__(f"Tool loop detected ({event.pattern}): {event.details}")
        self.event = event


class LoopDetector:
    """
    Watches the calls of one turn. Not thread-safe.

    The first of these that applies is the answer: too many calls in all; the same
    tool with the same arguments in a row; two tools in turn, whatever the arguments.
    """

    def __init__(self, config: LoopDetectionConfig | None = None) -> None:
        self.config = config or LoopDetectionConfig()
        self._listeners: list[Callable[[LoopEvent], object]] = []
        self.reset()

    @property
    def call_count(self) -> int:
        """How many calls there were, blocked ones included."""
        return self._calls

    def add_listener(self, listener: Callable[[LoopEvent], object]) -> None:
        """Call `listener` with each warning and each block; what it raises is lost."""
        self._listeners.append(listener)

    def reset(self) -> None:
        """Forget the calls, not the listeners."""
        self._calls = 0
        self._same = 0
        self._changes = 0
        self._last: tuple[str, Hashable] | None = None
        self._names: deque[str] = deque(maxlen=_PINGPONG_CALLS)

    def record_call(
        self, tool_name: str, arguments: dict[str, object] | str | None = None
    ) -> LoopEvent:
        """
        Take the next call and judge it.

        Text is compared as it stands, a dict by its JSON with sorted keys, so that 1
        and 1.0 differ. None is like nothing else, not even `{}`.
        """
        return self.record(tool_name, _fingerprint(arguments))

    def record(self, tool_name: str, fingerprint: Hashable) -> LoopEvent:
        """Take the next call by a fingerprint of its arguments."""
        if not self.config.enabled:
            return LoopEvent(LoopSeverity.OK, "disabled", tool_name, "")
        self._count(tool_name, fingerprint)
        event = (
            self._max_calls(tool_name)
            or self._same_call(tool_name)
            or self._pingpong(tool_name)
        )
        if event is None:
            return LoopEvent(LoopSeverity.OK, "none", tool_name, "")
        for listener in self._listeners:
            with contextlib.suppress(Exception):
                listener(event)
        return event

    def _count(self, tool_name: str, fingerprint: Hashable) -> None:
        call = tool_name, fingerprint
        last, self._last = self._last, call
        self._calls += 1
        self._same = self._same + 1 if call == last else 1
        changed = last is not None and tool_name != last[0]
        self._changes = self._changes + 1 if changed else 0
        self._names.append(tool_name)

    def _max_calls(self, tool_name: str) -> LoopEvent | None:
        most = self.config.max_tool_calls_per_turn
        if self._calls < most:
            return None
        details = f"Reached max tool calls per turn ({most})"
        return LoopEvent(
            LoopSeverity.CRITICAL, "max_calls", tool_name, details, self._calls
        )

    def _same_call(self, tool_name: str) -> LoopEvent | None:
        limits = self.config.same_call_warning, self.config.same_call_critical
        severity = _severity(self._same, *limits)
        if severity is LoopSeverity.OK:
            return None
        details = f"Same tool+args called {self._same} times consecutively"
        return LoopEvent(severity, "same_call", tool_name, details, self._same)

    def _pingpong(self, tool_name: str) -> LoopEvent | None:
        limits = self.config.pingpong_warning, self.config.pingpong_critical
        severity = _severity(self._changes, *limits)
        if (
            severity is LoopSeverity.OK
            or len(self._names) < _PINGPONG_CALLS
            or len(set(self._names)) > 2  # noqa: PLR2004  # a pair
        ):
            return None
        details = f"Ping-pong pattern detected ({self._changes} alternations)"
        return LoopEvent(severity, "pingpong", tool_name, details, self._changes)


def _severity(count: int, warning: int, critical: int) -> LoopSeverity:
    if count >= critical:
        return LoopSeverity.CRITICAL
    return LoopSeverity.WARNING if count >= warning else LoopSeverity.OK


def _fingerprint(arguments: dict[str, object] | str | None) -> str:
    if arguments is None:
        return "empty"
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, sort_keys=True, default=str)
    return md5(arguments.encode(), usedforsecurity=False).hexdigest()
