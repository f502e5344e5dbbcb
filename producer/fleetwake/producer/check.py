"""What `emit` checks in the caller's thread."""

from __future__ import annotations

from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from fleetwake.producer.content import Content, frozen
from fleetwake.producer.dead_letter import DeadLetter
from fleetwake.schemas.errors import InvalidEventError
from fleetwake.schemas.event import EVENT_TYPES, AuditEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EMPTY_BYTES", "Checked", "check", "check_letter"]

EMPTY_BYTES: Final = 600
"""Of an event without any text, roughly: as a tuple and as a record alike."""

_NO_ATTRIBUTES: Final = AuditEvent().attributes
_TEXT_FIELDS: Final = tuple(
    name
    for name, kind in AuditEvent.__annotations__.items()
    if "str" in str(kind) and name not in {"attributes", "payload"}
)
_texts = itemgetter(*map(AuditEvent._fields.index, _TEXT_FIELDS))


class Checked(NamedTuple):
    """An event that may be accepted, and what emit has read of it and its content."""

    event: AuditEvent
    attributes: Mapping[str, str]
    size: int
    content: Content | None = None


def check(event: AuditEvent, content: Content | None = None) -> Checked:
    """
    Check what is cheap to check, and keep the content as it is now (`frozen`).

    Costs 1.5 us and what the content costs, whatever the size of the payload.

    Raises:
        InvalidEventError: it is no event, has no session or an unknown type, or
            holds in place of a text something else; or the content is none.
    """
    if type(event) is not AuditEvent:
        raise InvalidEventError("event", f"{type(event).__name__} is no AuditEvent")
    attributes = event.attributes
    if attributes is not _NO_ATTRIBUTES:
        attributes = dict(attributes)
    try:
        size = len("".join(filter(None, _texts(event)))) + len(event.payload or "")
        for name, text in attributes.items():
            size += len(name + text)
        if content is not None:
            if type(content) is not Content:
                raise InvalidEventError("content", "is no Content")
            content, chars = frozen(content)
            size += chars
    except TypeError as error:
        raise InvalidEventError("event", f"a text is not a str: {error}") from error
    if not event.session_id:
        raise InvalidEventError("session_id", "is empty")
    if event.event_type not in EVENT_TYPES:
        raise InvalidEventError("event_type", "is not one of EVENT_TYPES")
    return _checked_of((event, attributes, size + EMPTY_BYTES, content))


# As `_make` does, which is a call of Python more.
_checked_of = partial(tuple.__new__, Checked)


def check_letter(letter: DeadLetter) -> tuple[DeadLetter, int]:
    """
    Check a dead letter, and return a copy and its size.

    Raises:
        InvalidEventError: it is no dead letter, or holds what it should not.
    """
    if type(letter) is not DeadLetter or type(letter.value) is not bytes:
        raise InvalidEventError("letter", "is no DeadLetter of bytes")
    origin = dict(letter.origin)
    texts = (letter.reason, letter.error, letter.key, *origin, *origin.values())
    try:
        size = len("".join(texts)) + len(letter.value)
    except TypeError as error:
        raise InvalidEventError("letter", f"a text is not a str: {error}") from error
    return letter._replace(origin=origin), size + EMPTY_BYTES
