"""Archived events, in the order that Kafka took them."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from fleetwake.consumers.archive.settings import ArchiveSettings
from fleetwake.consumers.loops.backtest.events import CONTENT
from fleetwake.consumers.query import open_archive
from fleetwake.schemas.codec import EVENT_COLUMNS
from fleetwake.schemas.event import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["archived_events"]

_SELECT: Final = re.compile(r"\s*(select|with|from)\b", re.IGNORECASE)
_ROWS: Final = 5_000
"""Made into events at a time: as Python objects they take ten times the room."""

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


def archived_events(query: str) -> Iterator[tuple[AuditEvent, int]]:
    """
    Yield events without their content, each with the broker's append time in ms.

    `query` is a condition on the archive's `events`, all of them where it is blank; or
    a SELECT that has their columns, as `SELECT * FROM events ...` has.

    Raises:
        EmptyArchiveError: nothing is archived.
        QueryError: DuckDB refuses the query.
    """
    with open_archive(ArchiveSettings().folder) as archive:
        table = archive.sql(_sql(query))
    known: list[dict[object, object]] = [{} for _ in EVENT_COLUMNS]
    for batch in table.to_batches(max_chunksize=_ROWS):
        *columns, times = (column.to_pylist() for column in batch.columns)
        # Most texts are few and come again: one object of each is enough.
        shared = [
            [same.setdefault(value, value) for value in values]
            if column.kind == "string" and column.name != "event_id"
            else values
            for column, values, same in zip(EVENT_COLUMNS, columns, known, strict=True)
        ]
        for at_ms, *values in zip(times, *shared, strict=True):
            event = AuditEvent._make(values)
            attributes = dict(event.attributes) if event.attributes else _NONE
            yield event._replace(attributes=attributes), at_ms


def _sql(query: str) -> str:
    columns = ", ".join(_column(column.name, column.kind) for column in EVENT_COLUMNS)
    found = query if _SELECT.match(query) else f"FROM events WHERE {query or 'true'}"
    # Line ends, so that a comment at the query's end stays in it.
    return f"""
        SELECT {columns}, epoch_ms(kafka_timestamp)
        FROM (\n{found}\n)
        WHERE invalid_reason IS NULL
        ORDER BY kafka_timestamp, kafka_partition, kafka_offset
    """  # noqa: S608  # whoever asks may ask anything: see open_archive


def _column(name: str, kind: str) -> str:
    if name in CONTENT:
        return f"NULL AS {name}"
    return f"epoch_us({name}) AS {name}" if kind == "time" else name
