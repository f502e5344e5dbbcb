"""The metrics service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetwake.consumers.metrics.budgets import BudgetsSource
from fleetwake.consumers.metrics.budgets_processor import PartitionBudgets
from fleetwake.consumers.metrics.drops import PartitionDrops
from fleetwake.consumers.metrics.exposition import Series
from fleetwake.consumers.metrics.joined import Joined
from fleetwake.consumers.metrics.otlp import OtlpPush
from fleetwake.consumers.metrics.partition_windows import PartitionWindows
from fleetwake.consumers.metrics.parts import Parts
from fleetwake.consumers.metrics.prices import read_prices
from fleetwake.consumers.metrics.sessions import PartitionSessions
from fleetwake.consumers.metrics.windows import Limits
from fleetwake.consumers.runtime.service import FlushPolicy
from fleetwake.schemas.topics import ALERTS, EVENTS, SESSIONS, SIGNALS, VERDICTS

if TYPE_CHECKING:
    from fleetwake.consumers.metrics.settings import MetricsSettings
    from fleetwake.consumers.runtime.service import PartitionStart

__all__ = ["Metrics"]

_ANY_NUMBER: Final = 2**62


class Metrics:
    """
    Makes the processors; see the package for what is promised.

    Raises:
        ConfigurationError: when made, that the prices or budgets cannot be used.
    """

    name = "metrics"
    topics = (EVENTS, ALERTS, VERDICTS, SIGNALS, SESSIONS)
    owns_dead_letters = False

    def __init__(self, settings: MetricsSettings) -> None:
        # Rows, not events, are held until a flush: their number says little.
        self.flush_policy = FlushPolicy(
            max_records=_ANY_NUMBER,
            max_bytes=_ANY_NUMBER,
            max_age_s=settings.publish_interval_s,
        )
        self._settings = settings
        self._limits = Limits.of(settings)
        self._prices = read_prices(settings.prices) if settings.prices else {}
        self._budgets = BudgetsSource(settings.budgets)
        self._series = Series(settings.max_series)
        if settings.otlp_endpoint:
            OtlpPush(settings.otlp_endpoint, settings.otlp_interval_s)

    async def open(self, start: PartitionStart, /) -> Parts:
        """
        Make a processor that holds what was published for this partition.

        Raises:
            RetriableError: the metrics topic cannot be read now.
            FleetwakeError: it cannot be gone on from what was published.
        """
        windows = PartitionWindows(start, self._limits, self._prices, self._series)
        sessions = PartitionSessions(start, self._settings)
        budgets = PartitionBudgets(start, self._budgets, self._prices, sessions.at_work)
        for part in (windows, sessions, budgets):
            await part.restore()
        every_s = self._settings.publish_interval_s
        counted = Parts(
            [
                (windows, (EVENTS,)),
                (sessions, (EVENTS, ALERTS, VERDICTS, SESSIONS)),
                (budgets, (EVENTS, SIGNALS)),
            ],
            every_s,
        )
        return Parts(
            [(Joined(counted), self.topics), (PartitionDrops(), (EVENTS,))], every_s
        )
