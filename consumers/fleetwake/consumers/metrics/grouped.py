"""The cells of a grouping in the order of its rows, so that sums are of neighbours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from fleetwake.consumers.metrics.columns import Dimension
from fleetwake.consumers.metrics.sorting import changes, in_order, lengths, unique
from fleetwake.schemas.windows import SUMS

if TYPE_CHECKING:
    from fleetwake.consumers.metrics.cells import Cells
    from fleetwake.consumers.metrics.columns import Longs, Mask
    from fleetwake.consumers.metrics.table import Dimensions
    from fleetwake.schemas.windows import Grouping

__all__ = ["Grouped", "group"]

_NONE: Final = np.zeros(1, np.int64)
_MAX_CODE: Final = 2**40


@dataclass(slots=True)
class Grouped:
    """
    Cells by dimensions and window of ten seconds.

    `at` says which, `dimensions[code[n]]` are those of the n-th.
    """

    cells: Cells
    at: Longs
    window: Longs
    code: Longs
    dimensions: list[Dimensions]
    _distinct: dict[str, tuple[Longs, Dimension]] = field(
        default_factory=dict, init=False
    )

    def keep(self, mask: Mask) -> Grouped:
        """Return the cells that `mask` says."""
        return Grouped(
            self.cells,
            self.at[mask],
            self.window[mask],
            self.code[mask],
            self.dimensions,
        )

    def of_cells(self, values: Longs) -> Longs:
        """Return a value for each of all cells: of these the given one, else -1."""
        found = np.full(len(self.cells.first), -1)
        found[self.at] = values
        return found

    def distinct(self, name: str) -> tuple[Longs, Dimension]:
        """Return a cell of each dimensions and window, and the values there, once."""
        if name not in self._distinct:
            self._distinct[name] = self._distinct_of(name)
        return self._distinct[name]

    def _distinct_of(self, name: str) -> tuple[Longs, Dimension]:
        cell, (codes, names) = self.cells.distinct(name)
        starts = changes(self.code, self.window)
        number = np.repeat(np.arange(len(starts)), lengths(starts, len(self.at)))
        run = self.of_cells(number)[cell]
        pairs = run * len(names) + codes
        pairs = unique(pairs[run >= 0], len(starts) * len(names))
        found = Dimension(pairs % len(names), names)
        return self.at[starts[pairs // len(names)]], found


def group(cells: Cells, grouping: Grouping) -> Grouped | None:
    """Sort the cells that belong to a grouping; None if there are none."""
    rows = _rows(cells, grouping.only)
    if not len(rows):
        return None
    columns = [cells.dimension(name) for name in grouping.dimensions]
    code, window = _code(columns, rows), cells.window[rows]
    order = _order(code, window)
    at, code = rows[order], code[order]
    starts = changes(code)
    firsts = at[starts]
    names = [
        [column.names[code] for code in column.codes[firsts].tolist()]
        for column in columns
    ]
    return Grouped(
        cells,
        at,
        window[order],
        np.repeat(np.arange(len(starts)), lengths(starts, len(at))),
        list(zip(*names, strict=True)),
    )


def _rows(cells: Cells, only: tuple[str, ...]) -> Longs:
    """Which cells belong."""
    if not only:
        return np.arange(len(cells.first))
    belongs = np.zeros(len(cells.first), np.bool_)
    for name in only:
        if name in SUMS:
            belongs |= cells.sums.get(name, _NONE) > 0
        else:
            codes, names = cells.dimension(name)
            absent = names.index(None) if None in names else len(names)
            belongs |= codes != absent
    return np.flatnonzero(belongs)


def _code(columns: list[Dimension], rows: Longs) -> Longs:
    """One number for all dimensions of a cell."""
    code, width = np.zeros(len(rows), np.int64), 1
    for codes, names in columns:
        code = code * len(names) + codes[rows]
        width *= len(names)
        if width > _MAX_CODE:
            found, code = np.unique(code, return_inverse=True)
            width = len(found)
    return code


def _order(code: Longs, window: Longs) -> Longs:
    """By code and window; stable."""
    first = window.min()
    span = int(window.max() - first) + 1
    if (int(code.max()) + 1) * span >= np.iinfo(np.int64).max:
        return np.lexsort((window, code))
    return in_order(code * span + (window - first))
