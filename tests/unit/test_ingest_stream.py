"""A stream knows its events, their time, and what is published of it."""

from __future__ import annotations

import contextlib
import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from fleetwake.consumers.ingest.follow import Followed
from fleetwake.consumers.ingest.lines import MAX_LINE_BYTES, Line, opened
from fleetwake.consumers.ingest.mapping import SHIFTED, LineMapper
from fleetwake.consumers.ingest.stream import Stream, Way, default_session
from fleetwake.producer.adapters.mapping import REPAIRED, UnmappableError
from fleetwake.schemas.checks import MAX_TIME_US
from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwake.schemas.event import AuditEvent

NOW_US = 1_790_000_000_000_000


def way(tmp_path: Path, **given: Any) -> Way:
    """What is asked for."""
    options: dict[str, Any] = {
        "format_": "auto",
        "session_id": None,
        "agent_id": None,
        "is_shifted": False,
        "destination": "here/events",
        "bookmarks": tmp_path / "marks",
        "restart": False,
    }
    return Way(**options | given)


def mark(at: int = 0, **fields: Any) -> bytes:
    """A line of a native event."""
    record = {"event_type": "mark", "session_id": "s", "occurred_at": at} | fields
    return json.dumps(record).encode() + b"\n"


def events(path: Path, way: Way, *, until: int | None = None) -> list[AuditEvent]:
    """Those that are not published; the place after `until` lines is kept."""
    found = []
    with opened(str(path)) as source:
        stream = Stream(str(path), source, way, now_us=NOW_US)
        while line := stream.reader.read():
            mapped = [] if line.is_blank else stream.map(line)
            if not stream.is_published:
                found += [one.event for one in mapped]
            if line.number == until and stream.bookmark:
                stream.bookmark.write(stream.place())
    return found


def lines(*texts: bytes) -> list[Line]:
    """Numbered lines."""
    return [Line(n, text, True, True) for n, text in enumerate(texts, 1)]


def mapper(**given: Any) -> LineMapper:
    """Of one stream."""
    return LineMapper(**{"format_": "auto", "session_id": "x"} | given)


def test_a_file_goes_on_where_it_was(tmp_path: Path) -> None:
    """Its published lines do not come again; ids are the same."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(mark(1) + b"\n" + mark(2) + mark(3))
    first = events(path, way(tmp_path), until=3)
    path.write_bytes(path.read_bytes() + mark(4))
    again = events(path, way(tmp_path), until=5)

    assert [1, 2, 3] == [one.occurred_at for one in first]
    assert [3, 4] == [one.occurred_at for one in again]
    assert first[2].event_id == again[0].event_id
    assert events(path, way(tmp_path)) == []


def test_another_way_begins_anew(tmp_path: Path) -> None:
    """Other sessions, another Kafka, shifted times, or when it is asked for."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(mark(1))
    events(path, way(tmp_path), until=1)
    ways: list[dict[str, Any]] = [
        {"session_id": "t"},
        {"agent_id": "t"},
        {"format_": "native"},
        {"destination": "there"},
        {"is_shifted": True},
        {"restart": True},
    ]

    assert [1] * 6 == [len(events(path, way(tmp_path, **one))) for one in ways]


def test_another_file_of_the_same_name_begins_anew(tmp_path: Path) -> None:
    """A changed or a shorter beginning is another file."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(mark(1) + mark(2))
    events(path, way(tmp_path), until=2)
    path.write_bytes(mark(1) + mark(3) + mark(4))
    changed = events(path, way(tmp_path))
    path.write_bytes(mark(1))
    shorter = events(path, way(tmp_path))

    assert [1, 3, 4] == [one.occurred_at for one in changed]
    assert [1] == [one.occurred_at for one in shorter]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_last_line_that_gets_its_end_later_is_known(
    end: bytes, tmp_path: Path
) -> None:
    """It was published without; what follows it was not."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(mark(1) + mark(2).rstrip())
    events(path, way(tmp_path), until=2)
    path.write_bytes(mark(1) + mark(2).rstrip() + end + mark(3))
    again = events(path, way(tmp_path), until=2)
    path.write_bytes(mark(1) + mark(2).rstrip()[:-1] + b', "turn_id": "t"}')

    assert [3] == [one.occurred_at for one in again]
    assert ["", "t"] == [one.turn_id or "" for one in events(path, way(tmp_path))]


def test_a_compressed_file_that_is_shorter_now_begins_anew(tmp_path: Path) -> None:
    """Also if it is cut where it is packed."""
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(mark(1) + mark(2)))
    events(path, way(tmp_path), until=2)
    path.write_bytes(gzip.compress(mark(1))[:-8])

    with pytest.raises(ConfigurationError, match="cannot be read"):
        events(path, way(tmp_path))


def test_compressed_files_go_on_too(tmp_path: Path) -> None:
    """Their places are those of the content."""
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(mark(1) + mark(2)))
    events(path, way(tmp_path), until=1)

    assert [2] == [one.occurred_at for one in events(path, way(tmp_path))]


def test_shifted_events_end_now(tmp_path: Path) -> None:
    """With their distances; they say so and are other events than the original."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(mark(100) + b"broken\n" + mark(900) + mark(300))
    way_there = way(tmp_path, is_shifted=True)
    with opened(str(path)) as source:
        stream = Stream(str(path), source, way_there, now_us=NOW_US)
        found = []
        while line := stream.reader.read():
            if line.number != 2:
                found += [one.event for one in stream.map(line)]

    assert [NOW_US - 800, NOW_US, NOW_US - 600] == [one.occurred_at for one in found]
    assert {str(NOW_US - 900)} == {one.attributes[SHIFTED] for one in found}
    path.write_bytes(mark(100))
    assert found[0].event_id != events(path, way(tmp_path))[0].event_id


def test_a_shift_stays_the_same_when_it_goes_on(tmp_path: Path) -> None:
    """Though it is later by then: distances and ids hold."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(mark(100) + mark(200))
    shifted = way(tmp_path, is_shifted=True)
    first = events(path, shifted, until=1)
    path.write_bytes(path.read_bytes() + mark(300))
    again = events(path, shifted)

    assert first[1].event_id == again[0].event_id
    assert [NOW_US, NOW_US + 100] == [one.occurred_at for one in again]


def test_a_time_that_cannot_be_shifted_is_refused(tmp_path: Path) -> None:
    """It would be before 1970 or after 9999; one without a time is the producer's."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(mark(100) + mark(MAX_TIME_US) + mark(0))
    with opened(str(path)) as source:
        stream = Stream(
            str(path), source, way(tmp_path, is_shifted=True), now_us=1, is_growing=True
        )
        first, second, third = (stream.reader.read() for _ in range(3))
        assert first
        assert second
        assert third
        ((moved, _),) = stream.map(first)
        ((latest, _),) = stream.map(second)
        ((timeless, _),) = stream.map(third)

    assert (moved.occurred_at, latest.occurred_at) == (1, MAX_TIME_US - 99)
    assert timeless.occurred_at == 0


def test_formats_mix_in_one_file() -> None:
    """Each line is of its own; the stand-in session is for those that need one."""
    calute = {
        "event_type": "turn_start",
        "timestamp": "2026-04-09T10:00:00+00:00",
        "agent_id": None,
        "turn_id": None,
        "session_id": None,
        "severity": "info",
        "metadata": {},
        "prompt_preview": "",
    }
    of = mapper()
    first, second = lines(mark(1), json.dumps(calute).encode())
    ((native, _),) = of.map(first)
    ((other, _),) = of.map(second)

    assert [("native", "s"), ("calute", "x")] == [
        (one.source, one.session_id) for one in (native, other)
    ]


def test_a_number_that_is_none_is_noted() -> None:
    """The event is taken, its column is empty."""
    line = b'{"event_type": "mark", "session_id": "s", "duration_ms": NaN}'
    ((event, _),) = mapper().map(*lines(line))

    assert (None, "not_finite") == (event.duration_ms, event.attributes[REPAIRED])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (Line(1, b"{}", False, True), "too_long"),
        (Line(1, b"{}", True, True), "unknown_format"),
        (Line(1, b"{", True, True), "not_json"),
        (Line(1, b'{"event_type": "mark"}', True, True), "invalid_event"),
    ],
)
def test_lines_that_make_no_event_have_a_reason(line: Line, reason: str) -> None:
    """A word that is counted."""
    with pytest.raises(UnmappableError) as caught:
        mapper().map(line)

    assert reason == caught.value.reason


def test_deep_json_is_set_aside_whatever_the_parser_takes() -> None:
    """No depth ends the program."""
    of = mapper()
    for depth in range(100, 3_000, 100):
        payload = b"[" * depth + b"]" * depth
        line = b'{"event_type": "mark", "session_id": "s", "payload": %s}' % payload
        with contextlib.suppress(UnmappableError):
            assert of.map(*lines(line))


def test_native_lines_from_a_pipe_are_new_events_each_time() -> None:
    """Unless they have a time or an id of their own."""
    live = mapper(is_live=True)
    timeless, timed, named = lines(mark(), mark(1), mark(event_id="e"))
    ids = [live.map(line)[0].event.event_id for line in (timeless, timed, named)]

    assert ["", "e"] == [ids[0], ids[2]]
    assert ids[1]
    assert mapper().map(timeless)[0].event.event_id


def test_the_stand_in_session_is_the_files_stem() -> None:
    """So that each file is a session of its own."""
    assert ["run-7", "a.2026", "stdin"] == [
        default_session(file) for file in ("/x/run-7.jsonl", "a.2026.jsonl.gz", "-")
    ]


def test_five_megabytes_are_taken() -> None:
    """A line has eight at most."""
    document = "x" * 5_000_000
    ((event, _),) = mapper().map(*lines(mark(1, payload={"data": document})))

    assert len(event.payload or "") > 5_000_000
    assert MAX_LINE_BYTES > 5_000_000


class Follow:
    """A followed path, and what it gives."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path / "a.jsonl"
        self.followed = Followed(str(self.path), way(tmp_path), lambda: NOW_US)

    def append(self, content: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(content)

    def read(self) -> list[int]:
        """The times of what is there now; read until twice nothing is there."""
        found, empty = [], 0
        while empty < 2:
            line = self.followed.read()
            empty = empty + 1 if line is None else 0
            if line is not None and self.followed.stream is not None:
                found += [
                    one.event.occurred_at for one in self.followed.stream.map(line)
                ]
        return found


def test_a_file_is_followed_while_it_grows(tmp_path: Path) -> None:
    """From before it is there; half a line waits."""
    follow = Follow(tmp_path)
    nothing = follow.read()
    follow.append(mark(1) + mark(2)[:9])
    first = follow.read()
    follow.append(mark(2)[9:])
    second = follow.read()

    assert ([], [1], [2]) == (nothing, first, second)
    follow.followed.close()


def test_a_file_that_is_replaced_is_read_to_its_end(tmp_path: Path) -> None:
    """As logrotate does it; also what its writer adds before it lets go."""
    follow = Follow(tmp_path)
    follow.append(mark(1))
    first = follow.read()
    old = follow.path.rename(tmp_path / "a.jsonl.1")
    with old.open("ab") as file:
        file.write(mark(2))
    between = follow.read()
    with old.open("ab") as file:
        file.write(mark(3).rstrip())
    follow.append(mark(4))

    assert ([1], [2], [3, 4]) == (first, between, follow.read())
    follow.followed.close()


def test_a_file_that_is_cut_begins_anew(tmp_path: Path) -> None:
    """As logrotate's copytruncate does it."""
    follow = Follow(tmp_path)
    follow.append(mark(1) + mark(2))
    first = follow.read()
    follow.path.write_bytes(mark(3))

    assert ([1, 2], [3]) == (first, follow.read())
    follow.followed.close()


def test_a_compressed_file_cannot_be_followed(tmp_path: Path) -> None:
    """Nobody appends to it."""
    follow = Follow(tmp_path)
    follow.path.write_bytes(gzip.compress(mark(1)))

    with pytest.raises(ConfigurationError, match="not followed"):
        follow.read()
    follow.followed.close()
