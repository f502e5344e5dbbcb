"""Records of any topic as JSON and as a line to read."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from rich.text import Text

from fleetwake.consumers.cli.terminal import clean, clock
from fleetwake.schemas.codec import SHA256_HEADER, decode, decode_record
from fleetwake.schemas.errors import TombstoneError, UnknownSchemaError
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.models import to_json
from fleetwake.schemas.records import (
    Command,
    Delivery,
    LoopAlert,
    MetricWindow,
    OtherRecord,
    SessionFacts,
    Signal,
    Verdict,
)
from fleetwake.schemas.topics import (
    ALERTS,
    COMMANDS,
    DELIVERIES,
    EVENTS,
    METRICS,
    SESSIONS,
    SIGNALS,
    VERDICTS,
)

if TYPE_CHECKING:
    from fleetwake.consumers.runtime.service import Record
    from fleetwake.producer.lookup import NetworkSchemas
    from fleetwake.schemas.topics import Topic

__all__ = ["RawRecord", "Shown", "alert_line", "as_json", "as_line", "read"]

_CLASSES: Final[dict[Topic, type[OtherRecord]]] = {
    ALERTS: LoopAlert,
    VERDICTS: Verdict,
    COMMANDS: Command,
    SIGNALS: Signal,
    SESSIONS: SessionFacts,
    METRICS: MetricWindow,
    DELIVERIES: Delivery,
}
_TIMES: Final = frozenset({"window_start", "until"})
_STYLES: Final = {
    "warning": "yellow",
    "error": "red",
    "critical": "bold red",
    "failure": "red",
    "blocked": "red",
    "denied": "red",
    "timeout": "red",
    "block": "bold red",
}


class RawRecord(dict[str, object]):
    """A record that has no schema of ours: dead letters, and schemas."""


Shown = AuditEvent | OtherRecord | RawRecord


async def read(topic: Topic, record: Record, schemas: NetworkSchemas) -> Shown:
    """
    Decode a record of a topic; asks the network for a schema that is not known.

    Raises:
        InvalidRecordError: it cannot be read, or is a tombstone.
        RetriableError: the schema cannot be asked for now.
    """
    if record.value is None:
        raise TombstoneError
    try:
        return _decode(topic, record, record.value, schemas)
    except UnknownSchemaError as unknown:
        await schemas.refresh(unknown.reference)
        return _decode(topic, record, record.value, schemas)


def _decode(
    topic: Topic, record: Record, value: bytes, schemas: NetworkSchemas
) -> Shown:
    headers = dict(record.headers)
    if topic == EVENTS:
        return decode(value, schemas, sha256=headers.get(SHA256_HEADER))
    if topic in _CLASSES:
        return decode_record(_CLASSES[topic], value, schemas)
    return RawRecord(
        key=_text(record.key or b""),
        headers={name: _text(content) for name, content in headers.items()},
        value=_text(value),
    )


def _text(content: bytes) -> str:
    """UTF-8, else base64."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(content).decode()


def as_json(record: Shown) -> str:
    """One line of ASCII; an event's is one that `fleetwake ingest` takes."""
    if isinstance(record, AuditEvent):
        return to_json(record)
    fields = record if isinstance(record, RawRecord) else asdict(record)
    return json.dumps(fields, separators=(",", ":"))


def as_line(record: Shown, appended_at_ms: int) -> Text:
    """One line for people; `appended_at_ms` is the broker's time."""
    at = (f"{clock(appended_at_ms * 1000)} ", "dim")
    if isinstance(record, AuditEvent):
        return Text.assemble(at, _event(record))
    if isinstance(record, LoopAlert):
        return Text.assemble(at, alert_line(record))
    fields = record if isinstance(record, RawRecord) else asdict(record)
    told = " ".join(
        f"{name}={_short(name, value)}"
        for name, value in fields.items()
        if value not in (None, "", {}, ())
    )
    return Text.assemble(at, told)


def _short(name: str, value: object) -> str:
    if isinstance(value, int) and (name in _TIMES or name.endswith("_at")):
        return clock(value)
    return clean(str(value))


def _event(event: AuditEvent) -> Text:
    duration = None if event.duration_ms is None else f"{event.duration_ms:,.0f} ms"
    why = event.error_message or event.reason or event.arguments_preview
    parts = [
        (_cut(event.session_id, 12), "cyan"),
        (_cut(event.agent_id or "", 10), ""),
        (f"{event.event_type:<14}", ""),
        (clean(event.tool_name or ""), "bold"),
        ("" if event.outcome == "unknown" else event.outcome, _style(event)),
        (duration or "", "dim"),
        (clean(why or ""), "dim"),
    ]
    return Text(" ").join(Text(text, style) for text, style in parts if text)


def _style(event: AuditEvent) -> str:
    return _STYLES.get(event.outcome) or _STYLES.get(event.severity, "")


def alert_line(alert: LoopAlert) -> Text:
    """Level, state, session, rule and reason."""
    return Text.assemble(
        (f"{clean(alert.level)} {clean(alert.state)}", _STYLES.get(alert.level, "")),
        (f" {clean(alert.session_id)} ", "cyan"),
        f"{clean(alert.rule)}: {clean(alert.reason)}",
    )


def _cut(text: str, width: int) -> str:
    """The end of an id says more than its beginning."""
    text = clean(text)
    return f"{text if len(text) <= width else '…' + text[1 - width :]:<{width}}"
