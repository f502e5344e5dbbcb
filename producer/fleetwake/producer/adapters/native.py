"""Events that are fleetwake's own already, as `schemas.models` reads them."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from fleetwake.producer.adapters.mapping import Mapped, UnmappableError, event_id
from fleetwake.producer.content import Content
from fleetwake.schemas.errors import InvalidEventError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["NativeAdapter", "recognises"]


def recognises(record: Mapping[str, object]) -> bool:
    """Tell whether a record may be an event of ours. Calute's have a `timestamp`."""
    return "event_type" in record and "timestamp" not in record


class NativeAdapter:
    """
    Takes events as they are, and gives an id to those that have none.

    The id is made of the stream, the ordinal and the whole record. Session and agent
    are the event's own: `session_id` only names the stream, as in other adapters.
    """

    source: Final = "native"

    def __init__(
        self, *, stream: str, session_id: str, agent_id: str | None = None
    ) -> None:
        del session_id, agent_id
        self._stream = stream

    def map(self, record: Mapping[str, object], /, *, ordinal: int) -> Sequence[Mapped]:
        """
        Return the event.

        Raises:
            UnmappableError: invalid_event.
        """
        # pydantic takes 0.1 s, and who embeds a producer does not need it.
        from fleetwake.schemas.models import event_of

        try:
            event = event_of(record)
        except InvalidEventError as error:
            raise UnmappableError("invalid_event", str(error)) from None
        event = event._replace(
            event_id=event.event_id or self._id(record, ordinal),
            source=event.source or self.source,
            source_event_type=event.source_event_type or event.event_type,
        )
        return [Mapped(event, Content())]

    def _id(self, record: Mapping[str, object], ordinal: int) -> str:
        whole = sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
        return event_id(self.source, self._stream, ordinal, whole)
