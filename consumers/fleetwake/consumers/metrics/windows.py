"""The windows of one block of offsets: all its tables, and how events get into them."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from fleetwake.consumers.metrics.cells import Cells
from fleetwake.consumers.metrics.exposition import FOLDED
from fleetwake.consumers.metrics.grouped import group
from fleetwake.consumers.metrics.sorting import changes, lengths
from fleetwake.consumers.metrics.table import Table
from fleetwake.schemas.records import MetricWindow
from fleetwake.schemas.windows import GROUPINGS, SIZES_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fleetwake.consumers.metrics.columns import Columns
    from fleetwake.consumers.metrics.exposition import Series
    from fleetwake.consumers.metrics.grouped import Grouped
    from fleetwake.consumers.metrics.prices import Price
    from fleetwake.consumers.metrics.settings import MetricsSettings

__all__ = ["Limits", "Windows"]


_DISTINCT: Final = {"sessions": "session_id", "agents": "agent_id"}

_EMPTY: Final = {
    one.name: None if one.default is MISSING else one.default
    for one in fields(MetricWindow)
}


class Limits(NamedTuple):
    """How late an event may be for each length of window, and how many rows."""

    kept_us: Mapping[int, int]
    max_rows: int

    @classmethod
    def of(cls, settings: MetricsSettings) -> Limits:
        """Take them from the settings."""
        hours = (
            settings.ten_seconds_kept_h,
            settings.minutes_kept_h,
            settings.hours_kept_h,
        )
        kept_us = {
            size_s: int(kept_h * 3600 * 1_000_000)
            for size_s, kept_h in zip(SIZES_S, hours, strict=True)
        }
        return cls(kept_us, settings.max_rows_per_window)


class Windows:
    """
    What the events of `block` add up to, so far.

    `restored_through`: no row that was restored holds an offset above this one.
    """

    def __init__(self, block: int, limits: Limits) -> None:
        self.block = block
        self.restored_through = -1
        self._limits = limits
        self._tables = {
            (name, size_s): Table(name, size_s, limits.max_rows)
            for name, grouping in GROUPINGS.items()
            for size_s in grouping.sizes_s
        }

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(table.rows for table in self._tables.values())

    def restore(self, row: MetricWindow) -> None:
        """Take a published row of this block back; one of a new kind is left alone."""
        table = self._tables.get((row.grouping, row.window_s))
        if table is not None:
            table.restore(row)
            self.restored_through = max(self.restored_through, row.applied_through)

    def add(self, events: Columns, prices: Mapping[str, Price]) -> dict[int, int]:
        """
        Add events of this block, each to all of its rows that do not hold it yet.

        Returns how many came too late for each length of window.
        """
        late = {s: events.late_us > kept for s, kept in self._limits.kept_us.items()}
        late = {size_s: mask for size_s, mask in late.items() if mask.any()}
        is_restored = int(events.offset[0]) <= self.restored_through
        cells = Cells(events, late, prices, apart=is_restored)
        for name, grouping in GROUPINGS.items():
            grouped = group(cells, grouping)
            if grouped is None:
                continue
            for size_s in grouping.sizes_s:
                some = grouped
                if size_s in late:
                    some = grouped.keep(~cells.late[size_s][grouped.at])
                self._add(self._tables[name, size_s], some)
        return {size_s: int(mask.sum()) for size_s, mask in late.items()}

    def _add(self, table: Table, some: Grouped) -> None:
        if not len(some.at):
            return
        cells, grouping = some.cells, GROUPINGS[table.name]
        window = some.window // (table.size_s // SIZES_S[0])
        starts = changes(some.code, window)
        numbers = table.numbers(
            [
                (at, some.dimensions[code])
                for at, code in zip(
                    window[starts].tolist(), some.code[starts].tolist(), strict=True
                )
            ],
            np.minimum.reduceat(cells.first[some.at], starts),
        )
        number = np.repeat(numbers, lengths(starts, len(window)))
        if cells.first[0] <= self.restored_through:
            is_new = cells.first[some.at] > table.applied(number)
            some, number = some.keep(is_new), number[is_new]
            if not len(number):
                return
            starts = changes(number)
            numbers = number[starts]
        at, row = some.at, some.of_cells(number)
        added = {
            name: np.add.reduceat(cells.sums[name][at], starts)
            for name in grouping.sums
            if name in cells.sums
        }
        table.add(numbers, added, np.maximum.reduceat(cells.last[at], starts))
        if grouping.durations and (timed := cells.durations(grouping.durations)):
            timed_row = row[timed[0]]
            is_here = timed_row >= 0
            table.add_durations(timed_row[is_here], timed[1][is_here])
        for name in grouping.distinct:
            cell, values = some.distinct(_DISTINCT[name])
            table.add_distinct(name, row[cell], values)

    def changed(self, partition: int) -> Iterator[dict[str, Any]]:
        """The fields of each row that was changed since `published`."""
        for (name, size_s), table in self._tables.items():
            names = GROUPINGS[name].dimensions
            for window, dimensions, found in table.changed():
                yield (
                    _EMPTY
                    | found
                    | dict(zip(names, dimensions, strict=True))
                    | {
                        "window_start": window * size_s * 1_000_000,
                        "window_s": size_s,
                        "grouping": name,
                        "block": self.block,
                        "source_partition": partition,
                    }
                )

    def published(self, series: Series) -> None:
        """Note that all changed rows were published, and tell `series` what is new."""
        for table in self._tables.values():
            if table.size_s == SIZES_S[-1]:
                series.tell(table)
            if folded := table.folded():
                FOLDED.labels(table.name, f"{table.size_s}").inc(folded)
            table.published()
