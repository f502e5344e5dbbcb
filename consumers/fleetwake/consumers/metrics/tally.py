"""How many sessions there are, and alerts of them, for Prometheus."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakSet

from prometheus_client import Gauge

from fleetwake.consumers.facts import STATES

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Known", "Tally"]

_SESSIONS = Gauge("fleetwake_sessions", "Sessions now, by their state.", ["state"])
_OPEN_ALERTS = Gauge(
    "fleetwake_alerts_open", "Alerts of sessions that are not resolved.", ["level"]
)
_LEVELS: Final = ("warning", "critical", "block")


class Known(NamedTuple):
    """What is known of a session besides its facts. The time is of its last event."""

    last_ms: int
    state: str
    levels: tuple[str, ...]
    """Of its alerts."""

    def is_as(self, other: Known) -> bool:
        """Tell whether both are alike but for the time."""
        return self.state == other.state and self.levels == other.levels


class Tally:
    """The sessions of a partition by state, and their alerts by level."""

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        self.levels: Counter[str] = Counter()
        _LIVE.add(self)

    def change(self, before: Known | None, now: Known | None) -> None:
        """Note how a session was and is; None: there was or is none."""
        if before is not None:
            if now is not None and before.is_as(now):
                return
            self.states[before.state] -= 1
            if before.levels:
                self.levels.subtract(before.levels)
        if now is not None:
            self.states[now.state] += 1
            if now.levels:
                self.levels.update(now.levels)


_LIVE: WeakSet[Tally] = WeakSet()
"""Those of this process: a gauge is the sum over them."""


def _total(counts: Callable[[Tally], Counter[str]], label: str) -> float:
    return sum(counts(one)[label] for one in tuple(_LIVE))


for _state in STATES:
    _SESSIONS.labels(_state).set_function(
        partial(_total, lambda tally: tally.states, _state)
    )
for _level in _LEVELS:
    _OPEN_ALERTS.labels(_level).set_function(
        partial(_total, lambda tally: tally.levels, _level)
    )
