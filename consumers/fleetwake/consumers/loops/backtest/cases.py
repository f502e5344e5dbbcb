"""
Labelled cases: a few steps each, and at which of them an alert is right.

A step without `kind` is a call that has ended; null result and null error mean that
nothing is known of its outcome. Other kinds are those of the table below, or an event
type with `_` for its dot (`model_request`); one that is neither still takes its time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, Field, JsonValue

from fleetwake.consumers.loops.backtest.recording import Entry, Expected, Recording
from fleetwake.producer.content import ABSENT, Content, plain_json
from fleetwake.producer.enrich import enriched
from fleetwake.schemas.event import EVENT_TYPES, AuditEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Case", "recording_of"]

_START_MS: Final = 1_790_000_000_000
_STEP_MS: Final = 1_000
"""Between steps that have no time of their own."""

_EVENT_TYPES: Final = {
    "user": "user.input",
    "assistant": "assistant.message",
    "delegate": "delegation.start",
    "delegate_end": "delegation.end",
    "watermark": "mark",
}
_RESPONSE: Final = "model_response"
_CLOCK: Final = "watermark"
"""The session of a watermark: time passes, and nobody says anything."""


class Step(BaseModel):
    """One step; `ts` is in milliseconds since the case began."""

    kind: str = "call"
    session: str | None = Field(default=None, min_length=1)
    parent_session_id: str | None = Field(default=None, alias="parent_session")
    root_session_id: str | None = Field(default=None, alias="root_session")
    ts: float | None = Field(default=None, ge=0, le=1e12)
    turn: int | str | None = None
    round: int | str | None = None
    agent: str | None = None
    tool: str | None = None
    call_id: int | str | None = None
    pending: bool = False
    args: JsonValue = None
    result: JsonValue = None
    error: JsonValue = None
    text: str | None = None
    from_agent: str | None = Field(default=None, alias="from")
    to_agent: str | None = Field(default=None, alias="to")
    task: JsonValue = None
    request_id: int | str | None = None
    input_tokens: int | None = Field(default=None, ge=0, lt=2**53)
    output_tokens: int | None = Field(default=None, ge=0, lt=2**53)
    cost_usd: float | None = None

    @property
    def has_cost(self) -> bool:
        """Whether the model's answer behind the step was counted."""
        return (self.input_tokens, self.output_tokens, self.cost_usd) != (None,) * 3


class Expectation(BaseModel):
    """What is right, in steps from 1."""

    loop: bool
    pattern: str | None = None
    not_before: int | None = None
    first_step_at_or_before: int | None = None
    max_level_allowed: Literal["none", "warning", "critical"] | None = None


class Case(BaseModel):
    """One line of a file of cases. Other fields than these are of no matter."""

    case_id: str = Field(min_length=1, max_length=200)
    steps: list[Step]
    expect: Expectation


def recording_of(case: Case) -> Recording:
    """Make the log of a case, the subject of which is its id."""
    return Recording(
        entries=list(_entries(case)),
        expected={case.case_id: _expected(case.expect)},
        is_healthy={},
        stepwise=True,
    )


def _expected(expect: Expectation) -> Expected:
    return Expected(
        is_loop=expect.loop,
        pattern=expect.pattern or "none",
        earliest=expect.not_before or 1,
        latest=expect.first_step_at_or_before,
        max_level=expect.max_level_allowed or "none",
    )


def _entries(case: Case) -> Iterator[Entry]:
    at_ms = _START_MS - _STEP_MS
    turn: int | str | None = None
    counts: dict[str, int] = {}
    for place, step in enumerate(case.steps, 1):
        at_ms = at_ms + _STEP_MS if step.ts is None else _START_MS + int(step.ts)
        turn = turn if step.turn is None else step.turn
        session = _CLOCK if step.kind == _CLOCK else step.session or case.case_id
        for event, content in _events(step, place):
            counts[session] = counts.get(session, 0) + 1
            stamped = event._replace(
                event_id=f"{case.case_id}:{place}:{event.event_type}",
                source="case",
                source_event_type=step.kind,
                occurred_at=at_ms * 1000,
                recorded_at=at_ms * 1000,
                session_id=session,
                producer_id=session,
                sequence=counts[session],
                parent_session_id=step.parent_session_id,
                root_session_id=step.root_session_id,
                agent_id=step.agent or step.from_agent,
                turn_id=_name(turn),
                round_id=_name(step.round),
            )
            yield Entry(enriched(stamped, content), at_ms, case.case_id, place)


def _events(step: Step, place: int) -> Iterator[tuple[AuditEvent, Content]]:
    if step.has_cost and step.kind != _RESPONSE:
        # Tokens stand on the model's response only, so that nothing counts twice.
        yield _other(step.model_copy(update={"kind": _RESPONSE}))
    match step.kind:
        case "call" | "tool_call":
            call_id = _name(step.call_id) or f"step-{place}"
            yield _attempt(step, call_id)
            if not step.pending:
                yield _answer(step, call_id)
        case "tool_result":
            yield _answer(step, _name(step.call_id))
        case _:
            yield _other(step)


def _attempt(step: Step, call_id: str) -> tuple[AuditEvent, Content]:
    return (
        AuditEvent(
            event_type="tool.attempt",
            outcome="attempted",
            tool_call_id=call_id,
            tool_name=step.tool,
        ),
        Content(arguments=step.args if "args" in step.model_fields_set else ABSENT),
    )


def _answer(step: Step, call_id: str | None) -> tuple[AuditEvent, Content]:
    error = _text(step.error)
    failed = error is not None
    known = "success" if step.result is not None else "unknown"
    return (
        AuditEvent(
            event_type="tool.failure" if failed else "tool.complete",
            outcome="failure" if failed else known,
            severity="error" if failed else "info",
            tool_call_id=call_id,
            tool_name=step.tool,
        ),
        Content(result=step.result, error=error),
    )


def _other(step: Step) -> tuple[AuditEvent, Content]:
    said = step.kind.replace("_", ".", 1)
    event_type = _EVENT_TYPES.get(step.kind, said if said in EVENT_TYPES else "custom")
    counts = event_type == "model.response"
    return (
        AuditEvent(
            event_type=event_type,
            agent_from=step.from_agent,
            agent_to=step.to_agent,
            span_id=_name(step.request_id),
            tool_call_id=_name(step.call_id),
            tool_name=step.tool,
            input_tokens=step.input_tokens if counts else None,
            output_tokens=step.output_tokens if counts else None,
            cost_usd=step.cost_usd if counts else None,
        ),
        Content(
            arguments=step.task if "task" in step.model_fields_set else ABSENT,
            text=step.text,
        ),
    )


def _name(value: int | str | None) -> str | None:
    return None if value is None else str(value)


def _text(error: JsonValue) -> str | None:
    """An error's text; False is none, as null is."""
    if error is None or error is False:
        return None
    return error if isinstance(error, str) else plain_json(error)[0]
