"""The recordings of the source systems lose nothing on their way into events."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

from fleetwake.consumers.demo.recorded import (
    RECORDINGS,
    read_recording,
    recorded_events,
)
from fleetwake.consumers.demo.shift import SHIFTED_ATTRIBUTE
from fleetwake.schemas.codec import encode

NOW_US = 1_790_000_000_000_000
FOLDER = files("fleetwake.consumers.demo") / "recordings"


def lines(recording: str) -> list[str]:
    """The file as it is bundled."""
    return (FOLDER / recording).read_text("utf-8").splitlines()


@pytest.mark.parametrize("recording", RECORDINGS)
def test_every_line_becomes_an_event(recording: str) -> None:
    """What adapters promise is in test_adapters_contract.py."""
    events = read_recording(recording)

    assert len(lines(recording)) <= len(events)
    assert len(events) == len({event.event_id for event in events})


@pytest.mark.parametrize("recording", RECORDINGS)
def test_events_of_recordings_can_be_written(recording: str) -> None:
    """Each names a session and passes the strict codec."""
    for number, event in enumerate(read_recording(recording), start=1):
        stamped = event._replace(producer_id="p", sequence=number, recorded_at=1)

        assert event.session_id
        assert encode(stamped)


def test_every_bundled_recording_is_read_and_described() -> None:
    """No file is left out, none is without its origin."""
    bundled = {one.name for one in FOLDER.iterdir() if one.name.endswith(".jsonl")}

    assert set(RECORDINGS) == bundled
    for name in bundled:
        assert f"`{name}`" in (FOLDER / "SOURCES.md").read_text("utf-8")


def test_no_bundled_recording_holds_a_credential() -> None:
    """Not even an invented one goes to a topic."""
    for recording in RECORDINGS:
        for line in lines(recording):
            assert "bearer" not in line.lower()


def test_calutes_warning_of_level_ok_is_no_loop_warning() -> None:
    """Its runtime warns of every call; only real warnings count."""
    (calute,) = (one for one in RECORDINGS if one.startswith("calute"))
    levels = {
        json.loads(event.payload or "")["severity_level"]
        for event in read_recording(calute)
        if event.event_type == "loop.warning"
    }

    assert {"warning"} == levels


def test_recorded_events_are_moved_to_now_and_marked() -> None:
    """Each recording's last event is now; the times between stay what they were."""
    shifted = {event.event_id: event for event in recorded_events(NOW_US)}
    for recording in RECORDINGS:
        before = read_recording(recording)
        after = [shifted[event.event_id] for event in before]
        moved = {
            b.occurred_at - a.occurred_at for a, b in zip(before, after, strict=True)
        }

        assert max(event.occurred_at for event in after) == NOW_US
        assert len(moved) == 1
        assert {"true"} == {event.attributes[SHIFTED_ATTRIBUTE] for event in after}


def test_children_of_a_scope_share_its_session() -> None:
    """ATOF names the session on one scope only."""
    for recording in RECORDINGS:
        if recording.startswith("nemo_"):
            *inside, outside = read_recording(recording)

            assert {"sess-7"} == {event.session_id for event in inside}
            assert outside.session_id != "sess-7"


def test_what_is_not_known_stays_unknown() -> None:
    """A scope that ends without a status is no success."""
    (flow,) = (one for one in RECORDINGS if one.startswith("nemo_flow"))
    ends = [one for one in read_recording(flow) if one.event_type == "tool.complete"]

    assert {"unknown"} == {event.outcome for event in ends}
