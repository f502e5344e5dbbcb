"""What stands behind records on their way: who keeps them, what tells their loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from fleetwake.producer.gaps import Loss
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

    from fleetwake.producer.parcel import Parcel

__all__ = ["Consignment", "Source", "finished", "losses"]

# How Avro writes the text "gap": length 3, zigzag.
_GAP: Final = b"\x06gap"

_CONFLUENT_HEADER: Final = 5


class Source(Protocol):
    """Keeps records until they are settled."""

    def acknowledge(self, arrived: Sequence[Parcel], /) -> None:
        """Settle records as delivered."""
        ...

    def drop(self, lost: Parcel, reason: str, /) -> None:
        """Settle records as lost."""
        ...


class Consignment:
    """Records that are handed over together, until the last of them is settled."""

    __slots__ = ("left", "number", "ordinal", "size", "source")

    def __init__(self, source: Source, number: int, parcels: Iterable[Parcel]) -> None:
        self.source = source
        self.number = number
        """That of their batch in the spool; 0: only memory has them."""
        self.left = self.size = self.ordinal = 0
        for parcel in parcels:
            parcel.consignment = self
            self.left += len(parcel)
            self.size += parcel.size


def finished(settled: Iterable[Parcel]) -> list[Consignment]:
    """Return the consignments of which these had the last records."""
    done: list[Consignment] = []
    for parcel in settled:
        consignment = parcel.consignment
        consignment.left -= len(parcel)
        if not consignment.left:
            done.append(consignment)
    return done


def losses(parcel: Parcel) -> list[Loss | None]:
    """Return what tells the loss of each record; None for a dead letter."""
    if parcel.topic != EVENTS.name:
        return [None] * len(parcel)
    stamps = zip(parcel.records, parcel.producer_ids, parcel.sequences, strict=True)
    return [
        # An event's key is its session.
        Loss(key.decode(errors="replace"), producer_id, sequence, _told(value))
        for (key, value, _), producer_id, sequence in stamps
    ]


def _told(value: bytes) -> Mapping[str, str] | None:
    """Return the attributes of a gap event; None if it is another one."""
    if _GAP not in value:
        return None
    if not value[0]:  # Confluent framing: the id is a registry's, the schema is ours
        header = single_object_header(schema_of(AuditEvent))
        value = header + value[_CONFLUENT_HEADER:]
    try:
        event = decode(value, PackagedSchemas())
    except FleetwakeError:
        return None
    return event.attributes if event.event_type == "gap" else None
