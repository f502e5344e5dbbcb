"""What takes Calute's events: its own collectors, and ours, which publishes them."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, runtime_checkable
from uuid import uuid4

from fleetwake.producer.adapters.calute.mapping import CaluteAdapter
from fleetwake.producer.adapters.calute.objects import letter_of, record_of
from fleetwake.producer.adapters.live import reject, renew_after_fork

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
    attributes or a `to_dict` that says them, and dicts. What cannot be mapped goes to
    the dead letters. Events without a session belong to `session_id`, by default an id
    that is new for each collector: use one collector for each Calute instance.
    """

    def __init__(
        self,
        producer: AuditProducer,
        *,
        session_id: str | None = None,
        agent_id: str | None = None,
        flush_timeout_s: float = 0.0,
    ) -> None:
        self._producer = producer
        self._given_session_id = session_id
        self._agent_id = agent_id
        self._flush_timeout_s = flush_timeout_s
        self.renew()
        renew_after_fork(self)

    @property
    def session_id(self) -> str:
        """The session of events that name none."""
        return self._adapter.session_id

    def emit(self, event: object) -> None:
        """Take an event and publish it; see the class."""
        try:
            # Not under the lock: the object may be anybody's code.
            record = record_of(event)
            with self._lock:
                self._ordinal += 1
                for mapped in self._adapter.map(record, ordinal=self._ordinal):
                    self._producer.emit(mapped.event, mapped.content)
        except Exception as error:  # noqa: BLE001  # an agent's tools would fail of it
            reject(
                self._producer,
                error,
                value=letter_of(event),
                source=CaluteAdapter.source,
                key=self.session_id,
            )

    def flush(self) -> None:
        """
        Send now what was taken, and wait up to `flush_timeout_s` for the broker.

        By default it does not wait: an `AuditEmitter` holds its lock meanwhile, and the
        threads of an agent would wait for the network.
        """
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


class InMemoryCollector:
    """Keeps all events, without a limit. Thread-safe."""

    def __init__(self) -> None:
        self._events: list[AuditEvent] = []
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Take a new lock: called for you in a forked child, which has the events."""
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
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Take a new lock: called for you in a forked child."""
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
