"""Counts 1, 2, 3 ... per session, for a bounded number of sessions."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Run", "Sequences"]


class Run:
    """The events of one session under one producer_id; `sequence` is the last one."""

    __slots__ = ("producer_id", "sequence")

    def __init__(self, producer_id: str) -> None:
        self.producer_id = producer_id
        self.sequence = 0


class Sequences:
    """
    The runs of the sessions that were used last. Not thread-safe.

    A session that was forgotten and comes back begins a new run at 1, and no
    (producer_id, session_id, sequence) is ever given twice: with each eviction the
    producer_id of runs that begin later gets the next suffix (`id`, `id.1`, `id.2`,
    ...), so a run that begins after an eviction never has the id of one before it.
    """

    def __init__(self, producer_id: str, max_sessions: int) -> None:
        self._producer_id = producer_id
        self._max_sessions = max_sessions
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._evictions = 0
        self.is_crowded = False
        """Whether there is a session too many."""

    def __iter__(self) -> Iterator[str]:
        """Iterate over the sessions, the one used longest ago first."""
        return iter(tuple(self._runs))

    def run(self, session_id: str) -> Run:
        """Return the session's run, as the one used last."""
        run = self._runs.get(session_id)
        if run is None:
            suffix = f".{self._evictions}" if self._evictions else ""
            # A signal handler that has emitted meanwhile has made the run.
            run = self._runs.setdefault(session_id, Run(self._producer_id + suffix))
            self.is_crowded = len(self._runs) > self._max_sessions
            return run
        # It may have had the session evicted as well.
        try:  # noqa: SIM105  # `suppress` takes as long as all else here
            self._runs.move_to_end(session_id)
        except KeyError:
            pass
        return run

    def crowded(self) -> str | None:
        """Return the session to `evict`, if there is one too many."""
        if len(self._runs) <= self._max_sessions:
            return None
        return next(iter(self._runs))

    def evict(self, session_id: str) -> None:
        """Forget a session."""
        if self._runs.pop(session_id, None) is not None:
            self._evictions += 1
        self.is_crowded = len(self._runs) > self._max_sessions
