"""What each event of a batch counts as, column by column."""
# pyright: basic, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from fleetwake.consumers.facts.kinds import (
    BLOCKING_TYPES,
    CALL_ENDS,
    ERROR_TYPES,
    FAILED,
    STOPPED,
    state_told,
)
from fleetwake.consumers.facts.rows import coded, numbered
from fleetwake.schemas.windows import BUCKET_BOUNDS_US, SIZES_S, SUMS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from fleetwake.consumers.metrics.prices import Price

__all__ = [
    "CAN_FAIL",
    "KIND_SUMS",
    "NO_BUCKET",
    "TIMED",
    "Columns",
    "Dimension",
    "Longs",
    "Mask",
    "Pairs",
    "pairs_of",
    "states_of",
    "sums_of_kind",
]

Longs: TypeAlias = "npt.NDArray[np.int64]"
Mask: TypeAlias = "npt.NDArray[np.bool_]"

CAN_FAIL: Final = frozenset({"tool.complete", "tool.failure"})
"""
Failures by their outcome. That a scope, a turn or a delegation ended in an error is a
second view of what failed inside.
"""

NO_BUCKET: Final = -1

KIND_SUMS: Final = ("calls", "failures", "blocks", "loops", "turns")
"""What `sums_of_kind` tells."""

TIMED: Final = {
    "calls": CALL_ENDS,
    "responses": frozenset({"model.error", "model.response"}),
    "turns": frozenset({"turn.end"}),
}
"""The types of event whose durations a grouping has."""

_ALL_TIMED: Final = frozenset().union(*TIMED.values())
_TOKENS: Final = tuple(name for name in SUMS if name.endswith("_tokens"))
_MAX_AHEAD_US: Final = 5 * 60 * 1_000_000
"""A clock may be so far ahead of the broker's (docs/guarantees.md)."""

_MAX_TOKENS: Final = 1_000_000_000_000
"""Of one event. What is above, or below zero, is no count: sums must stay longs."""

_MAX_NANO_USD: Final = 10_000 * 10**9
"""Of one event, as above."""

_MAX_NAME_CHARS: Final = 128
"""Names come from agents; a longer one shares its row with those that begin alike."""

_BOUNDS: Final = np.array(BUCKET_BOUNDS_US)
_WINDOW_US: Final = SIZES_S[0] * 1_000_000


class Dimension(NamedTuple):
    """A column of names: `names[codes[row]]` is that of a row."""

    codes: Longs
    names: list[str | None]


class Pairs(NamedTuple):
    """Types and outcomes: `together[of[row]]` are those of a row."""

    together: list[tuple[str, str]]
    of: Longs


class Columns:
    """
    The events of a batch, or some of them in their order, as numbers.

    `offset`, `window` (of ten seconds, counted from 1970), `late_us` (from the end of
    an event to its append) and the columns that methods make have a value per event.
    """

    def __init__(
        self, events: pa.RecordBatch, offset: Longs, window: Longs, late_us: Longs
    ) -> None:
        self.events = events
        self.offset = offset
        self.window = window
        self.late_us = late_us
        self._dimensions: dict[str, Dimension] = {}

    @classmethod
    def of(cls, events: pa.RecordBatch, offset: Longs, appended_us: Longs) -> Columns:
        """Make them of events and what the broker says of each."""
        happened = events.column("occurred_at").cast(pa.int64()).to_numpy()
        happened = np.maximum(np.minimum(happened, appended_us + _MAX_AHEAD_US), 0)
        return cls(events, offset, happened // _WINDOW_US, appended_us - happened)

    def filter(self, mask: npt.NDArray[np.bool_]) -> Columns:
        """Return the events that `mask` says."""
        return Columns(
            self.events.filter(pa.array(mask)),
            self.offset[mask],
            self.window[mask],
            self.late_us[mask],
        )

    def dimension(self, name: str) -> Dimension:
        """Return the names of a column, cut to 128 characters unless they are ids."""
        if name not in self._dimensions:
            self._dimensions[name] = self._dimension(name)
        return self._dimensions[name]

    def sums(self, prices: Mapping[str, Price]) -> dict[str, Longs]:
        """What each event adds to each of `SUMS`; one that none adds to is left out."""
        pairs, of = pairs_of(self.dimension("event_type"), self.dimension("outcome"))
        adds = np.array([sums_of_kind(*pair) for pair in pairs])
        kinds = {
            name: adds[of, nth].astype(np.int64)
            for nth, name in enumerate(KIND_SUMS)
            if adds[:, nth].any()
        }
        events = np.ones(len(self.offset), np.int64)
        return {"events": events, **kinds, **self.amounts(prices)}

    def amounts(self, prices: Mapping[str, Price]) -> dict[str, Longs]:
        """Those of `sums` that an event's type and outcome do not tell."""
        tokens = {
            name: one for name in _TOKENS if (one := self._tokens(name)) is not None
        }
        return tokens | self._costs(tokens, prices)

    def buckets(self) -> Longs | None:
        """
        Return the bucket of each event's duration, as far as anyone counts it.

        None where no event has one.
        """
        column = self.events.column("duration_ms")
        if column.null_count == len(column):
            return None
        kinds = self.dimension("event_type")
        is_timed = np.array([kind in _ALL_TIMED for kind in kinds.names])[kinds.codes]
        took_us = column.to_numpy(zero_copy_only=False) * 1000.0
        rows = np.flatnonzero(is_timed & np.isfinite(took_us) & (took_us >= 0))
        if not len(rows):
            return None
        found = np.full(len(self.offset), NO_BUCKET, np.int64)
        at = np.searchsorted(_BOUNDS, took_us[rows])
        found[rows] = np.minimum(at, len(_BOUNDS) - 1)
        return found

    def _dimension(self, name: str) -> Dimension:
        column = self.events.column(name)
        if column.null_count == len(column):
            return Dimension(np.zeros(len(column), np.int64), [None])
        values, codes = coded(column)
        names: list[str | None] = values.to_pylist()
        if name != "session_id":
            names = [one and one[:_MAX_NAME_CHARS] for one in names]
        return Dimension(codes, [*names, None] if column.null_count else names)

    def _tokens(self, name: str) -> Longs | None:
        column = self.events.column(name)
        if column.null_count == len(column):
            return None
        tokens = column.fill_null(0).to_numpy(zero_copy_only=False)
        plausible = (tokens >= 0) & (tokens <= _MAX_TOKENS)
        return tokens if plausible.all() else np.where(plausible, tokens, 0)

    def _costs(
        self, tokens: Mapping[str, Longs], prices: Mapping[str, Price]
    ) -> dict[str, Longs]:
        """Cost as the source tells it, else by its tokens; and what has no price."""
        column = self.events.column("cost_usd")
        if column.null_count == len(column) and not tokens:
            return {}
        nanos = np.rint(column.to_numpy(zero_copy_only=False).astype(float) * 1e9)
        told = (nanos >= 0) & (nanos <= _MAX_NANO_USD)
        nanos = np.where(told, nanos, 0).astype(np.int64)
        missing = ~told
        missing &= sum(tokens.values(), np.zeros(len(nanos), np.int64)) > 0
        if prices and missing.any():
            codes, names = self.dimension("model")
            for code, name in enumerate(names):
                if price := prices.get(name or ""):
                    rows = missing & (codes == code)
                    nanos[rows], missing[rows] = _priced(
                        {k: t[rows] for k, t in tokens.items()}, price
                    )
        found = {"cost_nano_usd": nanos}
        return found | ({"unpriced": missing.astype(np.int64)} if missing.any() else {})


def pairs_of(kinds: Dimension, outcomes: Dimension) -> Pairs:
    """Return the types and outcomes that there are together, and which a row has."""
    width = len(outcomes.names)
    found, of = numbered(kinds.codes * width + outcomes.codes)
    pairs = [
        (kinds.names[pair // width] or "", outcomes.names[pair % width] or "")
        for pair in found.tolist()
    ]
    return Pairs(pairs, of)


def states_of(pairs: Pairs) -> Dimension:
    """Return how rows leave their sessions."""
    names: dict[str | None, int] = {}
    codes = [names.setdefault(state_told(*pair), len(names)) for pair in pairs.together]
    return Dimension(np.array(codes)[pairs.of], list(names))


def sums_of_kind(kind: str, outcome: str) -> tuple[bool, ...]:
    """Tell whether an event adds to calls, failures, blocks, loops and turns."""
    return (
        kind in CALL_ENDS,
        kind in ERROR_TYPES or (kind in CAN_FAIL and outcome in FAILED),
        kind in BLOCKING_TYPES and outcome in STOPPED,
        kind.startswith("loop."),
        kind == "turn.start",
    )


def _priced(
    tokens: Mapping[str, Longs], price: Price
) -> tuple[Longs, npt.NDArray[np.bool_]]:
    """Cost in nano dollars, each rounded by itself; and which are too much for one."""
    none = np.zeros_like(next(iter(tokens.values())))
    read = tokens.get("cache_read_tokens", none)
    written = tokens.get("cache_write_tokens", none)
    fresh = tokens.get("input_tokens", none)
    if price.cached_in_input:
        fresh = np.maximum(fresh - read - written, 0)
    parts = (
        (fresh, price.input),
        (tokens.get("output_tokens", none), price.output),
        (read, price.cache_read),
        (written, price.cache_write),
    )
    # Longs are too short for what is claimed at worst, and exact for what is plausible.
    about = sum([count * (amount / 1000) for count, amount in parts], none)
    too_much = about > _MAX_NANO_USD
    whole = [np.where(too_much, 0, count) * amount for count, amount in parts]
    return (sum(whole, none) + 500) // 1000, too_much
