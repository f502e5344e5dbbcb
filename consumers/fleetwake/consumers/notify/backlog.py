"""What a sink has not been told yet."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetwake.consumers.notify.notice import Notice

__all__ = ["Backlog"]


class Backlog:
    """
    A bounded queue: the changes of one alert in order, alerts by their age.

    Only the first change of an alert is ever due: a sink that hears of the end before
    the beginning would keep the alert open for ever.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._alerts: dict[str, deque[Notice]] = {}
        self._size = 0

    def __len__(self) -> int:
        """Count the notices."""
        return self._size

    def add(self, notice: Notice) -> Notice | None:
        """Add at the end; return the oldest one that had to go for it, if any."""
        changes = self._alerts.setdefault(notice.alert.alert_id, deque())
        for one in changes:
            if one.notice_id == notice.notice_id:
                # A rebalance took its partition away and brought it back.
                one.owner, one.offset = notice.owner, notice.offset
                return None
        changes.append(notice)
        self._size += 1
        if self._size <= self._limit:
            return None
        # What is under way is not ours to drop: its answer is yet to come.
        oldest = next((one for one in self._heads() if not one.in_flight), None)
        if oldest is not None:
            self.remove(oldest)
        return oldest

    def due(self, now: float, most: int) -> list[Notice]:
        """Up to `most` that may be told now, the oldest first, all of other alerts."""
        found: list[Notice] = []
        for head in self._heads():
            if head.due_at <= now:
                found.append(head)
                if len(found) == most:
                    break
        return found

    def next_at(self) -> float:
        """The time at which something is due; infinite where nothing waits."""
        return min((one.due_at for one in self._heads()), default=math.inf)

    def oldest_ms(self) -> int | None:
        """When the alert that waits for longest was published."""
        return min((one.appended_ms for one in self._heads()), default=None)

    def remove(self, notice: Notice) -> None:
        """Take out the first change of its alert."""
        changes = self._alerts[notice.alert.alert_id]
        changes.remove(notice)
        self._size -= 1
        if not changes:
            del self._alerts[notice.alert.alert_id]

    def _heads(self) -> Iterator[Notice]:
        return (changes[0] for changes in self._alerts.values())
