"""What happens now, mapped and published in the thread in which it happens."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Final, Protocol
from uuid import uuid4
from weakref import WeakSet

from fleetwake.producer.adapters.mapping import UnmappableError
from fleetwake.producer.content import plain_json
from fleetwake.producer.dead_letter import DeadLetter
from fleetwake.schemas.errors import FleetwakeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleetwake.producer.adapters.mapping import Adapter
    from fleetwake.producer.client import AsyncAuditProducer, AuditProducer

__all__ = ["LiveStream", "reject", "renew_after_fork"]


class Renewable(Protocol):
    """What has a lock, and perhaps more that a forked child must not share."""

    def renew(self) -> None:
        """Take a new one."""
        ...


class LiveStream:
    """
    Publishes records as they come. Thread-safe; never raises, never waits.

    `read` makes a record of what is taken; what cannot be read or mapped goes to the
    dead letters. `open_adapter` takes stream, session_id and agent_id by their names:
    a stream's name is new for each stream, and in each process. Records that name no
    session belong to `session_id`, by default an id that is new for each stream.
    """

    def __init__(
        self,
        producer: AuditProducer | AsyncAuditProducer,
        *,
        source: str,
        open_adapter: Callable[..., Adapter],
        read: Callable[[object], Mapping[str, object]],
        session_id: str | None = None,
        agent_id: str | None = None,
    ) -> None:
        self._producer = producer
        self._source = source
        self._open_adapter = open_adapter
        self._read = read
        self._session_id = session_id or uuid4().hex
        self._agent_id = agent_id
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin a new stream: called for you in a forked child."""
        # Reentrant: a signal handler may emit while its own thread is in here.
        self._lock = threading.RLock()
        self._ordinal = 0
        self._adapter = self._open_adapter(
            stream=uuid4().hex, session_id=self._session_id, agent_id=self._agent_id
        )

    def take(self, value: object) -> None:
        """Publish what `value` says."""
        try:
            # Held over both: events are sent in the order of their mapping.
            with self._lock:
                self._ordinal += 1
                record = self._read(value)
                for event, content in self._adapter.map(record, ordinal=self._ordinal):
                    self._producer.emit(event, content)
        except Exception as error:  # noqa: BLE001  # the agent would fail of it
            reject(
                self._producer,
                error,
                value=self._bytes_of(value),
                source=self._source,
                key=self._session_id,
            )

    def _bytes_of(self, value: object) -> bytes:
        # Where it cannot be read, its type must do.
        with contextlib.suppress(Exception):
            if isinstance(value, (bytes, bytearray, memoryview)):
                return bytes(value)
            if isinstance(value, str):
                return value.encode("utf-8", "replace")
            value = self._read(value)
        return plain_json(value)[0].encode()


def reject(
    producer: AuditProducer | AsyncAuditProducer,
    error: Exception,
    *,
    value: bytes,
    source: str,
    key: str,
) -> None:
    """
    Send what was not published because of `error` to the dead letters. Never raises.

    What a strict producer refuses has the reason `invalid`, as it counts it.
    """
    if isinstance(error, UnmappableError):
        reason, problem = error.reason, str(error)
    elif isinstance(error, FleetwakeError):
        reason, problem = "invalid", str(error)
    else:
        reason, problem = "unreadable", f"reading it raised {type(error).__name__}"
    # The producer may be anybody's, and a strict one raises when it is closed.
    with contextlib.suppress(Exception):
        producer.reject(DeadLetter(value, reason, problem, {"source": source}, key))


def renew_after_fork(one: Renewable) -> None:
    """Have `renew` called in a forked child, as long as somebody holds `one`."""
    _RENEWABLE.add(one)


_RENEWABLE: Final[WeakSet[Renewable]] = WeakSet()


def _forked() -> None:
    # Another thread of the parent may have held a lock.
    for one in tuple(_RENEWABLE):
        one.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
