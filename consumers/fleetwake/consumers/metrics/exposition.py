"""
What the metrics service tells Prometheus of the fleet.

Counters of what this process has counted since it started, each event once: rates are
right, totals are in the metrics topic.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter

from fleetwake.consumers.metrics.windows import OTHER, Counts, Pair

__all__ = ["FOLDED", "LATE", "UNREADABLE", "Series"]

_LABELS: Final = ["agent", "tool"]
_EVENTS = Counter("fleetwake_events_total", "Events.", _LABELS)
_CALLS = Counter("fleetwake_calls_total", "Tool calls that ended, any way.", _LABELS)
_FAILURES = Counter(
    "fleetwake_failures_total",
    "Calls that ended in failure or timeout, and errors outside of calls.",
    _LABELS,
)
_BLOCKS = Counter(
    "fleetwake_blocks_total", "Calls stopped, and decisions that denied one.", _LABELS
)
_TOKENS = Counter("fleetwake_tokens_total", "Tokens.", [*_LABELS, "kind"])

LATE = Counter(
    "fleetwake_metrics_late_events_total",
    "Events of windows that are no longer kept; they are in no window.",
)
FOLDED = Counter(
    "fleetwake_metrics_folded_events_total",
    "Events counted as agent `other` and tool `other`, beyond max_rows_per_window.",
)
UNREADABLE = Counter(
    "fleetwake_metrics_unreadable_rows_total",
    "Records of the metrics topic that are no rows.",
)


class Series:
    """
    Adds to the counters; agents and tools beyond `limit` pairs become `other`.

    Thread safe, but for a pair more where two threads bring the last one.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counters: dict[Pair, tuple[Counter, ...]] = {}

    def add(self, pair: Pair, counts: Counts) -> None:
        """Add what was counted."""
        if pair not in self._counters:
            if len(self._counters) >= self._limit:
                pair = Pair(OTHER, OTHER)
            self._counters.setdefault(pair, _counters(pair))
        counters = self._counters[pair]
        for counter, amount in zip(counters, counts, strict=True):
            if amount:
                counter.inc(amount)


def _counters(pair: Pair) -> tuple[Counter, ...]:
    """In the order of `Counts`."""
    labels = (pair.agent_id or "", pair.tool_name or "")
    return (
        *(one.labels(*labels) for one in (_EVENTS, _CALLS, _FAILURES, _BLOCKS)),
        *(
            _TOKENS.labels(*labels, name.removesuffix("_tokens"))
            for name in Counts._fields[4:]
        ),
    )
