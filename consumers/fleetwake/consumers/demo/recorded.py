"""The bundled recordings of the source systems, as events."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final

from fleetwake.consumers.demo.shift import shifted
from fleetwake.consumers.ingest.lines import LineReader
from fleetwake.consumers.ingest.mapping import AUTO, LineMapper
from fleetwake.producer.enrich import enriched

if TYPE_CHECKING:
    from fleetwake.schemas.event import AuditEvent

__all__ = ["RECORDINGS", "read_recording", "recorded_events"]

RECORDINGS: Final = (
    "calute_0.2.0_audit_events.jsonl",
    "agent_framework_trace_events.jsonl",
    "agent_framework_0.5_audit_trace.jsonl",
    "agent_sdk_0.9.2_tool_audit_records.jsonl",
    "nemo_flow_0.2.0_atof_kitchen_sink.jsonl",
    "nemo_relay_0.10.4_atof_kitchen_sink.jsonl",
)


def recorded_events(now_us: int) -> list[AuditEvent]:
    """All recordings, each moved so that its last event is at `now_us`."""
    return [
        event for file in RECORDINGS for event in shifted(read_recording(file), now_us)
    ]


def read_recording(file: str) -> list[AuditEvent]:
    """One recording's events, in its order and with its times."""
    mapper = LineMapper(format_=AUTO, session_id=file.removesuffix(".jsonl"))
    folder = files("fleetwake.consumers.demo") / "recordings"
    with (folder / file).open("rb") as source:
        return [
            enriched(*mapped)
            for line in iter(LineReader(source, file).read, None)
            for mapped in mapper.map(line)
        ]
