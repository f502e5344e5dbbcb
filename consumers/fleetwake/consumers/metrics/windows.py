"""The rows of one partition: one for each window, agent and tool."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from fleetwake.schemas.records import MetricWindow

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["OTHER", "WINDOW_S", "Counts", "Group", "Pair", "Windows"]

WINDOW_S: Final = 60
_WINDOW_US: Final = WINDOW_S * 1_000_000
_MAX_NAME_CHARS: Final = 128
"""Names come from agents; a longer one shares its row with those that begin alike."""

OTHER: Final = "other"
"""Agent and tool of what is beyond the limit."""


class Pair(NamedTuple):
    """The dimensions of a row. None: the event has no agent, or no tool."""

    agent_id: str | None
    tool_name: str | None


_OTHERS: Final = Pair(OTHER, OTHER)


class Counts(NamedTuple):
    """What is counted; `MetricWindow` has the same names."""

    events: int = 0
    calls: int = 0
    failures: int = 0
    blocks: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


class Group(NamedTuple):
    """Some events of one window and one pair. `window` counts minutes since 1970."""

    window: int
    pair: Pair
    last_offset: int
    counts: Counts


@dataclass(slots=True, eq=False)
class _Row:
    window: int
    pair: Pair
    applied_through: int
    counts: Counts


class Windows:
    """
    The windows of one partition, of which `kept` before the latest are kept.

    Which rows there are, and what they hold, depends on the order of the events
    alone, not on how they come in batches.
    """

    def __init__(self, *, kept: int, max_rows: int) -> None:
        self._kept = kept
        self._max_rows = max_rows
        self._rows: dict[int, dict[Pair, _Row]] = {}
        self._changed: dict[_Row, None] = {}
        self.newest: int | None = None
        """The latest window that an event fell into."""
        self.applied_through = -1
        """No row that was restored holds an offset above this one."""

    def restore(self, row: MetricWindow) -> None:
        """Take a published row back, unless a later one of its key is there."""
        window, pair = row.window_start // _WINDOW_US, Pair(row.agent_id, row.tool_name)
        rows = self._rows.setdefault(window, {})
        held = rows.get(pair)
        if held is None or held.applied_through < row.applied_through:
            counts = Counts(*(getattr(row, name) for name in Counts._fields))
            rows[pair] = _Row(window, pair, row.applied_through, counts)
        self.applied_through = max(self.applied_through, row.applied_through)
        self.advance(window)

    def advance(self, window: int) -> None:
        """Note that an event fell into `window`; forget what is too old now."""
        self.newest = window if self.newest is None else max(window, self.newest)
        if len(self._rows) > self._kept + 1:
            oldest = self.newest - self._kept
            for old in [one for one in self._rows if one < oldest]:
                del self._rows[old]

    def add(self, group: Group) -> Pair | None:
        """
        Add a group to its row, and return that row's pair.

        None if the row holds it already: so a group that reaches below
        `applied_through` must be of one event.
        """
        row = self._row(group.window, group.pair)
        if group.last_offset <= row.applied_through:
            return None
        row.counts = Counts(*map(sum, zip(row.counts, group.counts, strict=True)))
        row.applied_through = group.last_offset
        self._changed[row] = None
        return row.pair

    def changed(self, partition: int) -> Iterator[MetricWindow]:
        """
        The rows that were changed since `published`, by window.

        The latest window comes last: whoever finds it in the topic may take it for
        the newest one, because all other rows are there as well.
        """
        for row in sorted(self._changed, key=lambda row: row.window):
            yield MetricWindow(
                window_start=row.window * _WINDOW_US,
                window_s=WINDOW_S,
                source_partition=partition,
                applied_through=row.applied_through,
                agent_id=row.pair.agent_id,
                tool_name=row.pair.tool_name,
                **row.counts._asdict(),
            )

    def published(self) -> None:
        """Note that all changed rows were published."""
        self._changed.clear()

    def _row(self, window: int, pair: Pair) -> _Row:
        rows = self._rows.setdefault(window, {})
        pair = Pair(_name(pair.agent_id), _name(pair.tool_name))
        row = rows.get(pair)
        if row is None and len(rows) >= self._max_rows:
            pair = _OTHERS
            row = rows.get(pair)
        if row is None:
            row = rows[pair] = _Row(window, pair, -1, Counts())
        return row


def _name(name: str | None) -> str | None:
    # Windows share the names: without it each has its own copies.
    return None if name is None else sys.intern(name[:_MAX_NAME_CHARS])
