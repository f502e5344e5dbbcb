"""Where `emit` waits with the policy `block`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Room"]


class Room:
    """
    Waits for room in the queue, first come first served. All of it under its lock.

    Without turns, one of eight threads that emit as fast as they can may wait for
    seconds while the others take each place that gets free.

    Args:
        lock: of the queue.
        timeout_s: the longest wait for room.
    """

    def __init__(self, lock: threading.RLock, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._freed = threading.Condition(lock)
        self._waiting: list[object] = []

    @property
    def is_awaited(self) -> bool:
        """Tell whether anybody waits for room."""
        return bool(self._waiting)

    def wait(self, fits: Callable[[int], bool]) -> bool:
        """
        Wait until `fits` says so, which is given how many have come before.

        False: that took too long.
        """
        me, entered = object(), False
        self._waiting.append(me)
        try:
            entered = self._freed.wait_for(
                lambda: fits(self._waiting.index(me)), self._timeout_s
            )
        finally:
            self._waiting.remove(me)
            if not entered:  # it has kept room from others
                self._freed.notify_all()
        return entered

    def free(self) -> None:
        """Have all who wait look again."""
        self._freed.notify_all()
