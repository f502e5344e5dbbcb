"""How fast a sink is told, and when it is left alone."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Breaker", "TokenBucket", "backoff_s"]

_FAILURES: Final = 5
_COOL_DOWN_S: Final = 10.0
_LONGEST_COOL_DOWN_S: Final = 300.0


def backoff_s(attempts: int, first_s: float, longest_s: float) -> float:
    """
    Return the wait after so many failed attempts: doubled each time, with jitter.

    The jitter takes away up to a half, so that a fleet of retries spreads.
    """
    longest = min(longest_s, first_s * 2.0 ** min(attempts - 1, 30))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311  # no secret


class TokenBucket:
    """`burst` messages at once, then `per_s` of them a second."""

    def __init__(
        self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._clock = clock
        self._tokens = self._burst
        self._at = clock()

    def take(self) -> float:
        """Take a token and return 0; or return the seconds until there is one."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        if self._tokens < 1.0:
            return (1.0 - self._tokens) / self._per_s
        self._tokens -= 1.0
        return 0.0


class Breaker:
    """
    Stops asking a sink that does not answer.

    Opens after five failures in a row, for 10 s, then twice as long each time up to
    5 minutes; after that one message shows whether the sink is back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self.ready_at = 0.0
        """Ask nothing before this time of the clock."""

    @property
    def state(self) -> int:
        """0 closed, 1 half open: the next message decides, 2 open."""
        if self._failures < _FAILURES:
            return 0
        return 2 if self._clock() < self.ready_at else 1

    def succeeded(self) -> None:
        """Close."""
        self._failures, self.ready_at = 0, 0.0

    def failed(self, retry_after_s: float | None = None) -> None:
        """Count a failure; `retry_after_s` is what the sink asks for."""
        self._failures += 1
        wait = retry_after_s or 0.0
        if (opened := self._failures - _FAILURES + 1) > 0:
            wait = max(wait, backoff_s(opened, _COOL_DOWN_S, _LONGEST_COOL_DOWN_S))
        if wait:
            self.ready_at = max(self.ready_at, self._clock() + wait)
