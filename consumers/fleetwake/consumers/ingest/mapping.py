"""Lines of one stream to events: parse, detect the format, map, move in time."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from fleetwake.consumers.ingest.lines import MAX_LINE_BYTES
from fleetwake.producer.adapters.formats import FORMATS, detect, parse_record
from fleetwake.producer.adapters.mapping import (
    REPAIRED,
    Mapped,
    UnmappableError,
    event_id,
)
from fleetwake.producer.adapters.times import micros_of_epoch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.consumers.ingest.lines import Line
    from fleetwake.producer.adapters.formats import Record
    from fleetwake.producer.adapters.mapping import Adapter

__all__ = ["AUTO", "SHIFTED", "LineMapper", "moved"]

AUTO: Final = "auto"
SHIFTED: Final = "fleetwake.shifted_us"
"""The attribute that says by how much `occurred_at` was moved."""

_NOT_FINITE: Final = "not_finite"


class LineMapper:
    """
    Maps the lines of one stream, in its order. Each format has an adapter of its own.

    The stream's name, of which ids are made where a source has none, is made of the
    session that stands in and of the first line: so the same file gives the same ids
    wherever it lies, and another one others.

    With `is_live`, a native line that has neither an id nor a time is a new event each
    time it comes: its id is left to the producer.
    """

    def __init__(
        self,
        *,
        format_: str,
        session_id: str,
        agent_id: str | None = None,
        is_live: bool = False,
    ) -> None:
        self._is_live = is_live
        self._format = None if format_ == AUTO else format_
        self._session_id = session_id
        self._agent_id = agent_id
        self._stream = ""
        self._adapters: dict[str, Adapter] = {}

    def map(self, line: Line) -> Sequence[Mapped]:
        """
        Return the events of a line that is not blank.

        Raises:
            UnmappableError: it makes no event. It counts for the stream's name.
        """
        if not self._stream:
            first = sha256(line.text).hexdigest()[:16]
            self._stream = f"{self._session_id}:{first}"
        if not line.is_whole:
            raise UnmappableError(
                "too_long", f"it has more than {MAX_LINE_BYTES:,} bytes"
            )
        record = parse_record(line.text)
        adapter = self._adapter(self._format or detect(record.fields))
        try:
            mapped = adapter.map(record.fields, ordinal=line.number)
        except RecursionError:
            raise UnmappableError("too_deep", "it is nested too deeply") from None
        if not record.is_finite:
            mapped = [_repaired(one) for one in mapped]
        if self._is_live and not mapped[0].event.occurred_at:
            mapped = [_unnamed(one, record) for one in mapped]
        return mapped

    def _adapter(self, name: str) -> Adapter:
        if name not in self._adapters:
            self._adapters[name] = FORMATS[name].open(
                stream=self._stream,
                session_id=self._session_id,
                agent_id=self._agent_id,
            )
        return self._adapters[name]


def moved(mapped: Mapped, delta_us: int) -> Mapped:
    """
    Return the event at another time: it is another event, with another id.

    One without a time is left to the producer, which stamps it.

    Raises:
        UnmappableError: timestamp_out_of_range.
    """
    event = mapped.event
    if not event.occurred_at:
        return mapped
    return mapped._replace(
        event=event._replace(
            event_id=event_id("shifted", event.event_id, delta_us),
            occurred_at=micros_of_epoch(event.occurred_at + delta_us),
            attributes={**event.attributes, SHIFTED: str(delta_us)},
        )
    )


def _unnamed(mapped: Mapped, record: Record) -> Mapped:
    given = record.fields.get("event_id") or ""
    return mapped._replace(event=mapped.event._replace(event_id=given))


def _repaired(mapped: Mapped) -> Mapped:
    attributes = dict(mapped.event.attributes)
    notes = [*filter(None, attributes.get(REPAIRED, "").split(","))]
    if _NOT_FINITE not in notes:
        notes.append(_NOT_FINITE)
    attributes[REPAIRED] = ",".join(notes)
    return mapped._replace(event=mapped.event._replace(attributes=attributes))
