"""Makes of an accepted event the record that goes to the log."""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from uuid_utils import uuid7

from fleetwake.producer.border import Border
from fleetwake.producer.transport import OutgoingRecord
from fleetwake.schemas.codec import (
    SHA256_HEADER,
    EventEncoder,
    schema_of,
    single_object_header,
)
from fleetwake.schemas.errors import FleetwakeError
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.text import well_formed
from fleetwake.schemas.topics import MAX_RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetwake.producer.dead_letter import DeadLetter
    from fleetwake.producer.intake import Entry
    from fleetwake.producer.settings import ContentSettings

__all__ = ["Encoder", "TooLargeError"]

_AT: Final = {name: index for index, name in enumerate(AuditEvent._fields)}
_EVENT_ID: Final = _AT["event_id"]
_SOURCE: Final = _AT["source"]
_SOURCE_EVENT_TYPE: Final = _AT["source_event_type"]
_OCCURRED_AT: Final = _AT["occurred_at"]
_RECORDED_AT: Final = _AT["recorded_at"]
_HOST: Final = _AT["host"]
_ENVIRONMENT: Final = _AT["environment"]
_PRODUCER_ID: Final = _AT["producer_id"]
_SEQUENCE: Final = _AT["sequence"]
_ATTRIBUTES: Final = _AT["attributes"]
_MAX_HEADER_CHARS: Final = 1_000

# As `_make` does, which is a call of Python more.
_event_of = partial(tuple.__new__, AuditEvent)


class TooLargeError(FleetwakeError):
    """Raised when an event is too large even though its content was cut."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the event has {size} bytes, the limit is {MAX_RECORD_BYTES}")


class Encoder:
    """
    Stamps an event, makes it fit to leave (`Border`), and encodes it.

    Records have the single-object encoding until `use_header` says otherwise.
    """

    def __init__(
        self,
        *,
        source: str,
        host: str | None,
        environment: str | None,
        content: ContentSettings | None = None,
        redactors: Sequence[Callable[[AuditEvent], AuditEvent]] = (),
    ) -> None:
        self._source = source
        self._host = host
        self._environment = environment
        self._border = Border(content, redactors=redactors)
        self._encode = EventEncoder(single_object_header(schema_of(AuditEvent)))

    def use_header(self, header: bytes) -> None:
        """Begin each record with this frame header from now on."""
        self._encode = EventEncoder(header)

    def __call__(self, entry: Entry) -> OutgoingRecord:
        """
        Return the record of an event.

        Raises:
            InvalidEventError: the schema does not allow it.
            TooLargeError: it has more than `MAX_RECORD_BYTES`, content cut.
        """
        event = self._border(self._stamp(entry), entry.content)
        value = self._encode(event)
        if len(value) > MAX_RECORD_BYTES:
            raise TooLargeError(len(value))
        return OutgoingRecord(
            _bytes(event.session_id),
            value,
            [(SHA256_HEADER, sha256(value).digest())],
        )

    def dead_letter(self, letter: DeadLetter) -> OutgoingRecord:
        """Return the record of what could not be mapped: redacted, at most 1 MiB."""
        border = self._border
        headers = {
            "fleetwake-reason": letter.reason,
            "fleetwake-error": letter.error,
            **{f"fleetwake-origin-{name}": at for name, at in letter.origin.items()},
        }
        if len(letter.value) > MAX_RECORD_BYTES:
            headers["fleetwake-cut"] = str(len(letter.value) - MAX_RECORD_BYTES)
        return OutgoingRecord(
            _bytes(border.name(letter.key)),
            border.data(letter.value),
            [
                (name, _bytes(border.text(text[:_MAX_HEADER_CHARS])))
                for name, text in headers.items()
            ],
        )

    def _stamp(self, entry: Entry) -> AuditEvent:
        # 1 us; `_replace` takes 1.8 us.
        event, recorded_at = entry.event, entry.recorded_at
        stamped: list[Any] = [*event]
        stamped[_EVENT_ID] = event.event_id or str(uuid7())
        stamped[_SOURCE] = event.source or self._source
        stamped[_SOURCE_EVENT_TYPE] = event.source_event_type or event.event_type
        stamped[_OCCURRED_AT] = event.occurred_at or recorded_at
        stamped[_RECORDED_AT] = recorded_at
        if event.host is None:
            stamped[_HOST] = self._host
        if event.environment is None:
            stamped[_ENVIRONMENT] = self._environment
        stamped[_PRODUCER_ID] = entry.producer_id
        stamped[_SEQUENCE] = entry.sequence
        stamped[_ATTRIBUTES] = entry.attributes
        return _event_of(stamped)


def _bytes(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return well_formed(text).encode()
