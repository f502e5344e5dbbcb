"""What stands behind a record on its way: who keeps it, and what tells its loss."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from fleetwake.producer.gaps import Loss
from fleetwake.producer.lane import Waiting, size_of
from fleetwake.schemas.codec import (
    PackagedSchemas,
    decode,
    schema_of,
    single_object_header,
)
from fleetwake.schemas.errors import FleetwakeError
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.topics import EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fleetwake.producer.spool import Spooled

__all__ = ["Consignment", "Source", "finished", "loss_of", "waiting"]

# How Avro writes the text "gap": length 3, zigzag.
_GAP: Final = b"\x06gap"

_CONFLUENT_HEADER: Final = 5

# As `_make` does, which is a call of Python more.
_waiting_of = partial(tuple.__new__, Waiting)


class Source(Protocol):
    """Keeps records until they are settled."""

    def acknowledge(self, arrived: Sequence[Waiting], /) -> None:
        """Settle records as delivered."""
        ...

    def drop(self, lost: Waiting, reason: str, /) -> None:
        """Settle a record as lost."""
        ...


class Consignment:
    """Records that are handed over together, until the last of them is settled."""

    __slots__ = ("left", "number", "ordinal", "size", "source")

    def __init__(self, source: Source, number: int, count: int, size: int) -> None:
        self.source = source
        self.number = number
        """That of their batch in the spool; 0: only memory has them."""
        self.left = count
        self.size = size
        self.ordinal = 0


def waiting(consignment: Consignment, records: Iterable[Spooled]) -> list[Waiting]:
    """Return the records of a consignment, ready for their way."""
    return [_waiting_of((one, consignment, size_of(one))) for one in records]


def finished(settled: Iterable[Waiting]) -> list[Consignment]:
    """Return the consignments of which these were the last records."""
    done: list[Consignment] = []
    for _, consignment, _ in settled:
        consignment.left -= 1
        if not consignment.left:
            done.append(consignment)
    return done


def loss_of(record: Spooled) -> Loss | None:
    """Return what tells the loss of a record; None for a dead letter."""
    if record.topic != EVENTS.name:
        return None
    told = _told(record.value) if _GAP in record.value else None
    return Loss(record.session_id, record.producer_id, record.sequence, told)


def _told(value: bytes) -> Mapping[str, str] | None:
    if not value[0]:  # Confluent framing: the id is a registry's, the schema is ours
        header = single_object_header(schema_of(AuditEvent))
        value = header + value[_CONFLUENT_HEADER:]
    try:
        event = decode(value, PackagedSchemas())
    except FleetwakeError:
        return None
    return event.attributes if event.event_type == "gap" else None
