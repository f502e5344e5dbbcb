"""What is alike among numbers, and where it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from fleetwake.consumers.metrics.columns import Longs

__all__ = ["MANY", "changes", "in_order", "lengths", "unique"]

MANY: Final = 2**20
"""Of so many an array of a byte each is made in no time."""


def in_order(numbers: Longs) -> Longs:
    """Sort numbers, none below 0; stable."""
    is_short = numbers.max() <= np.iinfo(np.uint16).max
    # numpy has a radix sort for short numbers only.
    key = numbers.astype(np.uint16) if is_short else numbers
    return np.argsort(key, kind="stable")


def changes(*columns: Longs) -> Longs:
    """Where a value is another than before, and 0."""
    differs = np.ones(len(columns[0]), np.bool_)
    differs[1:] = columns[0][1:] != columns[0][:-1]
    for one in columns[1:]:
        differs[1:] |= one[1:] != one[:-1]
    return np.flatnonzero(differs)


def lengths(starts: Longs, end: int) -> Longs:
    """Return how far each is from the next, and the last from `end`."""
    found = np.empty_like(starts)
    found[:-1] = starts[1:] - starts[:-1]
    found[-1] = end - starts[-1]
    return found


def unique(numbers: Longs, below: int) -> Longs:
    """Return the numbers, each once, in order."""
    if below > MANY:
        return np.unique(numbers)
    is_there = np.zeros(below, np.bool_)
    is_there[numbers] = True
    return np.flatnonzero(is_there)
