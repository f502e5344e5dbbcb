"""What every adapter promises, over every recording of the systems."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from fleetwake.producer.adapters.formats import FORMATS, detect, parse_record
from fleetwake.producer.enrich import enriched
from fleetwake.schemas.codec import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.producer.adapters.mapping import Mapped
    from fleetwake.schemas.event import AuditEvent

ROOT = Path(__file__).parents[2]
BUNDLED = ROOT / "consumers/fleetwake/consumers/demo/recordings"
SEEDS = ROOT / "../shared/data/seeds"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Facts(NamedTuple):
    """What a recording tells, each fact once, counted by hand."""

    calls: int
    answers: int
    responses: int = 0
    tokens: tuple[int, int] = (0, 0)


FACTS = {
    "calute_0.2.0_audit_events": Facts(2, 2),
    "agent_framework_trace_events": Facts(2, 2, 1, (10, 5)),
    "agent_framework_0.5_audit_trace": Facts(2, 2, 1),
    "agent_sdk_0.9.2_tool_audit_records": Facts(0, 3),
    "nemo_flow_0.2.0_atof_kitchen_sink": Facts(4, 4, 2, (11, 5)),
    "nemo_relay_0.10.4_atof_kitchen_sink": Facts(4, 4, 1, (11, 5)),
    "nemo_flow_0.2.0_atof_llm_annotated": Facts(0, 0, 1, (3, 2)),
    "nat_exmp01_atof": Facts(0, 0),
    "nat_exmp02_atof": Facts(1, 1, 2),
    "nat_exmp03_atof": Facts(0, 0, 1),
}


def path_of(name: str) -> Path:
    """Where a recording is; those of others are not in the repository."""
    bundled, seed = (folder / f"{name}.jsonl" for folder in (BUNDLED, SEEDS))
    if not bundled.exists() and not seed.exists():
        pytest.skip(f"{name} is not here: it belongs to others, see SOURCES.md")
    return bundled if bundled.exists() else seed


class Recording:
    """A recording, mapped by the adapter of its format."""

    def __init__(self, name: str) -> None:
        texts = path_of(name).read_bytes().splitlines()
        self.lines = [parse_record(text).fields for text in texts]
        (self.format,) = {detect(line) for line in self.lines}
        self.mapped = self.map()

    def map(self) -> list[Sequence[Mapped]]:
        """The events of each line."""
        adapter = FORMATS[self.format].open(
            stream="a", session_id="stand-in", agent_id=None
        )
        return [
            adapter.map(line, ordinal=number)
            for number, line in enumerate(self.lines, start=1)
        ]

    @property
    def events(self) -> list[AuditEvent]:
        """All events, complete."""
        return [enriched(*one) for mapped in self.mapped for one in mapped]

    def restore(self, events: Sequence[AuditEvent]) -> Any:
        """The line of its events."""
        package = "fleetwake.producer.adapters." + self.format.replace("-", "_")
        return import_module(package).restore(events)


@pytest.fixture(name="recording", params=FACTS)
def _recording(request: pytest.FixtureRequest) -> Recording:
    """Each recording."""
    return Recording(request.param)


def time_of(line: dict[str, Any]) -> int:
    """A record's time in microseconds, read without the adapters."""
    value = line["recorded_at"] if "recorded_at" in line else line["timestamp"]
    if isinstance(value, int):
        return value
    return (datetime.fromisoformat(value) - EPOCH) // timedelta(microseconds=1)


def test_no_line_is_lost(recording: Recording) -> None:
    """Each becomes one event; a run record those that it sums up."""
    counts = [len(mapped) for mapped in recording.mapped]

    assert len(recording.lines) == len(counts)
    assert min(counts) == 1
    for line, count in zip(recording.lines, counts, strict=True):
        is_run = recording.format == "agent-framework" and not {"type", "kind"} & set(
            line
        )
        assert is_run or count == 1


def test_every_line_comes_back(recording: Recording) -> None:
    """As parsed JSON, from the complete events alone."""
    for line, mapped in zip(recording.lines, recording.mapped, strict=True):
        events = [enriched(*one) for one in mapped]

        assert line == recording.restore(events)
        assert json.dumps(line) == json.dumps(recording.restore(events))


def test_an_event_without_its_payload_gives_no_record(recording: Recording) -> None:
    """The content policy left it out: that is no record `null`."""
    bare = [recording.events[0]._replace(payload=None)]

    with pytest.raises(ValueError, match="no payload"):
        recording.restore(bare)


def test_times_are_equal_to_the_microsecond(recording: Recording) -> None:
    """Finer digits are cut, zones are those of the text."""
    for line, mapped in zip(recording.lines, recording.mapped, strict=True):
        times = [event.occurred_at for event, _ in mapped]

        assert time_of(line) == min(times)


def test_every_event_can_be_written(recording: Recording) -> None:
    """Its key is never null; nothing that Avro or we refuse."""
    for number, event in enumerate(recording.events, start=1):
        stamped = event._replace(producer_id="p", sequence=number, recorded_at=1)

        assert event.session_id
        assert encode(stamped)


def test_ids_are_unique_and_the_same_again(recording: Recording) -> None:
    """So that duplicates are known, and nothing else is taken for one."""
    ids = [event.event_id for event in recording.events]
    again = [event.event_id for mapped in recording.map() for event, _ in mapped]

    assert len(set(ids)) == len(ids)
    assert again == ids


@pytest.mark.parametrize("name", FACTS)
def test_no_fact_counts_twice(name: str) -> None:
    """Calls, answers, responses and tokens are those that there were."""
    events = Recording(name).events
    types = Counter(event.event_type for event in events)
    tokens = (
        sum(event.input_tokens or 0 for event in events),
        sum(event.output_tokens or 0 for event in events),
    )
    answers = types["tool.complete"] + types["tool.failure"]

    assert FACTS[name] == (
        types["tool.attempt"],
        answers,
        types["model.response"],
        tokens,
    )
    told = Counter(
        (event.event_type, event.tool_call_id)
        for event in events
        if event.event_type.startswith("tool.") and event.tool_call_id
    )
    assert max(told.values(), default=1) == 1
    for event in events:
        has_tokens = event.input_tokens is not None or event.output_tokens is not None
        assert not has_tokens or event.event_type == "model.response"


def test_a_session_has_one_key(recording: Recording) -> None:
    """All that belongs together is published under one session."""
    sessions = {event.session_id for event in recording.events}

    assert len(sessions) <= 2
    for turn in {event.turn_id for event in recording.events} - {None}:
        of_turn = {
            event.session_id for event in recording.events if event.turn_id == turn
        }
        assert len(of_turn) == 1
