"""Finds sessions that emit more than they should: a token bucket for each."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HotSessions"]

_MAX_SESSIONS: Final = 10_000


class HotSessions:
    """
    Tells which events are beyond their session's rate. Not thread-safe.

    Remembers the last 10,000 sessions; one that comes back later has a full bucket.

    Args:
        rate: events per second and session.
        burst: events that a session may have at once.
        clock: seconds, monotonic.
    """

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def is_hot(self, session_id: str) -> bool:
        """Count an event of a session, and tell whether it is one too many."""
        now = self._clock()
        tokens, at = self._buckets.pop(session_id, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        is_hot = tokens < 1
        self._buckets[session_id] = (tokens if is_hot else tokens - 1, now)
        if len(self._buckets) > _MAX_SESSIONS:
            self._buckets.popitem(last=False)
        return is_hot
