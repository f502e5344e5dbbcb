"""What became of the events."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DeliveryStatistics", "ErrorLog"]

logger = logging.getLogger("fleetwake.producer")
logger.addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryStatistics:
    """
    Counts since the producer (in this process) began.

    `accepted == acknowledged + queued + sum(dropped.values())` at any time. Accepted
    are the valid events given to `emit` and the producer's own gaps and close marks.
    """

    producer_id: str
    accepted: int
    queued: int
    """Accepted, neither acknowledged nor dropped."""
    queued_bytes: int
    """Of these, roughly."""
    sent: int
    """Records given to the Kafka client, again after a failure included."""
    acknowledged: int
    dropped: Mapping[str, int]
    """By reason: queue_full, not_encodable, too_large, refused (by Kafka), closed."""
    invalid: int
    """Events that `emit` refused, so that they were never accepted."""
    errors: Mapping[str, int]
    """Everything that went wrong, by kind."""
    last_error: str | None
    oldest_age_s: float
    """How long the oldest queued event has waited; 0.0 where nothing is queued."""
    connected: bool


class ErrorLog:
    """Counts errors by kind and logs the first of each. Thread-safe, never raises."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._counts: Counter[str] = Counter()
        self._silent: set[str] = set()
        self.last: str | None = None

    @property
    def counts(self) -> dict[str, int]:
        """A copy of the counts."""
        with self._lock:
            return dict(self._counts)

    def note(self, kind: str, problem: object, *, level: int = logging.WARNING) -> None:
        """Count an error, and log it if it is the first of its kind."""
        with contextlib.suppress(Exception):
            text = str(problem)
            with self._lock:
                self._counts[kind] += 1
                self.last = f"{kind}: {text}"
                first = kind not in self._silent
                self._silent.add(kind)
            if first:
                logger.log(
                    level,
                    "%s: %s. Further errors of this kind are counted, not logged.",
                    kind,
                    text,
                )

    def over(self, kind: str) -> bool:
        """Log the next error of this kind again. True if there was one before."""
        with self._lock:
            was = kind in self._silent
            self._silent.discard(kind)
        return was
