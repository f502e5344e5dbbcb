"""The metrics service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetwake.consumers.metrics.exposition import Series
from fleetwake.consumers.metrics.processor import PartitionMetrics
from fleetwake.consumers.runtime.service import FlushPolicy
from fleetwake.schemas.topics import EVENTS

if TYPE_CHECKING:
    from fleetwake.consumers.metrics.settings import MetricsSettings
    from fleetwake.consumers.runtime.service import PartitionStart

__all__ = ["Metrics"]


class Metrics:
    """Makes the processors; see the package for what is promised."""

    name = "metrics"
    topics = (EVENTS,)
    flush_policy = FlushPolicy()
    owns_dead_letters = False

    def __init__(self, settings: MetricsSettings) -> None:
        self._settings = settings
        self._series = Series(settings.max_series)

    async def open(self, start: PartitionStart, /) -> PartitionMetrics:
        """
        Make a processor that holds what was published for this partition.

        Raises:
            RetriableError: the metrics topic cannot be read now.
            FleetwakeError: it cannot be gone on from what was published.
        """
        processor = PartitionMetrics(start, self._settings, self._series)
        await processor.restore()
        return processor
