"""Which work of a batch begins and ends within it, so that nothing of it is left."""
# pyright: basic, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fleetwake.consumers.facts.ordered import NONE
from fleetwake.consumers.facts.rows import MAX_NAME_CHARS
from fleetwake.consumers.facts.work import GROUPS

if TYPE_CHECKING:
    from fleetwake.consumers.facts.ordered import Longs, Mask, Ordered

__all__ = ["Pairs"]

_ROLES: Final = {"": 0, "begins": 1, "ends": 2, "asks": 3, "clears": 4}
_BEGINS, _ENDS, _CLEARS = _ROLES["begins"], _ROLES["ends"], _ROLES["clears"]
_GROUPS: Final = GROUPS | {"": 0, "confirmation": GROUPS["tool"]}
_WIDTH: Final = 8
"""More than the sum of all groups."""


class Pairs:
    """
    Beginnings and ends of work, by the rows of `Ordered`.

    `begun[row]` is the beginning of what ends in a row; `is_lone` says which ends have
    none: nothing of the kind begins in the session's events. `left` are the rows that
    must be looked at one by one, `ids` those of the pairs.
    """

    def __init__(self, events: Ordered) -> None:
        self._events = events
        self._role = events.means(lambda one: _ROLES[one.role])
        self._group = events.means(lambda one: _GROUPS[one.work])
        self.begun = np.full(len(self._role), NONE)
        self.is_lone = np.zeros(len(self._role), np.bool_)
        self.ids = pa.array([], pa.string())
        self._begins = np.empty(0, np.int64)
        rows = np.flatnonzero((self._role != 0) & (self._role != _CLEARS))
        if len(rows):
            self._find(rows)
        self.left = self._left()

    def lone(self) -> list[int]:
        """Return a sum of groups per session: those of lone ends."""
        return self._groups(self.is_lone)

    def paired(self) -> list[int]:
        """Return a sum of groups per session: those of pairs."""
        return self._groups(self.begun != NONE)

    def parts(self) -> list[slice]:
        """Return which of `ids` are of each session."""
        return self._events.parts(self._begins)

    def deepest(self) -> list[int]:
        """Return how much work of each session, at most, was begun at a time."""
        events = self._events
        step = np.where(self._role == _BEGINS, 1, 0)
        step[self._role == _ROLES["asks"]] = 1
        step[self.begun != NONE] = -1
        depth = np.cumsum(step)
        before = depth[events.starts] - step[events.starts]
        deepest: list[int] = (
            np.maximum.reduceat(depth, events.starts) - before
        ).tolist()
        return deepest

    def _find(self, rows: Longs) -> None:
        """Match beginnings and ends by their ids."""
        events, role, group = self._events, self._role[rows], self._group[rows]
        place = events.number[rows] * _WIDTH + group
        texts, ids = self._ids_of(rows, group)
        places = len(events.starts) * _WIDTH
        has_begun, is_nameless = np.zeros((2, places), np.bool_)
        has_begun[place[role != _ENDS]] = True
        is_nameless[place[ids == NONE]] = True
        self.is_lone[rows[~has_begun[place]]] = True
        some = np.flatnonzero(has_begun[place] & ~is_nameless[place])
        # What was open before a turn began or ended is not any more.
        epoch = np.cumsum(self._role == _CLEARS)[rows[some]]
        key = (place[some] * (epoch[-1:].sum() + 1) + epoch) * len(texts) + ids[some]
        order = np.argsort(key, kind="stable")
        key, order = key[order], some[order]
        starts = np.flatnonzero(np.append(True, key[1:] != key[:-1])[: len(key)])
        of_two = starts[np.diff(np.append(starts, len(key))) == 2]  # noqa: PLR2004  # a pair
        begin, end = order[of_two], order[of_two + 1]
        is_pair = (role[begin] == _BEGINS) & (role[end] == _ENDS)
        begin, end = np.sort(begin[is_pair]), end[is_pair]
        self.begun[rows[end]] = rows[order[of_two][is_pair]]
        self._begins = rows[begin]
        self.ids = pa.DictionaryArray.from_arrays(ids[begin], texts)

    def _ids_of(self, rows: Longs, group: Longs) -> tuple[pa.StringArray, Longs]:
        """Return ids, and which work has: `NONE` where it has none."""
        events, at = self._events.keyed.events, self._events.at[rows]
        calls, of_call = _ids(events.column("tool_call_id"))
        spans, of_span = _ids(events.column("span_id"))
        of_span = np.where(of_span == NONE, NONE, of_span + len(calls))
        ids = np.where(group == GROUPS["tool"], of_call[at], of_span[at])
        return pa.concat_arrays([calls, spans]), ids

    def _left(self) -> Longs:
        last_clear = self._events.last(self._role == _CLEARS)[self._events.number]
        is_left = (self._role != 0) & ~self.is_lone & (self.begun == NONE)
        is_left[self._begins] = False
        return np.flatnonzero(is_left & (self._events.rows >= last_clear))

    def _groups(self, mask: Mask) -> list[int]:
        if not mask.any():
            return [0] * len(self._events.starts)
        groups: list[int] = np.bitwise_or.reduceat(
            np.where(mask, self._group, 0), self._events.starts
        ).tolist()
        return groups


def _ids(column: pa.StringArray) -> tuple[pa.StringArray, Longs]:
    """Return the ids of a column, cut, and which a row has: `NONE` where it is none."""
    encoded = column.dictionary_encode()
    ids, of = encoded.dictionary, encoded.indices.fill_null(NONE).to_numpy()
    if (pc.max(pc.binary_length(ids)).as_py() or 0) > MAX_NAME_CHARS:
        # Some may be alike only now that they are cut.
        encoded = pc.utf8_slice_codeunits(ids, 0, MAX_NAME_CHARS).dictionary_encode()
        ids, of_cut = encoded.dictionary, encoded.indices.to_numpy()
        of = np.where(of == NONE, NONE, of_cut[of])
    none = pc.index(ids, "").as_py()
    return ids, (of if none < 0 else np.where(of == none, NONE, of)).astype(np.int64)
