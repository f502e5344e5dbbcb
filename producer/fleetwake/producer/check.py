"""What `emit` checks in the caller's thread."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from fleetwake.schemas.errors import InvalidEventError
from fleetwake.schemas.event import EVENT_TYPES, AuditEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EMPTY_BYTES", "Checked", "check"]

EMPTY_BYTES: Final = 600
"""Of an event without any text, roughly: as a tuple and as a record alike."""

_TEXT_FIELDS: Final = tuple(
    name
    for name, kind in AuditEvent.__annotations__.items()
    if "str" in str(kind) and name not in {"attributes", "payload"}
)
_texts = itemgetter(*map(AuditEvent._fields.index, _TEXT_FIELDS))


class Checked(NamedTuple):
    """An event that may be accepted, a copy of its attributes, and its rough size."""

    event: AuditEvent
    attributes: Mapping[str, str]
    size: int


def check(event: AuditEvent) -> Checked:
    """
    Check what is cheap to check: 1 us, whatever the size of the payload.

    Raises:
        InvalidEventError: it is no event, has no session or an unknown type, or
            holds in place of a text something else.
    """
    if type(event) is not AuditEvent:
        raise InvalidEventError("event", f"{type(event).__name__} is no AuditEvent")
    payload, attributes = event.payload, dict(event.attributes)
    try:
        size = len("".join(filter(None, _texts(event)))) + len(payload or "")
        for name, text in attributes.items():
            size += len(name + text)
    except TypeError as error:
        raise InvalidEventError("event", f"a text is not a str: {error}") from error
    if not event.session_id:
        raise InvalidEventError("session_id", "is empty")
    if event.event_type not in EVENT_TYPES:
        raise InvalidEventError("event_type", "is not one of EVENT_TYPES")
    return Checked(event, attributes, size + EMPTY_BYTES)
