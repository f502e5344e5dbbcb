"""The rows of one grouping and one length of window, in one block of offsets."""
# pyright: reportAttributeAccessIssue=false
# datasketches has no type information.

from __future__ import annotations

import base64
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np
from datasketches import HLL_4, hll_sketch

from fleetwake.consumers.metrics.sorting import changes
from fleetwake.schemas.windows import (
    BUCKET_BOUNDS_US,
    GROUPINGS,
    LG_K,
    OTHER,
    buckets_of,
    buckets_text,
    row_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fleetwake.consumers.metrics.columns import Dimension, Longs
    from fleetwake.schemas.records import MetricWindow

__all__ = ["Dimensions", "News", "Table"]

Dimensions: TypeAlias = tuple[str | None, ...]

_WIDTH: Final = len(BUCKET_BOUNDS_US)
_NO_PAIRS: Final = np.empty(0, np.int64)
_WINDOWS_WORTH: Final = 20
"""Windows full of rows that a table may hold; more than that is an attack."""


class News(NamedTuple):
    """
    What was added to rows: `sums` has a value for each of `numbers`.

    `durations` and `counts` are buckets of the rows `timed`.
    """

    numbers: Longs
    sums: dict[str, Longs]
    timed: Longs
    durations: Longs
    counts: Longs


class Table:
    """
    Rows by window and dimensions; a row's number is its place in the arrays.

    Which rows there are, and what they hold, depends on the order of the events
    alone, not on how they come in batches: the first dimensions of a window get a row
    of their own, up to `max_rows`, and the others share one.
    """

    def __init__(self, grouping: str, size_s: int, max_rows: int) -> None:
        self.name = grouping
        self.size_s = size_s
        self.others: Dimensions = (OTHER,) * len(GROUPINGS[grouping].dimensions)
        self._grouping = GROUPINGS[grouping]
        self._max_rows = max_rows
        self._keys: list[tuple[int, Dimensions]] = []
        self._numbers: dict[tuple[int, Dimensions], int] = {}
        self._admitted: Counter[int] = Counter()
        self._named = 0
        self._sums = np.zeros((8, len(self._grouping.sums)), np.int64)
        self._published = self._sums.copy()
        self._applied = np.full(8, -1, np.int64)
        self._pairs = self._counts = _NO_PAIRS
        """Rows and buckets in order, each pair as one number; how often it came."""
        self._restored: dict[int, dict[int, int]] = {}
        """By row, until the first are counted."""
        self._pending: list[Longs] = []
        self._settled: list[tuple[Longs, Longs]] = []
        self._distinct: dict[str, list[Any]] = {n: [] for n in self._grouping.distinct}
        self._changed: set[int] = set()
        self._of_others: set[int] = set()

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self._keys)

    def numbers(self, keys: Sequence[tuple[int, Dimensions]], first: Longs) -> Longs:
        """
        Return the rows of windows and dimensions, new ones made where there are none.

        `first` is the first offset of each: in that order they are let in.
        """
        known = self._numbers
        found = [known.get(key, -1) for key in keys]
        if -1 in found:
            for at in np.argsort(first, kind="stable").tolist():
                if found[at] < 0:
                    found[at] = self._admit(keys[at])
        return np.array(found, np.int64)

    def applied(self, numbers: Longs) -> Longs:
        """Return the last offset that each row holds."""
        return self._applied[numbers]

    def add(self, numbers: Longs, sums: dict[str, Longs], last: Longs) -> None:
        """Add to rows; `sums` has a value for each of `numbers`, `last` an offset."""
        # Dimensions beyond the limit share a row, so it may be there several times.
        for nth, name in enumerate(self._grouping.sums):
            if name in sums:
                np.add.at(self._sums[:, nth], numbers, sums[name])
        np.maximum.at(self._applied, numbers, last)
        self._changed.update(numbers.tolist())

    def add_durations(self, numbers: Longs, buckets: Longs) -> None:
        """Count events' durations, each in the row of its number."""
        self._pending.append(numbers * _WIDTH + buckets)

    def add_distinct(self, name: str, numbers: Longs, values: Dimension) -> None:
        """Note events' values, each in the row of its number."""
        sketches, names = self._distinct[name], values.names
        pairs = zip(numbers.tolist(), values.codes.tolist(), strict=True)
        for number, code in dict.fromkeys(pairs):
            if value := names[code]:
                sketches[number].update(value)

    def restore(self, row: MetricWindow) -> None:
        """
        Take a published row back, unless a later one of its key is there.

        Raises:
            ValueError, RuntimeError: its sketches are none of ours.
        """
        buckets = buckets_of(row.durations)
        sketches = {
            name: hll_sketch.deserialize(base64.b64decode(getattr(row, name)))
            for name in self._distinct
        }
        key = row.window_start // (self.size_s * 1_000_000), row_key(row).dimensions
        number = self._numbers.get(key, -1)
        if number < 0:
            number = self._new_row(key)
        if self._applied[number] >= row.applied_through:
            return
        self._applied[number] = row.applied_through
        self._sums[number] = [getattr(row, name) for name in self._grouping.sums]
        self._published[number] = self._sums[number]
        self._restored[number] = buckets
        for name, sketch in sketches.items():
            self._distinct[name][number] = sketch

    def changed(self) -> Iterator[tuple[int, Dimensions, dict[str, Any]]]:
        """Window, dimensions and fields of each row that was not published so."""
        self._settle()
        numbers = sorted(self._changed)
        # The pairs of a row are neighbours.
        first = np.array(numbers, np.int64) * _WIDTH
        starts = np.searchsorted(self._pairs, first).tolist()
        ends = np.searchsorted(self._pairs, first + _WIDTH).tolist()
        sums, applied = self._sums[numbers].tolist(), self._applied[numbers].tolist()
        for nth, number in enumerate(numbers):
            fields: dict[str, Any] = dict(
                zip(self._grouping.sums, sums[nth], strict=True)
            )
            if self._grouping.durations:
                some = slice(starts[nth], ends[nth])
                buckets = (self._pairs[some] % _WIDTH).tolist()
                fields["durations"] = buckets_text(
                    zip(buckets, self._counts[some].tolist(), strict=True)
                )
            for name, sketches in self._distinct.items():
                packed = sketches[number].serialize_compact()
                fields[name] = base64.b64encode(packed).decode()
            fields["applied_through"] = applied[nth]
            yield *self._keys[number], fields

    def news(self) -> News:
        """What was added since `published`, as far as `changed` told it."""
        numbers = np.array(sorted(self._changed), np.int64)
        added = self._sums[numbers] - self._published[numbers]
        sums = dict(zip(self._grouping.sums, added.T, strict=True))
        pairs = np.concatenate([_NO_PAIRS, *(one for one, _ in self._settled)])
        counts = np.concatenate([_NO_PAIRS, *(one for _, one in self._settled)])
        return News(numbers, sums, pairs // _WIDTH, pairs % _WIDTH, counts)

    def folded(self) -> int:
        """Count the events that were added to rows of others since `published`."""
        numbers = list(self._changed & self._of_others)
        # The first sum of every grouping counts its events.
        added = self._sums[numbers, 0] - self._published[numbers, 0]
        return int(added.sum())

    def published(self) -> None:
        """Note that all that `changed` told was published."""
        numbers = list(self._changed)
        self._published[numbers] = self._sums[numbers]
        self._changed.clear()
        self._settled.clear()

    def dimensions(self, number: int) -> Dimensions:
        """Return the dimensions of a row."""
        return self._keys[number][1]

    def _settle(self) -> None:
        """Count the durations that wait: many at once are counted sooner."""
        if self._restored:
            held = [
                (number * _WIDTH + bucket, count)
                for number, buckets in self._restored.items()
                for bucket, count in buckets.items()
            ]
            self._restored.clear()
            self._count(*np.array(held, np.int64).reshape(-1, 2).T)
        if self._pending:
            pairs, counts = np.unique(np.concatenate(self._pending), return_counts=True)
            self._pending.clear()
            self._settled.append((pairs, counts))
            self._count(pairs, counts)

    def _count(self, pairs: Longs, counts: Longs) -> None:
        pairs = np.concatenate([self._pairs, pairs])
        counts = np.concatenate([self._counts, counts])
        order = np.argsort(pairs, kind="stable")
        pairs = pairs[order]
        starts = changes(pairs) if len(pairs) else order
        self._pairs = pairs[starts]
        self._counts = np.add.reduceat(counts[order], starts)

    def _admit(self, key: tuple[int, Dimensions]) -> int:
        number = self._numbers.get(key, -1)
        if number >= 0:
            return number
        full = (
            self._admitted[key[0]] >= self._max_rows
            or self._named >= self._max_rows * _WINDOWS_WORTH
        )
        if full:
            key = key[0], self.others
            number = self._numbers.get(key, -1)
        return self._new_row(key) if number < 0 else number

    def _new_row(self, key: tuple[int, Dimensions]) -> int:
        window, dimensions = key
        # Rows share the names: without it each batch brings its own copies.
        key = window, tuple([one and sys.intern(one) for one in dimensions])
        number = self._numbers[key] = len(self._keys)
        self._keys.append(key)
        # A row of others is no name's: it may be restored before those that fill it.
        if dimensions != self.others:
            self._admitted[window] += 1
            self._named += 1
        else:
            self._of_others.add(number)
        if number == len(self._applied):
            none = np.zeros_like(self._sums)
            self._sums = np.concatenate([self._sums, none])
            self._published = np.concatenate([self._published, none])
            self._applied = np.concatenate([self._applied, none[:, 0] - 1])
        for sketches in self._distinct.values():
            sketches.append(hll_sketch(LG_K, HLL_4))
        return number
