"""
Writes the events of a batch together, column by column, in half of `writer`'s time.

It gives the bytes of `writer`, or none at all: where one event needs fastavro, or is
invalid, each is to be written by itself. A column that is the same in all events of the
batch, as most are, is written once.
"""

from __future__ import annotations

from functools import cache, lru_cache, partial
from itertools import repeat
from math import isfinite
from operator import itemgetter
from struct import Struct, pack
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from fleetwake.schemas.checks import BOUNDS
from fleetwake.schemas.event import REQUIRED_FIELDS
from fleetwake.schemas.writer import (
    BRANCH,
    COLUMNS,
    NULL,
    SHORT,
    SINGULAR,
    TYPES,
    avro_long,
    map_body,
    table_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = ["event_bodies"]

_Kinds: TypeAlias = "set[type]"
"""The types of a column's values; nulls have one too."""
_Parts: TypeAlias = "tuple[bytes | Sequence[bytes], ...]"
"""What stands one behind the other: the same in all events, or in each another."""
_Write: TypeAlias = "Callable[[Sequence[Any], _Kinds], _Parts]"

_NONE: Final = type(None)
_double: Final = Struct("<cd").pack


def event_bodies(header: bytes, columns: Sequence[Sequence[Any]]) -> list[bytes] | None:
    """
    Return the datums of events behind a header, or None: write them one by one.

    Args:
        header: goes before each.
        columns: the fields, each of all events. At least of one.
    """
    try:
        parts = _parts(header, columns)
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError):
        return None  # a lone surrogate's is one of these
    return [*map(b"".join, zip(*parts, strict=True))]


def _parts(header: bytes, columns: Sequence[Sequence[Any]]) -> list[Iterable[bytes]]:
    count = len(columns[0])
    parts: list[Iterable[bytes]] = []
    same = [header]
    for part in _in_order(columns):
        if isinstance(part, bytes):
            same.append(part)
            continue
        if same:
            parts.append(repeat(b"".join(same), count))
            same = []
        parts.append(part)
    return [*parts, repeat(b"".join(same), count)]


def _in_order(columns: Sequence[Sequence[Any]]) -> Iterator[bytes | Sequence[bytes]]:
    last_column = last_write = None
    parts: _Parts = ()
    for (types, write), column in zip(_writers(), columns, strict=True):
        if _NONE in types and _is_null(column):
            yield NULL
            continue
        kinds = {*map(type, column)}
        if not kinds <= types:
            raise TypeError
        # An event occurred, as most say, when it was recorded.
        if column is not last_column or write is not last_write:
            last_column, last_write, parts = column, write, write(column, kinds)
        yield from parts


def _is_null(column: Sequence[Any]) -> bool:
    # Faster than to look at all types; what says of itself that it is None may be it.
    return column[0] is None is column[-1] and column.count(None) == len(column)


@cache
def _writers() -> tuple[tuple[frozenset[type], _Write], ...]:
    return tuple(
        (TYPES[column.kind] | ({_NONE} if column.nullable else frozenset()), _write(at))
        for at, column in enumerate(COLUMNS)
    )


def _write(at: int) -> _Write:
    column = COLUMNS[at]
    before = BRANCH if column.nullable else b""
    is_required = column.name in REQUIRED_FIELDS
    if column.kind == "map":
        return partial(_maps, before)
    if column.kind == "double":
        return partial(_doubles, before)
    if column.name in SINGULAR:
        return partial(_texts, before, is_required=is_required)
    if column.kind == "time" or column.name.endswith("_digest"):
        least, greatest = BOUNDS[column.kind]
        return _writer_of_longs(before, 1 if is_required else least, greatest)
    return partial(_known, table_of(at))


def _known(
    table: Mapping[Any, bytes], column: Sequence[Any], _: object = None
) -> _Parts:
    first = column[0]
    if column.count(first) == len(column):
        return (table[first],)
    return (itemgetter(*column)(table),)


def _maps(before: bytes, column: Sequence[Any], _: _Kinds) -> _Parts:
    if any(column):
        return ([map_body(before, value) for value in column],)
    return (map_body(before, {}),)


def _doubles(before: bytes, column: Sequence[float | None], _: _Kinds) -> _Parts:
    if not all(map(isfinite, filter(None, column))):
        raise ValueError("no finite number")
    return ([NULL if one is None else _double(before, one) for one in column],)


def _texts(
    before: bytes, column: Sequence[Any], kinds: _Kinds, *, is_required: bool
) -> _Parts:
    if is_required and not all(column):
        raise ValueError("empty")
    lengths = _lengths(before)
    if _NONE not in kinds:
        texts = [*map(str.encode, column)]
        return *_known(lengths, [*map(len, texts)]), texts
    texts = [b"" if one is None else one.encode() for one in column]
    heads = [
        NULL if one is None else lengths[len(text)]
        for one, text in zip(column, texts, strict=True)
    ]
    return heads, texts


@cache
def _lengths(before: bytes) -> Mapping[int, bytes]:
    return _Lengths(before)


class _Lengths(dict[int, bytes]):
    """How the lengths of texts are written."""

    def __init__(self, before: bytes) -> None:
        super().__init__({size: before + short for size, short in enumerate(SHORT)})
        self._before = before

    def __missing__(self, size: int) -> bytes:
        return self._before + avro_long(size)


@cache
def _writer_of_longs(before: bytes, least: int, greatest: int) -> _Write:
    return partial(_longs, before, least, greatest)


def _longs(
    before: bytes, least: int, greatest: int, column: Sequence[Any], kinds: _Kinds
) -> _Parts:
    has_nulls = _NONE in kinds
    numbers = [one for one in column if one is not None] if has_nulls else column
    if not least <= min(numbers) <= max(numbers) <= greatest:
        raise ValueError("out of range")
    lows, highs = _wide(numbers)
    written = [lows[at : at + 8] for at in range(0, len(lows), 8)]
    if 0 in lows[7::8]:
        written = [*map(avro_long, numbers)]
    elif any(highs):
        written = [one + _HIGH[high] for one, high in zip(written, highs, strict=True)]
    if not has_nulls:
        return before, written
    following = iter(written)
    return ([NULL if one is None else before + next(following) for one in column],)


# What is left of a number behind its lower 56 bits.
_HIGH: Final = (
    b"",
    *(bytes((one,)) for one in range(1, 0x80)),
    *(bytes((one, 1)) for one in range(0x80, 0x100)),
)


def _wide(numbers: Sequence[int]) -> tuple[bytes, bytes]:
    """
    Write longs as `avro_long` does, all at once, in one large number.

    Returns eight bytes of each, and the eight bits of each that are left. The eighth
    byte of a number that has fewer is zero.
    """
    size = 8 * len(numbers)
    one, most, byte, *masks, more = _masks(len(numbers))
    lanes = int.from_bytes(pack(f"<{len(numbers)}q", *numbers), "little")
    negative = lanes >> 63 & one
    zigzag = (lanes & most) << 1 ^ (negative << 64) - negative
    high = zigzag >> 56 & byte
    low = zigzag
    for shift, stay, move in ((4, *masks[:2]), (2, *masks[2:4]), (1, *masks[4:])):
        low = low & stay | (low & move) << shift
    low |= more | (high + byte >> 8 & one) << 63
    return low.to_bytes(size, "little"), high.to_bytes(size, "little")[::8]


@lru_cache(maxsize=128)
def _masks(count: int) -> tuple[int, ...]:
    return tuple(
        int.from_bytes(lane.to_bytes(8, "little") * count, "little")
        for lane in (
            0x01,
            0x7FFF_FFFF_FFFF_FFFF,
            0xFF,
            0x0FFF_FFFF,
            0x00FF_FFFF_F000_0000,
            0x0000_3FFF_0000_3FFF,
            0x0FFF_C000_0FFF_C000,
            0x007F_007F_007F_007F,
            0x3F80_3F80_3F80_3F80,
            0x0080_8080_8080_8080,
        )
    )
