"""What became of the events."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["DeliveryStatistics", "ErrorLog"]

logger = logging.getLogger("fleetwake.producer")
logger.addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryStatistics:
    """
    Counts since the producer (in this process) began.

    `accepted == acknowledged + queued + sum(dropped.values())` at any time. Accepted
    are the valid events and dead letters given to the producer, and its own gaps and
    close marks.
    """

    producer_id: str
    accepted: int
    queued: int
    """Accepted, neither acknowledged nor dropped."""
    queued_bytes: int
    """Of these, roughly."""
    spooled: int
    """Those of the queued that are on disk: they outlive the process."""
    spooled_bytes: int
    sent: int
    """Records given to the Kafka client, again after a failure included."""
    acknowledged: int
    adopted: int
    """Records of producers that ended that were acknowledged. Not in the others."""
    dropped: Mapping[str, int]
    """
    By reason: queue_full, spool_full, expired, not_encodable, too_large, refused (by
    Kafka), letters_full, unreadable, closed.
    """
    unreadable: int
    """Records that were found damaged in spools, ours or adopted, and given up."""
    invalid: int
    """Events that `emit` refused, so that they were never accepted."""
    errors: Mapping[str, int]
    """Everything that went wrong, by kind. `spool`: it could not be written or read."""
    last_error: str | None
    oldest_age_s: float
    """How long the oldest queued event has waited; 0.0 where nothing is queued."""
    unstored_age_s: float
    """
    How long the oldest event that is to be put into the spool has waited: so much a
    kill -9 would take. With durability `memory`: that is to be encoded.
    """
    connected: bool

    def prometheus(self) -> str:
        """Return the counts in the Prometheus text format, labelled by producer_id."""
        return "".join(_exposition(self))


# Field -> suffix, type, help.
_METRICS: Final = {
    "accepted": ("accepted_total", "counter", "Events accepted."),
    "acknowledged": ("acknowledged_total", "counter", "Events acknowledged by Kafka."),
    "sent": ("sent_total", "counter", "Records sent, again after failures included."),
    "adopted": ("adopted_total", "counter", "Records of ended producers delivered."),
    "unreadable": ("unreadable_total", "counter", "Damaged records in spools."),
    "invalid": ("invalid_total", "counter", "Events that emit refused."),
    "dropped": ("dropped_total", "counter", "Events dropped, by reason."),
    "errors": ("errors_total", "counter", "What went wrong, by kind."),
    "queued": ("queued_events", "gauge", "Events neither acknowledged nor dropped."),
    "queued_bytes": ("queued_bytes", "gauge", "The same in bytes, roughly."),
    "spooled": ("spooled_events", "gauge", "Those of the queued that are on disk."),
    "spooled_bytes": ("spooled_bytes", "gauge", "The same in bytes, roughly."),
    "oldest_age_s": ("oldest_age_seconds", "gauge", "How long the oldest has waited."),
    "unstored_age_s": (
        "unstored_age_seconds",
        "gauge",
        "How long the oldest that is not on disk yet has waited.",
    ),
    "connected": ("connected", "gauge", "1 while the last send was acknowledged."),
}
_LABELS: Final = {"dropped": "reason", "errors": "kind"}


def _exposition(statistics: DeliveryStatistics) -> Iterator[str]:
    producer = f'producer_id="{statistics.producer_id}"'
    for field, (suffix, kind, text) in _METRICS.items():
        name = f"fleetwake_producer_{suffix}"
        yield f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
        found = getattr(statistics, field)
        if field in _LABELS:
            for word, count in sorted(found.items()):
                yield f'{name}{{{producer},{_LABELS[field]}="{word}"}} {count}\n'
        else:
            yield f"{name}{{{producer}}} {_number(found)}\n"


def _number(value: float) -> str:
    return str(int(value)) if isinstance(value, int) else repr(value)


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
