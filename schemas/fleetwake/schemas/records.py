"""The other records: alerts, verdicts, commands and what the services publish."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

__all__ = [
    "WARN",
    "Block",
    "Command",
    "Delivery",
    "LoopAlert",
    "MetricWindow",
    "OtherRecord",
    "SessionFacts",
    "Signal",
    "Verdict",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopAlert:
    """An episode that somebody should know of; `loop_alert.avsc` has the fields."""

    alert_id: str
    kind: str = "loop"
    state: str = "open"
    level: str = "warning"
    rule: str
    rule_version: int = 1
    session_id: str
    agent_id: str | None = None
    tool_name: str | None = None
    reason: str
    count: int
    first_event_id: str
    last_event_id: str
    first_occurred_at: int
    last_occurred_at: int
    source_partition: int
    source_offset: int
    attributes: dict[str, str] = field(default_factory=dict)


WARN: Final = "warn:"
"""Before the scope of a block that warns: what shadow mode would have stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One reason why a session must stop."""

    scope: str = "session"
    reason: str
    until: int | None = None
    issuer: str
    alert_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All active blocks of a session: the last record is the whole truth."""

    session_id: str
    issued_at: int
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a person, a budget or the page asks for."""

    command_id: str
    action: str
    session_id: str
    alert_id: str | None = None
    scope: str = "session"
    issued_by: str
    reason: str
    issued_at: int
    until: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricWindow:
    """A snapshot of one window, dimensions and partition. Never a delta."""

    window_start: int
    window_s: int = 60
    source_partition: int
    applied_through: int
    agent_id: str | None = None
    tool_name: str | None = None
    events: int = 0
    calls: int = 0
    failures: int = 0
    blocks: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """What is known of a session now."""

    session_id: str
    agent_id: str | None = None
    state: str = "working"
    first_occurred_at: int
    last_occurred_at: int
    events: int = 0
    turns: int = 0
    calls: int = 0
    failures: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    applied_through: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What a rule across sessions must know of one session."""

    signal_id: str
    kind: str
    key: str
    session_id: str
    tool_name: str | None = None
    error_class_digest: int | None = None
    rule: str | None = None
    occurred_at: int
    amount: float = 0.0
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One attempt to tell somebody of an alert."""

    delivery_id: str
    alert_id: str
    sink: str
    attempt: int = 1
    outcome: str
    status_code: int | None = None
    error: str | None = None
    attempted_at: int
    duration_ms: float = 0.0
    state: str = ""
    level: str = ""


OtherRecord: TypeAlias = (
    LoopAlert | Verdict | Command | MetricWindow | SessionFacts | Signal | Delivery
)
"""All records but the event."""
