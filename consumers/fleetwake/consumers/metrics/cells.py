"""The events of a batch that no row tells apart, as one."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from fleetwake.consumers.facts.rows import numbered
from fleetwake.consumers.metrics.columns import (
    KIND_SUMS,
    NO_BUCKET,
    TIMED,
    Dimension,
    pairs_of,
    states_of,
    sums_of_kind,
)
from fleetwake.consumers.metrics.sorting import MANY, changes, in_order, lengths, unique
from fleetwake.schemas.windows import GROUPINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleetwake.consumers.metrics.columns import Columns, Longs, Mask, Pairs
    from fleetwake.consumers.metrics.prices import Price

__all__ = ["Cells"]

_STATE: Final = "session_state"
"""No column: type and outcome tell it."""

_NAMES: Final = tuple(
    dict.fromkeys(
        name
        for grouping in GROUPINGS.values()
        for name in grouping.dimensions
        if name != _STATE
    )
)


class Cells:
    """
    Events that are alike in all dimensions and their window of ten seconds.

    So a grouping adds up some hundred cells, and not ten thousand events. `first` and
    `last` (offsets), `window`, `late` (by length of window) and `sums` (those that any
    adds to) have a value for each cell.
    """

    def __init__(
        self,
        events: Columns,
        late: Mapping[int, Mask],
        prices: Mapping[str, Price],
        *,
        apart: bool,
    ) -> None:
        """Make them of events; `apart`: each is a cell, as some may be left out."""
        self._events = events
        amounts = events.amounts(prices)
        cell = np.arange(len(events.offset))
        if not apart:
            cell = _alike(events, [*late.values(), _spends(amounts, len(cell))])
        self._at = in_order(cell)
        self._cell = cell[self._at]
        starts = changes(self._cell)
        count = lengths(starts, len(cell))
        heads = self._at[starts]
        self.first = events.offset[heads]
        self.last = events.offset[self._at[starts + count - 1]]
        self.window = events.window[heads]
        self.late = {size_s: mask[heads] for size_s, mask in late.items()}
        self._dimensions = {
            name: Dimension(codes[heads], names)
            for name in _NAMES
            for codes, names in [events.dimension(name)]
        }
        pairs = pairs_of(self.dimension("event_type"), self.dimension("outcome"))
        self._dimensions[_STATE] = states_of(pairs)
        self.sums = {"events": count, **_sums_of_kinds(pairs, count)} | {
            name: np.add.reduceat(one[self._at], starts)
            for name, one in amounts.items()
        }
        self._distinct: dict[str, tuple[Longs, Dimension]] = {}
        self._durations: dict[str, tuple[Longs, Longs] | None] = {}

    def dimension(self, name: str) -> Dimension:
        """Return the names of each cell."""
        return self._dimensions[name]

    def distinct(self, name: str) -> tuple[Longs, Dimension]:
        """Return cells, and values of their events in a column: each pair once."""
        if name not in self._distinct:
            codes, names = self._events.dimension(name)
            pairs = self._cell * len(names) + codes[self._at]
            pairs = unique(pairs, len(self.first) * len(names))
            found = Dimension(pairs % len(names), names)
            self._distinct[name] = pairs // len(names), found
        return self._distinct[name]

    def durations(self, of: str) -> tuple[Longs, Longs] | None:
        """Return cell and bucket of each event that has such a duration, if any."""
        if of not in self._durations:
            self._durations[of] = self._durations_of(of)
        return self._durations[of]

    def _durations_of(self, of: str) -> tuple[Longs, Longs] | None:
        if self._buckets is None:
            return None
        codes, names = self.dimension("event_type")
        is_one = np.array([name in TIMED[of] for name in names])[codes]
        rows = np.flatnonzero(is_one[self._cell] & (self._buckets != NO_BUCKET))
        return (self._cell[rows], self._buckets[rows]) if len(rows) else None

    @cached_property
    def _buckets(self) -> Longs | None:
        found = self._events.buckets()
        return None if found is None else found[self._at]


def _alike(events: Columns, masks: Iterable[Mask]) -> Longs:
    """Number events, alike ones alike: all numbers from 0 on."""
    parts = [(codes, len(names)) for codes, names in map(events.dimension, _NAMES)]
    since = events.window - events.window.min()
    parts.append((since, int(since.max()) + 1))
    parts += [(mask.astype(np.int64), 2) for mask in masks]
    cell, width = np.zeros(len(events.offset), np.int64), 1
    for codes, count in parts:
        if count > 1:
            cell = cell * count + codes
            width *= count
        if width > MANY:
            found, cell = numbered(cell)
            width = len(found)
    return numbered(cell)[1]


def _spends(amounts: Mapping[str, Longs], count: int) -> Mask:
    """Tell which events add to any; some rows are of these alone."""
    found = np.zeros(count, np.bool_)
    for one in amounts.values():
        found |= one > 0
    return found


def _sums_of_kinds(pairs: Pairs, count: Longs) -> dict[str, Longs]:
    """Return what cells add to the sums that their type and outcome tell."""
    adds = np.array([sums_of_kind(*pair) for pair in pairs.together])
    return {
        name: np.where(adds[pairs.of, nth], count, 0)
        for nth, name in enumerate(KIND_SUMS)
        if adds[:, nth].any()
    }
