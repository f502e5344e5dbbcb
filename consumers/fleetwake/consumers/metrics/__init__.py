"""
Metrics: what the fleet did, by agent, tool and minute of event time.

Delivery guarantees: each record of the events topic counts once, across crashes,
rebalances and replays. What is published are snapshots, never deltas: one row per
window, agent and tool, with the last offset that it holds, in the partition of the
metrics topic that has the number of its source. So the topic is its own changelog: a
new owner reads the rows back, reads the events from the committed offset on, and skips
row by row what each row already holds. Readers keep, of the records of one key, the
one with the highest `applied_through`.

An event lands in the minute in which it happened, however late it comes, while that
window is kept (25 hours); later ones are counted as late. An event that the producer
published twice (same event_id, two offsets) counts twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleetwake.consumers.runtime.service import Service

__all__ = ["service"]


def service() -> Service:
    """
    Make the service from the settings of the environment.

    Raises:
        pydantic.ValidationError: a setting cannot be used.
    """
    from fleetwake.consumers.metrics.metrics import Metrics
    from fleetwake.consumers.metrics.settings import MetricsSettings

    return Metrics(MetricsSettings())
