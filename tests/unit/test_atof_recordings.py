"""ATOF: every line of the recordings becomes one event, and comes back."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.atof import events, mapped

from fleetwake.producer.adapters.atof import TYPES, recognises, restore
from fleetwake.producer.enrich import enriched
from fleetwake.schemas.codec import encode

if TYPE_CHECKING:
    from fleetwake.producer.adapters.mapping import Mapped

ROOT = Path(__file__).parents[2]
BUNDLED = files("fleetwake.consumers.demo") / "recordings"
SEEDS = ROOT.parent / "shared" / "data" / "seeds"
FLOW = "nemo_flow_0.2.0_atof_kitchen_sink.jsonl"
RELAY = "nemo_relay_0.10.4_atof_kitchen_sink.jsonl"
ANNOTATED = "nemo_flow_0.2.0_atof_llm_annotated.jsonl"
OURS = [FLOW, RELAY, ANNOTATED]
NOT_OURS = ["nat_exmp01_atof.jsonl", "nat_exmp02_atof.jsonl", "nat_exmp03_atof.jsonl"]


def recording(name: str) -> list[dict[str, Any]]:
    if name in NOT_OURS:
        path = SEEDS / name
        if not path.exists():
            pytest.skip(f"{name} is not on this machine; it may not be distributed")
        text = path.read_text()
    elif name == ANNOTATED:
        text = (ROOT / "tests" / "recordings" / name).read_text()
    else:
        text = (BUNDLED / name).read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("name", OURS + NOT_OURS)
def test_every_line_comes_back(name: str) -> None:
    """No line is lost, and the payload is the line."""
    for line, (one, content) in zip(
        recording(name), mapped(recording(name)), strict=True
    ):
        assert recognises(line)
        assert restore([enriched(one, content)]) == line


@pytest.mark.parametrize("name", OURS + NOT_OURS)
def test_every_event_of_a_recording_can_be_written(name: str) -> None:
    """Each has its own id and a session, and passes the strict codec."""
    found = mapped(recording(name))

    assert len(found) == len({one.event.event_id for one in found})
    for number, (one, content) in enumerate(found, start=1):
        stamped = {"producer_id": "p", "sequence": number, "recorded_at": 1}
        assert encode(enriched(one, content)._replace(**stamped))
        assert one.session_id
        assert one.event_type in {row.event_type for row in TYPES.values()}


@pytest.mark.parametrize("name", OURS + NOT_OURS)
def test_times_are_equal_to_the_microsecond(name: str) -> None:
    """Nanoseconds are cut, never rounded."""
    for line, one in zip(recording(name), events(recording(name)), strict=True):
        seconds, fraction = divmod(one.occurred_at, 1_000_000)
        told = line["timestamp"].replace("Z", "+00:00").removesuffix("+00:00")
        whole, _, digits = told.partition(".")

        assert f"{fraction:06}" == (digits + "000000")[:6]
        assert whole[-2:] == f"{seconds % 60:02}"


@pytest.mark.parametrize("name", [FLOW, RELAY])
def test_a_session_is_inherited_from_the_scope_that_names_it(name: str) -> None:
    """The mark outside of all scopes is of another one."""
    *inside, outside = events(recording(name))

    assert {"sess-7"} == {one.session_id for one in inside}
    assert outside.session_id == outside.parent_span_id
    assert {"planner"} == {one.agent_id for one in inside}
    assert {"u-1"} == {one.user_id for one in inside}
    assert {inside[0].span_id} == {one.turn_id for one in inside}


def meaning(one: Mapped) -> tuple[Any, ...]:
    told = one.event
    kind = told.event_type.replace("failure", "end").replace("complete", "end")
    kind = kind.replace("model.error", "model.end").replace(
        "model.response", "model.end"
    )
    return (
        kind,
        told.tool_name,
        told.model,
        told.attributes.get("atof.name"),
        told.input_tokens,
        told.output_tokens,
        told.reason,
        str(one.content.arguments),
    )


def test_flow_and_relay_tell_the_same_program_alike() -> None:
    """But for the guardrail's own scope and the statuses, which only Relay tells."""
    flow, relay = mapped(recording(FLOW)), mapped(recording(RELAY))
    extra = [one for one in relay if one.event.attributes.get("atof.name") == "deny"]

    assert {"scope.start", "scope.end"} == {one.event.event_type for one in extra}
    assert sorted(map(meaning, flow)) == sorted(
        meaning(one) for one in relay if one not in extra
    )


@pytest.mark.parametrize("name", [FLOW, RELAY])
def test_no_fact_counts_twice(name: str) -> None:
    """4 calls, 4 answers, one block, 16 tokens."""
    found = events(recording(name))
    ends = [e for e in found if e.event_type in {"tool.complete", "tool.failure"}]

    assert 4 == sum(e.event_type == "tool.attempt" for e in found)
    assert 4 == len({e.tool_call_id for e in ends}) == len(ends)
    assert ["blocked_tool"] == [
        e.tool_name for e in found if e.outcome in {"blocked", "denied"}
    ]
    assert 11 == sum(e.input_tokens or 0 for e in found)
    assert 5 == sum(e.output_tokens or 0 for e in found)


def test_what_is_not_known_stays_unknown() -> None:
    """NeMo Flow ends a failed call as one that returned nothing."""
    ends = [e for e in events(recording(FLOW)) if e.event_type == "tool.complete"]

    assert {"unknown"} == {one.outcome for one in ends}
    assert all(one.duration_ms is not None for one in ends)


def test_relays_status_is_the_outcome() -> None:
    """With the error's type; its text is content."""
    found = mapped(recording(RELAY))
    failed = [one for one in found if one.event.outcome == "failure"]

    assert ["tool.failure", "model.error", "scope.end"] == [
        one.event.event_type for one in failed
    ]
    assert ["ValueError", "RuntimeError", None] == [
        one.event.error_type for one in failed
    ]
    assert {"error"} == {one.event.severity for one in failed}
    assert "internal error: ValueError: kaput" == failed[0].content.error


def test_a_codecs_usage_counts_once() -> None:
    """It stands in the record twice: as the provider's and as the codec's."""
    response = events(recording(ANNOTATED))[2]

    assert (3, 2) == (response.input_tokens, response.output_tokens)
    assert ("openai", "gpt-4o") == (response.provider, response.model)
    assert "yo" == mapped(recording(ANNOTATED))[2].content.text


def test_request_headers_are_no_arguments() -> None:
    """They hold credentials, and differ where the request is the same."""
    request = mapped(recording(ANNOTATED))[1].content

    assert {"messages", "model"} == set(request.arguments)  # type: ignore[call-overload]
