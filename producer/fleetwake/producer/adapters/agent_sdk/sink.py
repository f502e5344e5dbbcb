"""A sink for records as they come."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from fleetwake.producer.adapters.agent_sdk.adapter import SOURCE, AgentSdkAdapter
from fleetwake.producer.adapters.live import LiveStream
from fleetwake.producer.adapters.mapping import UnmappableError

if TYPE_CHECKING:
    from fleetwake.producer.client import AsyncAuditProducer, AuditProducer

__all__ = ["AgentSdkSink"]


class AgentSdkSink:
    """
    Publishes the records of one thread. Thread-safe; never raises, never waits.

        sink = AgentSdkSink(AuditProducer(), session_id=thread_id)

    Takes dicts, and the lines of JSON that the source's `serde_json` writes, as text or
    bytes. What cannot be mapped goes to the dead letters. `session_id` is by default
    one of its own.
    """

    def __init__(
        self,
        producer: AuditProducer | AsyncAuditProducer,
        *,
        session_id: str | None = None,
        agent_id: str | None = None,
    ) -> None:
        self._stream = LiveStream(
            producer,
            source=SOURCE,
            open_adapter=AgentSdkAdapter,
            read=_parsed,
            session_id=session_id,
            agent_id=agent_id,
        )

    def record(
        self, record: Mapping[str, object] | str | bytes | bytearray | memoryview
    ) -> None:
        """Take a record and publish it; see the class."""
        self._stream.take(record)


def _parsed(record: object) -> Mapping[str, object]:
    if isinstance(record, memoryview):
        record = bytes(record)
    if isinstance(record, (str, bytes, bytearray)):
        try:
            record = json.loads(record)
        except (ValueError, RecursionError) as error:
            raise UnmappableError("not_json", "it is no JSON that we read") from error
    if not isinstance(record, Mapping):
        raise UnmappableError("not_an_object", "it is no JSON object")
    return cast("Mapping[str, object]", record)
