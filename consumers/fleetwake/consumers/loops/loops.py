"""The loops service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetwake.consumers.loops.processor import PartitionLoops
from fleetwake.consumers.loops.rules_source import RulesSource
from fleetwake.consumers.runtime.service import FlushPolicy
from fleetwake.schemas.topics import EVENTS

if TYPE_CHECKING:
    from fleetwake.consumers.loops.settings import LoopsSettings
    from fleetwake.consumers.runtime.service import PartitionStart

__all__ = ["Loops"]


class Loops:
    """Makes the processors; see the package for what is promised."""

    name = "loops"
    topics = (EVENTS,)
    # An alert waits for the next flush.
    flush_policy = FlushPolicy(max_age_s=0.5)
    owns_dead_letters = False

    def __init__(self, settings: LoopsSettings) -> None:
        self._settings = settings
        self._rules = RulesSource(settings.rules)

    async def open(self, start: PartitionStart, /) -> PartitionLoops:
        """Make an empty processor: what it needs is replayed from the log."""
        return PartitionLoops(start, self._settings, self._rules)
