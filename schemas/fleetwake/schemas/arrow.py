"""The event as Arrow columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from fleetwake.schemas.codec import EVENT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fleetwake.schemas.event import AuditEvent

__all__ = ["ARROW_TYPES", "EVENT_SCHEMA", "Array", "RecordBatch", "compute", "to_arrow"]

Array: TypeAlias = Any
RecordBatch: TypeAlias = Any
compute: Final[Any] = pc
"""pyarrow has no type information, and makes its functions at run time."""

ARROW_TYPES: Final = {
    "string": pa.string(),
    "int": pa.int32(),
    "long": pa.int64(),
    "time": pa.timestamp("us", tz="UTC"),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "map": pa.map_(pa.string(), pa.string()),
}

EVENT_SCHEMA: Final = pa.schema(
    [pa.field(column.name, ARROW_TYPES[column.kind]) for column in EVENT_COLUMNS]
)
"""
The columns of `audit_event.avsc`, in its order. Strings are `string`, times are
`timestamp[us, UTC]`, attributes `map<string, string>`. Columns that are not nullable
there hold no null; the Arrow fields are nullable all the same, so that a row for a
record that did not decode can stand beside them.
"""


def to_arrow(events: Sequence[AuditEvent]) -> RecordBatch:
    """Return one row for each event."""
    fields = list(zip(*events, strict=True)) or [()] * len(EVENT_SCHEMA)
    arrays = [
        pa.array(_pairs(values) if kind == ARROW_TYPES["map"] else values, kind)
        for values, kind in zip(fields, EVENT_SCHEMA.types, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=EVENT_SCHEMA)


def _pairs(maps: Iterable[Mapping[str, str]]) -> list[list[tuple[str, str]]]:
    return [list(pairs.items()) for pairs in maps]
