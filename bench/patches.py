"""What stands for a number in an encoded event, for many events at once."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Bytes", "Longs", "digits", "varint"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Longs: TypeAlias = npt.NDArray[np.int64]


def digits(numbers: Longs, width: int) -> Bytes:
    """Return so many decimal digits of each, as text in a last axis."""
    powers = 10 ** np.arange(width - 1, -1, -1)
    return (numbers[..., None] // powers % 10 + ord("0")).astype(np.uint8)


def varint(numbers: Longs, width: int) -> Bytes:
    """Return what Avro makes of longs that take so many bytes, in a last axis."""
    groups = (2 * numbers[..., None]) >> (7 * np.arange(width)) & 0x7F
    groups[..., :-1] |= 0x80
    return groups.astype(np.uint8)
