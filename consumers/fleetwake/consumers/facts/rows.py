"""The events of a batch as rows of what facts are made of."""
# pyright: basic, reportAttributeAccessIssue=false

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from fleetwake.consumers.runtime.service import EventBatch

__all__ = [
    "COLUMNS",
    "IDENTITY",
    "MAX_NAME_CHARS",
    "MAX_SESSION_ID_BYTES",
    "TEXTS",
    "Keyed",
    "Row",
    "coded",
    "encoded",
    "identities",
    "keyed",
    "numbered",
    "rows_at",
    "rows_of",
]

IDENTITY: Final = (
    "agent_id",
    "source",
    "parent_session_id",
    "root_session_id",
    "team",
    "user_id",
    "host",
    "environment",
)
"""The columns that say who and where; the same ones for many events."""

MAX_SESSION_ID_BYTES: Final = 1024
"""A longer one is no key of ours; its session has no facts, and no alerts either."""

MAX_NAME_CHARS: Final = 128
"""Names come from agents."""

_MANY: Final = 2**20


class Row(NamedTuple):
    """
    One event: its columns, and where it stands in the log.

    `timestamp_ms` is when the broker took it; `identity` has the columns of that name.
    Names are cut to 128 characters.
    """

    session_id: str
    event_type: str
    producer_id: str
    sequence: int
    occurred_at: int
    outcome: str
    tool_name: str | None
    tool_call_id: str | None
    span_id: str | None
    arguments_digest: int | None
    error_kind: str | None
    error_type: str | None
    cost_usd: float | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    model: str | None
    agent_to: str | None
    identity: tuple[str | None, ...]
    offset: int
    timestamp_ms: int


_COLUMNS: Final = Row._fields[:-3]
COLUMNS: Final = (*_COLUMNS, *IDENTITY)
"""Those that facts are made of."""

TEXTS: Final = frozenset(IDENTITY) | {
    "session_id",
    "event_type",
    "producer_id",
    "outcome",
    "tool_name",
    "error_kind",
    "error_type",
    "model",
    "agent_to",
}
"""Columns of texts, each of which many events share. Such may be dictionaries."""

_IDS: Final = frozenset({"session_id", "parent_session_id", "root_session_id"})


class Keyed(NamedTuple):
    """Events of sessions that can be keys, their offsets, and when they came."""

    events: pa.RecordBatch
    offset: npt.NDArray[np.int64]
    timestamp_ms: npt.NDArray[np.int64]

    def take(self, at: npt.NDArray[np.int64]) -> Keyed:
        """Return some of them, in that order."""
        return Keyed(self.events.take(at), self.offset[at], self.timestamp_ms[at])


def keyed(batch: EventBatch) -> Keyed | None:
    """
    Return the events of a batch; None if there are none.

    Left out are those whose session_id is empty, or longer than
    `MAX_SESSION_ID_BYTES`; and columns of which facts are not made.
    """
    # Whoever only reads facts needs none of this.
    import pyarrow.compute as pc

    if batch.events is None or not batch.events.num_rows:
        return None
    found = Keyed(batch.events.select(COLUMNS), *batch.positions())
    names, of = coded(found.events.column("session_id"))
    lengths = pc.binary_length(names).to_numpy()
    is_key = (lengths > 0) & (lengths <= MAX_SESSION_ID_BYTES)
    if is_key.all():
        return found
    keys = is_key[of].nonzero()[0]
    return found.take(keys) if len(keys) else None


def rows_of(batch: EventBatch) -> Iterator[Row]:
    """
    Yield the rows of the events of a batch that are `keyed`, in offset order.

    Costs about 1.5 us per event.
    """
    events = keyed(batch)
    return iter(()) if events is None else rows_at(events)


def rows_at(keyed: Keyed) -> Iterator[Row]:
    """Yield the rows of events in their order."""
    events = keyed.events
    known, codes = identities(events)
    # Row._make does the same, and twice as slowly.
    return map(
        partial(tuple.__new__, Row),
        zip(
            *(_values(name, events.column(name)) for name in _COLUMNS),
            [known[code] for code in codes.tolist()],
            keyed.offset.tolist(),
            keyed.timestamp_ms.tolist(),
            strict=True,
        ),
    )


def identities(
    events: pa.RecordBatch,
) -> tuple[list[tuple[str | None, ...]], npt.NDArray[np.int64]]:
    """Return one tuple for each set of values that there is, and which a row has."""
    import numpy as np

    codes = np.zeros(events.num_rows, np.int64)
    known: list[tuple[str | None, ...]] = [()]
    for name in IDENTITY:
        column = events.column(name)
        if column.null_count == len(column):
            known = [(*one, None) for one in known]
            continue
        names, indices = encoded(name, column)
        # Numbered anew each time, so that no product grows beyond 64 bits.
        found, codes = numbered(codes * len(names) + indices)
        known = [
            (*known[code // len(names)], names[code % len(names)])
            for code in found.tolist()
        ]
    return known, codes


def numbered(
    codes: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return which codes there are, none below 0, and which of these a row has."""
    import numpy as np

    most = int(codes.max())
    if most >= _MANY:
        return np.unique(codes, return_inverse=True)
    # Without sorting, which takes ten times as long.
    is_there = np.zeros(most + 1, np.bool_)
    is_there[codes] = True
    found = np.flatnonzero(is_there)
    number = np.empty(most + 1, np.int64)
    number[found] = np.arange(len(found))
    return found, number[codes]


def encoded(
    name: str, column: pa.Array
) -> tuple[list[str | None], npt.NDArray[np.int64]]:
    """
    Return the values of a text column, the last one None, and which each row has.

    Values that are alike only once they are cut are there several times.
    """
    found, codes = coded(column)
    texts: list[str] = found.to_pylist()
    values: list[str | None]
    if name in _IDS:
        # Half an id would be that of another session.
        values = [one if len(one) <= MAX_SESSION_ID_BYTES else None for one in texts]
    else:
        values = [one[:MAX_NAME_CHARS] for one in texts]
    return [*values, None], codes


def coded(column: pa.Array) -> tuple[pa.StringArray, npt.NDArray[np.int64]]:
    """Return the values of a text column, and which a row has; after the last: null."""
    import numpy as np
    import pyarrow as pa

    if not isinstance(column, pa.DictionaryArray):
        column = column.dictionary_encode()
    codes, values = column.indices, column.dictionary
    if codes.null_count:
        codes = codes.fill_null(len(values))
    return values, codes.to_numpy().astype(np.int64)


def _values(name: str, column: pa.Array) -> list[Any]:
    import pyarrow as pa

    if column.null_count == len(column):
        return [None] * len(column)
    if not pa.types.is_primitive(column.type):
        # Few values, often: each is made once, and the rows share it.
        values, indices = encoded(name, column)
        return [values[at] for at in indices.tolist()]
    if pa.types.is_timestamp(column.type):
        # A datetime costs as much as all the other columns together.
        column = column.cast(pa.int64())
    found: list[Any] = column.to_pylist()
    return found
