"""What takes Calute's events: its own collectors, and ours, which publishes them."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import weakref
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Protocol, cast, runtime_checkable
from uuid import uuid4

from fleetwake.producer.adapters.calute.mapping import ENVELOPE, CaluteAdapter
from fleetwake.producer.adapters.mapping import UnmappableError
from fleetwake.producer.dead_letter import DeadLetter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.producer.adapters.calute.events import AuditEvent
    from fleetwake.producer.client import AuditProducer

__all__ = [
    "AuditCollector",
    "CaluteCollector",
    "CompositeCollector",
    "InMemoryCollector",
    "JSONLSinkCollector",
]

_MAX_LETTER_BYTES: Final = 1024 * 1024


@runtime_checkable
class AuditCollector(Protocol):
    """What Calute asks of a collector, no more: nothing closes it."""

    def emit(self, event: AuditEvent) -> None:
        """Take an event."""
        ...

    def flush(self) -> None:
        """Bring out what was taken. Calute's runtime never calls it."""
        ...


class CaluteCollector:
    """
    Publishes Calute's events. Thread-safe; never raises, never waits for the network.

    Takes Calute's event objects, whatever class they are of, objects with the same
    attributes, and dicts. What cannot be mapped goes to the dead letters. Events
    without a session belong to `session_id`, by default an id that is new for each
    collector: use one collector for each Calute instance.
    """

    def __init__(
        self,
        producer: AuditProducer,
        *,
        session_id: str | None = None,
        agent_id: str | None = None,
        flush_timeout_s: float = 5.0,
    ) -> None:
        self._producer = producer
        self._given_session_id = session_id
        self._agent_id = agent_id
        self._flush_timeout_s = flush_timeout_s
        self.renew()
        _COLLECTORS.add(self)

    @property
    def session_id(self) -> str:
        """The session of events that name none."""
        return self._adapter.session_id

    def emit(self, event: object) -> None:
        """Take an event and publish it; see the class."""
        try:
            # Not under the lock: the object may be anybody's code.
            record = _record_of(event)
            with self._lock:
                self._ordinal += 1
                for mapped in self._adapter.map(record, ordinal=self._ordinal):
                    self._producer.emit(mapped.event, mapped.content)
        except Exception as error:  # noqa: BLE001  # an agent's tools would fail of it
            self._reject(event, error)

    def flush(self) -> None:
        """Wait until the broker has what was taken, up to `flush_timeout_s`."""
        with contextlib.suppress(Exception):
            self._producer.flush(self._flush_timeout_s)

    def renew(self) -> None:
        """Begin a new stream: called for you in a forked child."""
        # Reentrant: a signal handler may emit while its thread is in here.
        self._lock = threading.RLock()
        self._ordinal = 0
        stream = uuid4().hex
        self._adapter = CaluteAdapter(
            stream=stream,
            session_id=self._given_session_id or stream,
            agent_id=self._agent_id,
        )

    def _reject(self, event: object, error: Exception) -> None:
        if isinstance(error, UnmappableError):
            reason, problem = error.reason, str(error)
        else:
            reason, problem = "unreadable", f"reading it raised {type(error).__name__}"
        letter = DeadLetter(
            value=_bytes_of(event),
            reason=reason,
            error=problem,
            origin={"source": CaluteAdapter.source},
            key=self.session_id,
        )
        self._producer.reject(letter)


class InMemoryCollector:
    """Keeps all events, without a limit. Thread-safe."""

    def __init__(self) -> None:
        self._events: list[AuditEvent] = []
        self._lock = threading.Lock()

    def emit(self, event: AuditEvent) -> None:
        """Keep the event itself."""
        with self._lock:
            self._events.append(event)

    def flush(self) -> None:
        """Do nothing."""

    def get_events(self) -> list[AuditEvent]:
        """Return a new list of the events in the order of `emit`."""
        with self._lock:
            return self._events.copy()

    def get_events_by_type(self, event_type: str) -> list[AuditEvent]:
        """Return those of one type."""
        return [one for one in self.get_events() if one.event_type == event_type]

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._events.clear()

    def __len__(self) -> int:
        """Count the events."""
        with self._lock:
            return len(self._events)


class JSONLSinkCollector:
    """Writes a line of JSON per event. Thread-safe; `emit` raises what writing does."""

    def __init__(self, sink: str | Path | IO[str]) -> None:
        self._owns = isinstance(sink, (str, Path))
        self._stream: IO[str] = (
            open(sink, "a", encoding="utf-8")  # noqa: PTH123, SIM115  # until `close`
            if isinstance(sink, (str, Path))
            else sink
        )
        self._lock = threading.Lock()

    def emit(self, event: AuditEvent) -> None:
        """
        Write the event.

        Raises:
            ValueError: the collector has closed its file.
        """
        line = event.to_json() + "\n"
        with self._lock:
            self._stream.write(line)

    def flush(self) -> None:
        """Flush the stream."""
        with self._lock:
            self._stream.flush()

    def close(self) -> None:
        """Flush, and close the file if it was opened here."""
        with self._lock:
            self._stream.flush()
            if self._owns:
                self._stream.close()


class CompositeCollector:
    """
    Hands each event to several collectors, in order.

    As Calute's own: what one raises is raised, and keeps the later ones from the event.
    """

    def __init__(self, collectors: Sequence[AuditCollector] | None = None) -> None:
        self._collectors = list(collectors or ())

    def add(self, collector: AuditCollector) -> None:
        """Append a collector."""
        self._collectors.append(collector)

    def emit(self, event: AuditEvent) -> None:
        """Hand on the event."""
        for collector in self._collectors:
            collector.emit(event)

    def flush(self) -> None:
        """Flush each."""
        for collector in self._collectors:
            collector.flush()


_COLLECTORS: Final[weakref.WeakSet[CaluteCollector]] = weakref.WeakSet()


def _forked() -> None:
    # Another thread of the parent may have held a lock, and two processes must not
    # count on from the same number.
    for collector in tuple(_COLLECTORS):
        collector.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _record_of(event: object) -> dict[str, object]:
    """Return what `event` says, by field; no deeper, and nothing is copied."""
    if isinstance(event, Mapping):
        return dict(cast("Mapping[str, object]", event))
    names = [one.name for one in fields(event)] if is_dataclass(event) else ENVELOPE
    record = {name: getattr(event, name) for name in names if hasattr(event, name)}
    return record | getattr(event, "__dict__", {})


def _bytes_of(event: object) -> bytes:
    try:
        text = json.dumps(_record_of(event), default=str)
    except Exception:  # noqa: BLE001  # whatever the object is
        text = json.dumps(type(event).__name__)
    return text.encode()[:_MAX_LETTER_BYTES]
