"""The events of a batch by session, as columns of numbers."""
# pyright: basic, reportAttributeAccessIssue=false

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from fleetwake.consumers.facts.kinds import Meaning, meaning_of
from fleetwake.consumers.facts.rows import encoded, numbered

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from fleetwake.consumers.facts.rows import Keyed

__all__ = ["NONE", "Longs", "Mask", "Ordered", "Texts"]

Longs: TypeAlias = "npt.NDArray[np.int64]"
Mask: TypeAlias = "npt.NDArray[np.bool_]"

NONE: Final = -1
"""No event, or no text."""


class Texts(NamedTuple):
    """A column of texts: `texts[codes[row]]`; alike where the codes are."""

    codes: Longs
    texts: list[str]

    def filled(self) -> Longs:
        """Return the codes, those of empty texts `NONE`."""
        if "" not in self.texts:
            return self.codes
        return np.where(self.codes == self.texts.index(""), NONE, self.codes)

    def at(self, row: int) -> str | None:
        """Return a text; None where there is none."""
        code = self.codes[row]
        return None if code == NONE else self.texts[code]


class Ordered:
    """
    Events sorted by session, in offset order within each.

    Columns have a value per event in this order. `number` says of which session an
    event is, `starts` and `ends` where the events of each session are, `at` where an
    event was before.
    """

    def __init__(self, keyed: Keyed) -> None:
        self.keyed = keyed
        codes, sessions = _texts(keyed.events, "session_id")
        # A dictionary may have more than there are.
        found, number = numbered(codes)
        self.sessions = [sessions[one] for one in found.tolist()]
        is_short = len(self.sessions) <= np.iinfo(np.uint16).max
        # numpy has a radix sort for short numbers only.
        key = number.astype(np.uint16) if is_short else number
        self.at = np.argsort(key, kind="stable")
        self.number = number[self.at]
        self.starts = np.searchsorted(self.number, np.arange(len(self.sessions)))
        self.ends = np.append(self.starts[1:], len(self.at))
        self.offset = keyed.offset[self.at]
        self.timestamp_ms = keyed.timestamp_ms[self.at]
        self.rows = np.arange(len(self.at))

    def means(self, what: Callable[[Meaning], bool | int]) -> npt.NDArray[Any]:
        """Return something of the meaning of each event."""
        meanings, of = self._meanings
        return np.array([what(one) for one in meanings])[of]

    def longs(self, name: str) -> Longs:
        """Return a column of numbers or times; 0 where it is null."""
        column = self.keyed.events.column(name)
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        filled = column.fill_null(0) if column.null_count else column
        numbers: Longs = filled.to_numpy()
        return numbers[self.at]

    def texts(self, name: str) -> Texts:
        """Return a column of texts."""
        codes, texts = _texts(self.keyed.events, name)
        return Texts(codes[self.at], texts)

    def is_null(self, name: str) -> Mask:
        """Tell where a column has no value."""
        is_null: Mask = (
            self.keyed.events.column(name).is_null().to_numpy(zero_copy_only=False)
        )
        return is_null[self.at]

    def last(self, mask: Mask) -> Longs:
        """Return the last event of each session that `mask` says, or `NONE`."""
        if not mask.any():
            return np.full(len(self.starts), NONE)
        return np.maximum.reduceat(np.where(mask, self.rows, NONE), self.starts)

    def total(self, values: npt.NDArray[Any]) -> list[int]:
        """Add up the values of each session."""
        if not values.any():
            return [0] * len(self.starts)
        found: list[int] = np.add.reduceat(values, self.starts, dtype=np.int64).tolist()
        return found

    def any_of(self, rows: Longs) -> Mask:
        """Tell which sessions some events are of."""
        found = np.zeros(len(self.starts), np.bool_)
        found[self.number[rows]] = True
        return found

    def changes(self, rows: Longs, *columns: Longs) -> Mask:
        """Tell of some events where the session, or a value for each, is another."""
        found = np.ones(len(rows), np.bool_)
        for one in (self.number[rows], *columns) if len(rows) else ():
            found[1:] &= one[1:] == one[:-1]
        found[1:] = ~found[1:]
        return found

    def parts(self, rows: Longs) -> list[slice]:
        """Return which of some events, in order, are of each session."""
        ends = np.searchsorted(rows, self.ends).tolist()
        return list(map(slice, [0, *ends[:-1]], ends))

    @cached_property
    def occurred_at(self) -> Longs:
        """By the source's clock, UTC microseconds."""
        return self.longs("occurred_at")

    @cached_property
    def _meanings(self) -> tuple[list[Meaning], Longs]:
        kinds, outcomes = self.texts("event_type"), self.texts("outcome")
        width = len(outcomes.texts)
        pairs, of = numbered(kinds.codes * width + outcomes.codes)
        found = [
            meaning_of(kinds.texts[pair // width], outcomes.texts[pair % width])
            for pair in pairs.tolist()
        ]
        return found, of


def _texts(events: pa.RecordBatch, name: str) -> tuple[Longs, list[str]]:
    column = events.column(name)
    if column.null_count == len(column):
        return np.full(len(column), NONE), []
    values, codes = encoded(name, column)
    numbers: dict[str, int] = {}
    # Some are alike only now that they are cut.
    number = [
        NONE if one is None else numbers.setdefault(one, len(numbers)) for one in values
    ]
    return np.array(number)[codes], list(numbers)
