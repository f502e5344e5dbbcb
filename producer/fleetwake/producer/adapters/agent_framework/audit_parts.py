"""The parts of a run's record, in its own order."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from fleetwake.producer.adapters.agent_framework.told import HOST, Told
from fleetwake.producer.adapters.mapping import UnmappableError
from fleetwake.producer.adapters.reading import Reading, error_kind, json_text
from fleetwake.producer.adapters.times import micros
from fleetwake.producer.content import ABSENT, Content, plain_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["RUN", "Part", "run_parts"]

RUN: Final = "agent_call"
"""What we call a record without a type: it sums up the run of an agent."""

_RUNS_TIME: Final[Mapping[str, str | None]] = {"time": "of the run"}
"""An attribute of parts that have no time of their own: their order is the record's."""


class Part(NamedTuple):
    """What becomes one event."""

    kind: str
    told: Told
    value: object = ABSENT
    """The part of the record; the record itself for the first."""
    at: int | None = None
    """Its own time, if it has one."""


def run_parts(
    record: Mapping[str, object],
    reading: Reading,
    agent: str | None,
    parent: str | None,
) -> Iterator[Part]:
    """Yield the start, the model's part, what happened, and the end of a run."""
    caller = reading.text(record, "caller_id")
    is_child = parent is not None or caller not in (None, "", HOST)
    prompt = reading.text(record, "user_prompt")
    start, end = Told("turn.start", content=Content(text=prompt)), Told("turn.end")
    if is_child:
        end = Told("delegation.end", agent_from=caller, agent_to=agent)
        start = end._replace(
            event_type="delegation.start",
            content=Content(arguments=ABSENT if prompt is None else prompt),
            parent_span_id=parent,
        )
    yield Part(RUN, start._replace(attributes={"caller_id": caller}), record)
    for part in (*_model_parts(record, reading), *_happened(record, reading)):
        yield part if part.at is not None else _timeless(part)
    yield _timeless(Part(f"{RUN}.end", end))


def _timeless(part: Part) -> Part:
    attributes = {**part.told.attributes, **_RUNS_TIME}
    return part._replace(told=part.told._replace(attributes=attributes))


def _model_parts(record: Mapping[str, object], reading: Reading) -> Iterator[Part]:
    """Yield the last request, answer and decision: the record has no others."""
    sent = record.get("llm_message_sent")
    if sent is not None:
        told = Told("model.request", "attempted")
        yield Part(f"{RUN}.llm_message_sent", told, {"llm_message_sent": sent})
    names = ("llm_message_received", "model_response")
    answer = {name: record[name] for name in names if record.get(name) is not None}
    if answer:
        text = reading.text(record, "llm_message_received")
        error = reading.mapping(record, "model_response").get("error")
        told = Told("model.response", "success", Content(text=text))
        if error:
            content = Content(error=json_text(error))
            told = Told("model.error", "failure", content, error_kind="other")
        yield Part(f"{RUN}.llm_message_received", told, answer)
    decision = record.get("agent_decision")
    if decision is not None:
        reading.mapping(record, "agent_decision")
        yield Part(f"{RUN}.agent_decision", Told(), plain_json(decision)[0])


def _happened(record: Mapping[str, object], reading: Reading) -> Iterator[Part]:
    for name, told_of in _LISTS.items():
        for value in reading.array(record, name):
            if isinstance(value, Mapping):
                yield told_of(value, reading)
            else:
                reading.note(name)
                yield Part(f"{RUN}.{name}", Told(), plain_json(value)[0])


def _callback(value: Mapping[str, object], reading: Reading) -> Part:
    told = Told(
        "callback",
        content=Content(
            text=reading.text(value, "prompt"), result=value.get("response")
        ),
        attributes={name: reading.text(value, name) for name in ("intent", "target")},
    )
    return Part(f"{RUN}.callbacks", told, value, _own_time(value, reading))


def _skill(value: Mapping[str, object], reading: Reading) -> Part:
    told = Told(
        "skill.used",
        content=Content(arguments=value.get("parameters", ABSENT)),
        attributes={
            "skill": reading.text(value, "skill_name"),
            "status": reading.text(value, "status"),
        },
    )
    return Part(f"{RUN}.skill_invocations", told, value, _own_time(value, reading))


def _own_time(value: Mapping[str, object], reading: Reading) -> int | None:
    try:
        return micros(value.get("timestamp"))
    except UnmappableError as error:
        reading.note(error.reason)
        return None


def _event(value: Mapping[str, object], reading: Reading) -> Part:
    name = reading.text(value, "type")
    told = Told(
        tool_name=reading.text(value, "tool_name"),
        error_type=reading.text(value, "error_type"),
        agent_to=reading.text(value, "subagent_id"),
    )
    match name:
        case "tool_call":
            arguments = Content(arguments=value.get("parameters", ABSENT))
            told = told._replace(
                event_type="tool.attempt", outcome="attempted", content=arguments
            )
        case "tool_result":
            told = told._replace(
                event_type="tool.complete",
                outcome="success",
                content=Content(result=value.get("result")),
            )
        case "tool_error":
            told = told._replace(
                event_type="tool.failure",
                outcome="failure",
                content=Content(error=reading.text(value, "error")),
                error_kind=error_kind(told.error_type),
            )
        case _:
            # The others have records of their own: callbacks, called agents.
            pass
    return Part(f"{RUN}.events.{name or 'unknown'}", told, value)


_LISTS: Final[Mapping[str, Callable[[Mapping[str, object], Reading], Part]]] = (
    MappingProxyType(
        {"callbacks": _callback, "skill_invocations": _skill, "events": _event}
    )
)
