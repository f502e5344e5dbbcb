"""A live NeMo Flow or NeMo Relay, subscribed to."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from threading import RLock
from typing import TYPE_CHECKING, Final, cast
from uuid import uuid4
from weakref import WeakSet

from fleetwake.producer.adapters.atof.adapter import AtofAdapter
from fleetwake.producer.adapters.live import reject

if TYPE_CHECKING:
    from fleetwake.producer.client import AsyncAuditProducer, AuditProducer

__all__ = ["AtofSubscriber"]

_MAX_LETTER_BYTES: Final = 1024 * 1024

# As the exporters write them. Of an object only these are read: its others say the
# same in another form.
_FIELDS: Final = (
    *("kind", "atof_version", "parent_uuid", "uuid", "timestamp", "name"),
    *("data", "data_schema", "metadata", "category", "category_profile"),
)
_SCOPE_FIELDS: Final = ("scope_category", "attributes")


class AtofSubscriber:
    """
    Publishes the events of a NeMo runtime: a callback for its `subscribers.register`.

        nemo_relay.subscribers.register("fleetwake", AtofSubscriber(AuditProducer()))

    Takes event objects of either package, and dicts. From any thread; never raises,
    never waits for the network. What cannot be mapped goes to the dead letters. Marks
    that stand in no scope belong to `session_id`, by default an id of its own.
    """

    def __init__(
        self,
        producer: AuditProducer | AsyncAuditProducer,
        *,
        session_id: str | None = None,
        agent_id: str | None = None,
    ) -> None:
        stream = uuid4().hex
        self._producer = producer
        self._session_id = session_id or stream
        self._adapter = AtofAdapter(
            stream=stream, session_id=self._session_id, agent_id=agent_id
        )
        self._ordinal = 0
        self.renew()
        _SUBSCRIBERS.add(self)

    def __call__(self, event: object) -> None:
        """Take an event and publish it; see the class."""
        try:
            record = _record_of(event)
            # Held over both: a session's events are sent in the order of their mapping.
            with self._lock:
                self._ordinal += 1
                for mapped in self._adapter.map(record, ordinal=self._ordinal):
                    self._producer.emit(mapped.event, mapped.content)
        except Exception as error:  # noqa: BLE001  # the runtime would print it
            reject(
                self._producer,
                error,
                value=_bytes_of(event),
                source=AtofAdapter.source,
                key=self._session_id,
            )

    def renew(self) -> None:
        """Take a new lock: called for you in a forked child, whose scopes go on."""
        # Reentrant: a signal handler may emit while its thread is in here.
        self._lock = RLock()


_SUBSCRIBERS: Final[WeakSet[AtofSubscriber]] = WeakSet()


def _forked() -> None:
    # Another thread of the parent may have held a lock.
    for subscriber in tuple(_SUBSCRIBERS):
        subscriber.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _record_of(event: object) -> Mapping[str, object]:
    """Return the event as its exporter would write it."""
    if isinstance(event, Mapping):
        return cast("Mapping[str, object]", event)
    to_dict = getattr(event, "to_dict", None)  # Relay has it, NeMo Flow 0.2 does not
    if callable(to_dict):
        return cast("Mapping[str, object]", to_dict())
    names: tuple[str, ...] = _FIELDS
    if getattr(event, "kind", None) == "scope":
        names += _SCOPE_FIELDS
    return {name: getattr(event, name, None) for name in names}


def _bytes_of(event: object) -> bytes:
    try:
        text = json.dumps(_record_of(event), default=str)
    except Exception:  # noqa: BLE001  # whatever the object is
        text = json.dumps(type(event).__name__)
    return text.encode()[:_MAX_LETTER_BYTES]
