"""A subscriber for the host's trace events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Final, cast

from fleetwake.producer.adapters.agent_framework.adapter import AgentFrameworkAdapter
from fleetwake.producer.adapters.agent_framework.told import SOURCE
from fleetwake.producer.adapters.live import LiveStream
from fleetwake.producer.adapters.mapping import UnmappableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.producer.client import AsyncAuditProducer, AuditProducer

__all__ = ["CHANNELS", "FleetwakeSubscriber", "trace_record"]

CHANNELS: Final = frozenset({"runtime", "llm", "user", "log"})

# In the order in which the source writes them.
_FIELDS: Final = (
    *("event_id", "parent_event_id", "span_id", "parent_span_id", "timestamp"),
    *("channel", "level", "kind", "title", "summary", "context", "payload", "tags"),
)
_CONTEXT: Final = (
    *("session_id", "run_id", "agent_id", "caller_id", "tool_name", "subagent_id"),
    "conversation_id",
)


class FleetwakeSubscriber:
    """
    Publishes trace events. Thread-safe; never raises, never waits for the network.

        host.runtime_tracer.subscribe(FleetwakeSubscriber(AuditProducer()))

    Takes the source's own objects, whatever class they are of, and dicts. Events
    that name neither a session nor a run belong to `session_id`, by default an id that
    is new for each subscriber. What cannot be mapped goes to the dead letters.
    """

    def __init__(
        self,
        producer: AuditProducer | AsyncAuditProducer,
        *,
        session_id: str | None = None,
        agent_id: str | None = None,
        trace_channels: frozenset[str] = CHANNELS,
    ) -> None:
        self.trace_channels = trace_channels
        """The channels of which the host hands on events."""
        self._stream = LiveStream(
            producer,
            source=SOURCE,
            open_adapter=AgentFrameworkAdapter,
            read=trace_record,
            session_id=session_id,
            agent_id=agent_id,
        )

    def consume(self, event: object) -> None:
        """Take an event and publish it; see the class."""
        self._stream.take(event)


def trace_record(event: object) -> Mapping[str, object]:
    """
    Return a trace event as its source would write it; a dict as it is.

    Raises:
        UnmappableError: not_a_trace_event.
    """
    if isinstance(event, Mapping):
        return cast("Mapping[str, object]", event)
    record = _fields_of(event, _FIELDS)
    if record["kind"] is None:
        raise UnmappableError(
            "not_a_trace_event", f"{type(event).__name__} is no trace event"
        )
    context = record["context"]
    if context is not None and not isinstance(context, Mapping):
        record["context"] = _fields_of(context, _CONTEXT)
    return record


def _fields_of(value: object, known: Sequence[str]) -> dict[str, object]:
    """Return the known fields in their order, then those of later versions."""
    if is_dataclass(value):
        names = [one.name for one in fields(value)]
    else:
        names = [name for name in getattr(value, "__dict__", ()) if name[:1] != "_"]
    return {
        name: getattr(value, name, None) for name in dict.fromkeys((*known, *names))
    }
