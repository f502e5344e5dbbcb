"""Where `emit` waits with the policy `block`."""

from __future__ import annotations

import contextlib
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
        # A lock takes no `inf`.
        self._timeout_s = min(timeout_s, threading.TIMEOUT_MAX)
        self._freed = threading.Condition(lock)
        self._waiting: list[_Place] = []

    @property
    def is_awaited(self) -> bool:
        """Tell whether anybody waits for room."""
        return bool(self._waiting)

    def wait(self, size: int, fits: Callable[[int, int], bool]) -> bool:
        """
        Wait until `fits` says so, which is given how many wait ahead and their bytes.

        False: that took too long. Who leaves by an exception, here or before it has
        used the room, must call `free`: it has kept room from others.
        """
        me = _Place(size)
        try:
            self._waiting.append(me)
            entered = self._freed.wait_for(
                lambda: fits(*self._ahead_of(me)), self._timeout_s
            )
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(me)
        if not entered:
            self.free()
        return entered

    def free(self) -> None:
        """Have all who wait look again."""
        self._freed.notify_all()

    def _ahead_of(self, me: _Place) -> tuple[int, int]:
        count = size = 0
        for one in self._waiting:
            if one is me:
                break
            # What a signal handler has interrupted goes on after the handler only.
            if one.thread != me.thread:
                count += 1
                size += one.size
        return count, size


class _Place:
    """One who waits."""

    __slots__ = ("size", "thread")

    def __init__(self, size: int) -> None:
        self.size = size
        self.thread = threading.get_ident()
