"""Events that wait until there are many: so many are counted faster."""
# pyright: basic, reportAttributeAccessIssue=false

from __future__ import annotations

import asyncio
from array import array
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from fleetwake.consumers.facts.rows import COLUMNS, TEXTS
from fleetwake.consumers.runtime.service import Records, Ticking
from fleetwake.schemas.topics import EVENTS, SESSIONS, SIGNALS

if TYPE_CHECKING:
    from fleetwake.consumers.metrics.columns import Longs
    from fleetwake.consumers.runtime.service import EventBatch, Needed, Processor

__all__ = ["Joined"]

_MANY: Final = 50_000
"""Events that wait at most, about 8 MB of them."""

_MANY_BYTES: Final = 256 * 1024 * 1024
"""
Of their records, from which most is left out. Names may be long, and Arrow joins no
more than 2 GiB of a column.
"""

_ENOUGH: Final = 10_000
_ENOUGH_OF_A_SESSION: Final = 100
"""
Beyond so many, and so many for each session, more would make little faster: each time
costs 10 ms, and 0.1 ms for each session.
"""

_APART: Final = frozenset({SESSIONS, SIGNALS})
"""What these say does not depend on the events that were read before."""

_TEXTS: Final = TEXTS | {"provider"}
"""Columns with few values, often: each is held once."""

_NO_TEXTS: Final = pa.array([], pa.string())
_COLUMNS: Final = ("event_id", "duration_ms", "provider", *COLUMNS)


class Joined:
    """
    Shows another processor the events of many batches as those of one.

    With only the columns that metrics are made of; texts of few values come as
    dictionaries. What was replayed, and other topics, it sees as they come.
    """

    def __init__(self, part: Processor) -> None:
        self._part = part
        self._events: list[pa.RecordBatch] = []
        self._offset: list[Longs] = []
        self._timestamp_ms: list[Longs] = []
        self._sessions: set[str] = set()
        self._bytes = 0
        self._last: EventBatch | None = None
        """Without its events; None: nothing waits."""

    @property
    def resume_from(self) -> int | None:
        """As the other says."""
        return self._part.resume_from

    def process(self, batch: EventBatch, /) -> None:
        """Keep events until there are many; show all else."""
        if batch.topic == EVENTS and not batch.replayed:
            self._wait(batch)
            return
        if batch.topic not in _APART:
            self._settle()
        self._part.process(batch)

    def tick(self, now_ms: int, /) -> bool:
        """Show what waits, and tell the other of silence."""
        self._settle()
        return isinstance(self._part, Ticking) and self._part.tick(now_ms)

    async def flush(self) -> Needed:
        """
        Show what waits, and flush the other.

        Raises:
            RetriableError: as the other does.
        """
        # So many take a tenth of a second, and heartbeats wait.
        await asyncio.to_thread(self._settle)
        return await self._part.flush()

    def _wait(self, batch: EventBatch) -> None:
        self._last = replace(
            batch, records=batch.records[-1:], events=None, rows=(), invalid=[]
        )
        if batch.events is None or not batch.events.num_rows:
            return
        offset, timestamp_ms = batch.positions()
        events = _slim(batch.events)
        self._events.append(events)
        self._offset.append(offset)
        self._timestamp_ms.append(timestamp_ms)
        self._sessions.update(events.column("session_id").dictionary.to_pylist())
        self._bytes += batch.size
        waiting = sum(map(len, self._offset))
        enough = max(_ENOUGH, len(self._sessions) * _ENOUGH_OF_A_SESSION)
        if waiting >= min(_MANY, enough) or self._bytes >= _MANY_BYTES:
            self._settle()

    def _settle(self) -> None:
        """Show what waits."""
        last = self._last
        if last is None:
            return
        if self._events:
            last = self._joined(last)
        self._part.process(last)
        self._last = None
        self._events, self._offset, self._timestamp_ms = [], [], []
        self._sessions.clear()
        self._bytes = 0

    def _joined(self, last: EventBatch) -> EventBatch:
        """Return the events; the last record says how far the log was read."""
        offset = np.concatenate([*self._offset, last.records.offsets])
        stamp = np.concatenate([*self._timestamp_ms, last.records.timestamps_ms])
        count = len(offset)
        return replace(
            last,
            records=Records(
                array("q", offset.tobytes()),
                array("q", stamp.tobytes()),
                (None,) * count,
                (None,) * count,
                ((),) * count,
            ),
            events=pa.concat_batches(self._events),
            rows=range(count - 1),
        )


def _slim(events: pa.RecordBatch) -> pa.RecordBatch:
    """Return some columns, copied: what Rust has made is only freed as a whole."""
    columns = [
        _dictionary(events.column(name)) if name in _TEXTS else events.column(name)
        for name in _COLUMNS
    ]
    return pa.concat_batches([pa.RecordBatch.from_arrays(columns, _COLUMNS)])


def _dictionary(column: pa.StringArray) -> pa.DictionaryArray:
    if column.null_count < len(column):
        return column.dictionary_encode()
    none = pa.nulls(len(column), pa.int32())
    return pa.DictionaryArray.from_arrays(none, _NO_TEXTS)
