"""
What a `MetricWindow` means: its groupings, its measures and its sketches.

Durations are counted in the buckets of a DDSketch (Masson, Rim, Lee, VLDB 2019) of
1 % relative accuracy over microseconds: bucket n holds what is above g^(n-1) and up to
g^n microseconds, where g = 101/99, and bucket 0 what is not above one microsecond. So
sketches merge by adding up counts, exactly and in any order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleetwake.schemas.records import MetricWindow

__all__ = [
    "BLOCK_RECORDS",
    "BUCKET_BOUNDS_US",
    "GROUPINGS",
    "LG_K",
    "OTHER",
    "RELATIVE_ACCURACY",
    "SIZES_S",
    "SUMS",
    "Grouping",
    "RowKey",
    "buckets_of",
    "buckets_text",
    "row_key",
]

BLOCK_RECORDS: Final = 100_000
"""
A row counts the events of one block of so many offsets.

Never to be changed: an event would be counted in the rows of two lengths of block.
"""

SIZES_S: Final = (10, 60, 3600)
OTHER: Final = "other"
"""Each dimension of what is beyond the limit of rows."""

LG_K: Final = 12
"""Of the HyperLogLog sketches: 4096 registers, a standard error of 1.6 %."""

RELATIVE_ACCURACY: Final = 0.01
_GAMMA: Final = (1 + RELATIVE_ACCURACY) / (1 - RELATIVE_ACCURACY)
_BUCKETS: Final = 1_498
BUCKET_BOUNDS_US: Final = tuple(_GAMMA**n for n in range(_BUCKETS))
"""The upper bound of each bucket; the last, 117 days, holds all that is longer too."""

SUMS: Final = (
    "events",
    "calls",
    "failures",
    "blocks",
    "loops",
    "turns",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cost_nano_usd",
    "unpriced",
)
"""The fields that readers add up."""


class Grouping(NamedTuple):
    """
    Which dimensions rows have, how long their windows are, and what they measure.

    `only`: the events that have one of these dimensions, or add to one of these sums;
    none: all.
    `durations`: which events' durations are in their sketch. `distinct`: the fields
    that hold a sketch of distinct values.
    """

    dimensions: tuple[str, ...]
    sizes_s: tuple[int, ...]
    sums: tuple[str, ...]
    only: tuple[str, ...] = ()
    durations: str = ""
    distinct: tuple[str, ...] = ()


_MINUTES_AND_HOURS: Final = (60, 3600)

GROUPINGS: Final[Mapping[str, Grouping]] = {
    "team": Grouping(
        ("source", "team"), SIZES_S, SUMS, distinct=("sessions", "agents")
    ),
    "agent": Grouping(
        ("agent_id",), SIZES_S, SUMS, durations="turns", distinct=("sessions",)
    ),
    "tool": Grouping(
        ("agent_id", "tool_name"), _MINUTES_AND_HOURS, SUMS[:5], durations="calls"
    ),
    "model": Grouping(
        ("agent_id", "provider", "model"),
        _MINUTES_AND_HOURS,
        ("events", "failures", *SUMS[6:]),
        only=("model", *SUMS[6:]),
        durations="responses",
    ),
    "failure": Grouping(
        ("tool_name", "error_kind", "error_type"),
        _MINUTES_AND_HOURS,
        ("failures",),
        only=("failures",),
    ),
    "outcome": Grouping(("event_type", "outcome"), _MINUTES_AND_HOURS, ("events",)),
    "state": Grouping(
        ("session_state",),
        _MINUTES_AND_HOURS,
        ("events",),
        only=("session_state",),
        distinct=("sessions",),
    ),
}


class RowKey(NamedTuple):
    """
    What a row is a snapshot of, its source's partition apart.

    The key of the record is a JSON array: window start (UTC microseconds), its length
    in seconds, grouping, block, eight hexadecimal digits that name who wrote it, and
    the dimensions in the grouping's order. So there may be several records of a row.
    """

    window_start: int
    window_s: int
    grouping: str
    block: int
    dimensions: tuple[str | None, ...]


def row_key(row: MetricWindow) -> RowKey:
    """
    Return what `row` is a snapshot of.

    Raises:
        KeyError: its grouping is not known: a newer release has written it.
    """
    names = GROUPINGS[row.grouping].dimensions
    return RowKey(
        row.window_start,
        row.window_s,
        row.grouping,
        row.block,
        tuple([getattr(row, name) for name in names]),
    )


def buckets_text(counts: Iterable[tuple[int, int]]) -> str:
    """Return buckets, in order, and their counts as `MetricWindow.durations` is."""
    return ",".join([f"{bucket}:{count}" for bucket, count in counts])


def buckets_of(text: str) -> dict[int, int]:
    """
    Return the counts by bucket of `MetricWindow.durations`.

    Raises:
        ValueError: it is no such text.
    """
    if not text:
        return {}
    pairs = [pair.split(":") for pair in text.split(",")]
    counts = {int(bucket): int(count) for bucket, count in pairs}
    if min(counts) < 0 or max(counts) >= _BUCKETS or min(counts.values()) < 0:
        raise ValueError(f"buckets are 0 to {_BUCKETS - 1}, and counts no less than 0")
    return counts
