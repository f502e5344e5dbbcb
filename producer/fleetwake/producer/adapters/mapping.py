"""What every adapter does: one record of a source becomes events, and comes back."""

from __future__ import annotations

from hashlib import sha1
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol
from uuid import UUID

from fleetwake.schemas.errors import FleetwakeError
from fleetwake.schemas.text import well_formed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetwake.producer.content import Content
    from fleetwake.schemas.event import AuditEvent

__all__ = [
    "REPAIRED",
    "Adapter",
    "Mapped",
    "UnmappableError",
    "event_id",
]

REPAIRED: Final = "fleetwake.repaired"
"""The attribute that names what had to be repaired: words, comma separated."""

_NAMESPACE: Final = UUID("5f2b1c64-9a3e-5d0b-8f57-6b1d0c6f7e21").bytes

# RFC 9562: the two high bits of this digit are 10.
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


class UnmappableError(FleetwakeError):
    """Raised when a record cannot become an event. It becomes a dead letter."""

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason
        """A word for counting, e.g. `timestamp_without_zone`."""


class Mapped(NamedTuple):
    """
    An event and what it is about.

    The event has its event_id, types, session, times, actors, ids, severity, outcome,
    error_type and tokens; digests, previews, lengths, error_message and payload are
    made of the content later.
    """

    event: AuditEvent
    content: Content


class Adapter(Protocol):
    """
    Maps one stream (a file, a collector, a subscriber) of one source, in its order.

    Keeps what it must know of earlier records (open scopes, started calls), bounded.
    Not thread-safe. Deterministic: the same records give the same events.
    """

    def map(self, record: Mapping[str, object], /, *, ordinal: int) -> Sequence[Mapped]:
        """
        Return the record's events: one, but for records that sum up several facts.

        Args:
            record: parsed JSON. Not changed.
            ordinal: which record of the stream it is; for its identity.

        Raises:
            UnmappableError: nothing can be made of it.
        """
        ...


def event_id(source: str, *identity: object) -> str:
    """Return the same id for the same parts: a re-publish is the same event."""
    name = well_formed("\x1f".join(map(str, (source, *identity))))
    # What uuid5 does, in a third of its 3.5 us.
    digest = sha1(_NAMESPACE + name.encode(), usedforsecurity=False).hexdigest()
    variant = _VARIANT[digest[16]]
    return (
        f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-"
        f"{variant}{digest[17:20]}-{digest[20:32]}"
    )
