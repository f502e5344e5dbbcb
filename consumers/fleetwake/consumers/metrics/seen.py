"""Which events are copies of one that was counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

__all__ = ["Seen", "fingerprints"]

Ids: TypeAlias = "npt.NDArray[np.uint64]"

_UUID_CHARS: Final = 36
_WORDS: Final = 5
"""Of eight bytes, to hold them."""

_RANDOM: Final = np.random.default_rng()
_FACTORS: Final = _RANDOM.integers(2**63, size=_WORDS, dtype=np.uint64) * 2 + 1
"""Drawn anew by each process, so that nobody can make two ids that look alike."""


class Seen:
    """
    The ids of the present block of offsets and of the one before it.

    An event is a copy if its id is among the events of these before it: a function of
    the log alone, once they were read.
    """

    def __init__(self) -> None:
        self._block = -1
        self._now = self._before = np.empty(0, np.uint64)

    def take(self, block: int, ids: Ids) -> npt.NDArray[np.bool_] | None:
        """Note the ids of events of `block`; tell which are new. None: all are."""
        if block != self._block:
            follows = block == self._block + 1
            self._before = self._now if follows else self._now[:0]
            self._block, self._now = block, self._now[:0]
        in_order = np.sort(ids)
        now, before = (_merged(one, in_order) for one in (self._now, self._before))
        if not _has_copies(now) and not _has_copies(before):
            self._now = now
            return None
        found, first = np.unique(ids, return_index=True)
        is_here = _among(found, self._now)
        new = ~(is_here | _among(found, self._before))
        # Copies too: a replay that begins with this block takes them for the first.
        self._now = np.concatenate([self._now, found[~is_here]])
        self._now.sort(kind="stable")
        is_new = np.zeros(len(ids), np.bool_)
        is_new[first[new]] = True
        return is_new


def _merged(some: Ids, others: Ids) -> Ids:
    """Bring sorted ids together; a stable sort only merges them."""
    merged = np.concatenate([some, others])
    merged.sort(kind="stable")
    return merged


def _has_copies(sorted_ids: Ids) -> bool:
    return bool((sorted_ids[1:] == sorted_ids[:-1]).any())


def _among(ids: Ids, sorted_ids: Ids) -> npt.NDArray[np.bool_]:
    if not len(sorted_ids):
        return np.zeros(len(ids), np.bool_)
    at = np.searchsorted(sorted_ids, ids)
    at[at == len(sorted_ids)] = 0
    found: npt.NDArray[np.bool_] = sorted_ids[at] == ids
    return found


def fingerprints(ids: pa.Array) -> Ids:
    """
    Return 64 bits of each id, for this process.

    Empty ids are all different. Ids of 36 characters, as UUIDs have, are fast.
    """
    if not len(ids):
        return np.empty(0, np.uint64)
    offsets = np.frombuffer(ids.buffers()[1], np.int32)[ids.offset :][: len(ids) + 1]
    is_uuid = np.diff(offsets) == _UUID_CHARS
    if is_uuid.all():
        text = np.frombuffer(ids.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
        return _mixed(text.reshape(len(ids), _UUID_CHARS))
    found = np.empty(len(ids), np.uint64)
    if is_uuid.any():
        text = np.frombuffer(ids.buffers()[2], np.uint8)
        starts = offsets[:-1][is_uuid]
        found[is_uuid] = _mixed(text[starts[:, None] + np.arange(_UUID_CHARS)])
    for row in np.flatnonzero(~is_uuid).tolist():
        text = ids[row].as_py()
        found[row] = hash(text) % 2**64 if text else _RANDOM.integers(2**64, dtype="u8")
    return found


def _mixed(uuids: npt.NDArray[np.uint8]) -> Ids:
    padded = np.zeros((len(uuids), _WORDS * 8), np.uint8)
    padded[:, :_UUID_CHARS] = uuids
    words = padded.view(np.uint64)
    mixed = np.zeros(len(uuids), np.uint64)
    for nth in range(_WORDS):
        mixed = (mixed ^ words[:, nth]) * _FACTORS[nth]
        mixed ^= mixed >> np.uint64(32)
    return mixed
