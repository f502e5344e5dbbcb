"""The latest events of the fleet, as the columns that a timeline shows."""
# pyright: reportAttributeAccessIssue=false, reportUnknownParameterType=false

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from fleetwake.schemas.columnar import EVENT_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetwake.consumers.runtime.service import EventBatch

__all__ = ["MAX_TEXT_CHARS", "TIMELINE_COLUMNS", "Recent", "timeline_sql"]

TIMELINE_COLUMNS: Final = (
    "session_id",
    "event_id",
    "event_type",
    "source_event_type",
    "occurred_at",
    "agent_id",
    "turn_id",
    "tool_call_id",
    "tool_name",
    "severity",
    "outcome",
    "reason",
    "error_kind",
    "error_type",
    "error_message",
    "arguments_digest",
    "outcome_digest",
    "arguments_preview",
    "result_preview",
    "duration_ms",
    "cost_usd",
    "model",
    "input_tokens",
    "output_tokens",
    "producer_id",
    "sequence",
)
"""Of `audit_event.avsc`; the archive has the same."""

MAX_TEXT_CHARS: Final = 500
"""Of a text in a timeline; the record itself has the whole."""

_IDS: Final = frozenset({"session_id", "event_id", "tool_call_id", "producer_id"})
_ROW_BYTES: Final = 1_024


def timeline_sql() -> list[str]:
    """The same columns of the archive, as expressions of SQL."""
    texts = {field.name for field in EVENT_SCHEMA if field.type == pa.string()} - _IDS
    told = {name: f"left({name}, {MAX_TEXT_CHARS})" for name in texts}
    told["occurred_at"] = "epoch_us(occurred_at)"
    return [f"{told.get(name, name)} AS {name}" for name in TIMELINE_COLUMNS]


class _Part(NamedTuple):
    serial: int
    rows: pa.RecordBatch
    size: int


class Recent:
    """
    A ring of at most `max_rows` events, of all partitions, oldest out first.

    Thread safe. Batches stay in columns, so that an event costs no Python object until
    somebody looks at its session. Texts are cut to 500 characters; where events are
    large all the same, there are fewer: as many as have 1 KiB each.
    """

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._parts: deque[_Part] = deque()
        self._rows = 0
        self._size = 0
        self._serial = 0
        self._lock = threading.Lock()

    @property
    def serial(self) -> int:
        """Of the latest batch: what comes later has a higher one."""
        return self._serial

    def add(self, batch: EventBatch) -> None:
        """Take the events of a batch."""
        if batch.events is None or not batch.events.num_rows:
            return
        rows = _columns(batch)
        with self._lock:
            self._serial += 1
            part = _Part(self._serial, rows, rows.get_total_buffer_size())
            self._parts.append(part)
            self._rows += rows.num_rows
            self._size += part.size
            while self._is_full() and len(self._parts) > 1:
                oldest = self._parts.popleft()
                self._rows -= oldest.rows.num_rows
                self._size -= oldest.size

    def of(
        self, session_id: str, *, after: int = 0, limit: int = 2_000
    ) -> list[dict[str, Any]]:
        """The latest events of a session in batches after the serial `after`."""
        with self._lock:
            parts = [part for part in self._parts if part.serial > after]
        found: list[dict[str, Any]] = []
        for rows in _of_session(reversed(parts), session_id):
            found[:0] = rows.to_pylist()
            if len(found) >= limit:
                break
        return found[-limit:]

    def _is_full(self) -> bool:
        return self._rows > self._max_rows or self._size > self._max_rows * _ROW_BYTES


def _columns(batch: EventBatch) -> pa.RecordBatch:
    events = batch.events
    assert events is not None  # noqa: S101  # the caller has looked
    offset, appended_ms = batch.positions()
    columns = [_cut(events.column(name), name) for name in TIMELINE_COLUMNS]
    micros = TIMELINE_COLUMNS.index("occurred_at")
    columns[micros] = columns[micros].cast(pa.int64())
    return pa.RecordBatch.from_arrays(
        [
            *columns,
            pa.repeat(pa.scalar(batch.partition, pa.int32()), len(offset)),
            pa.array(offset),
            pa.array(appended_ms),
        ],
        names=[*TIMELINE_COLUMNS, "partition", "offset", "appended_ms"],
    )


def _cut(column: pa.Array, name: str) -> pa.Array:
    if name in _IDS or not pa.types.is_string(column.type):
        return column
    longest = pc.max(pc.binary_length(column)).as_py() or 0
    if longest <= MAX_TEXT_CHARS:
        return column
    return pc.utf8_slice_codeunits(column, 0, MAX_TEXT_CHARS)


def _of_session(parts: Iterator[_Part], session_id: str) -> Iterator[pa.RecordBatch]:
    for part in parts:
        mine = pc.equal(part.rows.column("session_id"), session_id)
        if pc.any(mine).as_py():
            yield part.rows.filter(mine)
