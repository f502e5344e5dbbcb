"""What the demonstration publishes, and what it says of a file that it cannot use."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from fleetwake.consumers.demo.inputs import choose, read_files
from fleetwake.consumers.demo.shift import SHIFTED_ATTRIBUTE
from fleetwake.schemas.codec import encode
from fleetwake.schemas.errors import ConfigurationError
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.models import to_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NOW_US = 1_790_000_000_000_000


def row(session: str, seq: int, kind: str, **fields: Any) -> dict[str, Any]:
    """A row of a trajectory."""
    return {"session_id": session, "seq": seq, "kind": kind, "source": "own"} | fields


def call(session: str, seq: int, *, error: str | None = None) -> list[dict[str, Any]]:
    """A call and its answer: the same each time, or an error."""
    name = {"tool": "look", "call_id": f"c{seq}"}
    return [
        row(session, seq, "tool_call", args={"at": "the sea"}, **name),
        row(
            session,
            seq + 1,
            "tool_result",
            result=error or "only waves",
            result_len=len(error or "only waves"),
            error=error,
            **name,
        ),
    ]


def write(path: Path, records: Iterable[dict[str, Any]]) -> Path:
    """JSON lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_every_row_of_a_trajectory_becomes_an_event(tmp_path: Path) -> None:
    """Beside the start of each session; ids are unique, the last event is now."""
    rows = [row("a", 0, "user", text="what is there?")]
    rows += call("a", 1) + call("a", 3, error="fog") + call("b", 0)
    events = read_files([write(tmp_path / "own.jsonl", rows)], NOW_US)

    assert len(rows) + 2 == len(events)
    assert len({event.event_id for event in events}) == len(events)
    assert max(event.occurred_at for event in events) == NOW_US
    assert {"true"} == {event.attributes[SHIFTED_ATTRIBUTE] for event in events}
    for event in events:
        assert encode(event._replace(producer_id="p", sequence=1, recorded_at=1))


def test_rows_of_a_session_keep_their_order(tmp_path: Path) -> None:
    """By their sequence, whatever the order of the lines."""
    rows = call("a", 1) + call("a", 3) + [row("a", 0, "user", text="look")]
    events = read_files([write(tmp_path / "own.jsonl", reversed(rows))], NOW_US)

    assert [event.event_type for event in events] == [
        "session.start",
        "user.input",
        "tool.attempt",
        "tool.complete",
        "tool.attempt",
        "tool.complete",
    ]


def test_equal_calls_of_a_trajectory_have_equal_digests(tmp_path: Path) -> None:
    """So that a recorded loop is found."""
    rows = call("a", 0) + call("a", 2) + call("a", 4, error="fog")
    events = read_files([write(tmp_path / "own.jsonl", rows)], NOW_US)
    attempts = [event for event in events if event.event_type == "tool.attempt"]
    answers = [event.outcome_digest for event in events if event.result_preview]

    assert len({event.arguments_digest for event in attempts}) == 1
    assert answers[0] == answers[1] != answers[2]
    assert (events[-1].event_type, events[-1].error_message) == ("tool.failure", "fog")


def test_cut_results_differ_where_the_whole_ones_did(tmp_path: Path) -> None:
    """A row holds the head of a long result, and the digest of the whole."""
    name = {"tool": "look", "call_id": "c", "result": "waves", "result_len": 9_000}
    rows = [
        row("a", seq, "tool_result", result_sha=sha, **name)
        for seq, sha in enumerate(["x", "x", "y"])
    ]
    events = read_files([write(tmp_path / "own.jsonl", rows)], NOW_US)
    first, second, third = (event.outcome_digest for event in events[1:])

    assert first == second != third


def test_long_texts_are_cut_in_the_payload(tmp_path: Path) -> None:
    """And the payload stays JSON."""
    rows = [row("a", 0, "user", text="wave " * 100_000)]
    events = read_files([write(tmp_path / "own.jsonl", rows)], NOW_US)
    payload = events[-1].payload or ""

    assert len(payload) < 5_000
    assert json.loads(payload)["text"].startswith("wave wave")


def test_native_events_are_read_beside_trajectories(tmp_path: Path) -> None:
    """Each file is known by its lines, compressed or not."""
    event = AuditEvent(
        event_id="3f0e1c7e-0a52-5f52-9d11-0d6f5f0f3c11",
        source="native",
        source_event_type="mark",
        event_type="mark",
        occurred_at=1_600_000_000_000_000,
        recorded_at=1_600_000_000_000_000,
        session_id="s",
        producer_id="p",
        sequence=1,
    )
    packed = tmp_path / "native.bin"
    packed.write_bytes(gzip.compress(to_json(event).encode() + b"\n"))
    found = read_files([write(tmp_path / "rows.jsonl", call("a", 0)), packed], NOW_US)

    assert [event.event_type for event in found] == [
        "session.start",
        "tool.attempt",
        "tool.complete",
        "mark",
    ]
    assert found[-1].occurred_at == NOW_US
    assert found[-1].event_id == event.event_id


def test_native_events_without_a_time_are_left_to_the_producer(tmp_path: Path) -> None:
    """It stamps them when it takes them."""
    path = tmp_path / "short.jsonl"
    path.write_text('{"event_type": "mark", "session_id": "s"}\n')
    (event,) = read_files([path], NOW_US)

    assert event.occurred_at == 0


@pytest.mark.parametrize(
    "content",
    [
        b"no json\n",
        b"[1]\n",
        b'{"event_type": "mark"}\n',
        b'{"seq": "x", "kind": "user", "session_id": "a"}\n',
        b'{"seq": 0, "kind": "user", "session_id": ""}\n',
        b"\xff\xfe\n",
        b"\x1f\x8bno gzip",
    ],
)
def test_file_that_holds_something_else_is_named(
    tmp_path: Path, content: bytes
) -> None:
    """One line that says which file, and where."""
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=r"bad\.jsonl") as caught:
        read_files([path], NOW_US)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    """As any that cannot be read."""
    with pytest.raises(ConfigurationError, match=r"none\.jsonl"):
        read_files([tmp_path / "none.jsonl"], NOW_US)


def choices(tmp_path: Path, **given: Any) -> str:
    """Where the events come from."""
    options = {"sessions": None, "seed": None, "trajectories": tmp_path / "real"}
    return choose([], now_us=NOW_US, **(options | given)).origin


def test_real_trajectories_go_before_the_bundled_fleet(tmp_path: Path) -> None:
    """Where they are, unless a fleet of a size or seed is asked for."""
    (tmp_path / "real").mkdir()
    assert "bundled" in choices(tmp_path)

    write(tmp_path / "real" / "own.sessions.jsonl", [{"session_id": "a"}])
    assert "bundled" in choices(tmp_path)

    write(tmp_path / "real" / "own.jsonl", call("a", 0))
    assert "trajectories" in choices(tmp_path)
    assert "20 sessions" in choices(tmp_path, sessions=20)
    assert "seed 0" in choices(tmp_path, seed=0)


def test_recordings_of_the_source_systems_come_along(tmp_path: Path) -> None:
    """Beside whatever is chosen, all in the order of time."""
    path = write(tmp_path / "own.jsonl", call("a", 0))
    chosen = choose(
        [path], sessions=None, seed=None, trajectories=tmp_path, now_us=NOW_US
    )
    times = [event.occurred_at for event in chosen.events]

    assert {"calute", "agent_framework", "agent_sdk", "atof", "trajectory"} == {
        event.source for event in chosen.events
    }
    assert sorted(times) == times
