"""Every line is published, set aside, or known to be there; and the account says so."""

from __future__ import annotations

import gzip
import io
import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from fleetwake.consumers.cli.account import Account, rejects_file
from fleetwake.consumers.cli.ingest import _Work
from fleetwake.consumers.ingest.keeper import Keeper
from fleetwake.consumers.ingest.lines import opened
from fleetwake.consumers.ingest.run import Ingestion, NotTakenError
from fleetwake.consumers.ingest.stream import Stream, Way
from fleetwake.producer.settings import ProducerSettings
from fleetwake.producer.testing import MemoryLog, memory_producer
from fleetwake.schemas.errors import ConfigurationError
from fleetwake.schemas.event import AuditEvent

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwake.consumers.ingest.lines import Line

SECRET = "ghp_" + "0123456789abcdefghijABCDEFGHIJ012345"


def mark(**fields: Any) -> bytes:
    """A line of a native event."""
    record = {"event_type": "mark", "session_id": "s", "occurred_at": 1} | fields
    return json.dumps(record).encode() + b"\n"


class Run:
    """One run of `fleetwake ingest` over one file, to a log in memory."""

    def __init__(self, tmp_path: Path, log: MemoryLog | None = None) -> None:
        self.log = log or MemoryLog()
        self.path = tmp_path / "a.jsonl"
        self.rejects = io.StringIO()
        self.account = Account(self.rejects)
        self.way = Way(
            format_="auto",
            session_id=None,
            agent_id=None,
            is_shifted=False,
            destination="here",
            bookmarks=tmp_path / "marks",
            restart=False,
        )

    def __call__(self, content: bytes, *, room: int = 20_000) -> Account:
        """Ingest a file of this content, and return the account."""
        self.path.write_bytes(content)
        settings = ProducerSettings(
            queue_max_events=room, on_full="block", block_timeout_s=0.1
        )
        producer, _ = memory_producer(settings, log=self.log, strict=False)
        keeper = Keeper(producer, 5)
        ingestion = Ingestion(producer, keeper, self.account, 5)
        is_delivered = False
        try:
            with opened(str(self.path)) as source:
                stream = Stream(str(self.path), source, self.way, now_us=1)
                while line := stream.reader.read():
                    ingestion.take(stream, line)
                ingestion.keep(stream)
            is_delivered = producer.close()
        finally:
            producer.close(0.1)
            keeper.close(is_delivered=is_delivered)
        self.account.tell(producer.statistics(), keeper.problem)
        return self.account


def test_the_account_adds_up(tmp_path: Path) -> None:
    """Lines are taken, blank, there already, or refused for a reason."""
    counts = Run(tmp_path)(mark() + b"\n").counts
    again = Run(tmp_path)
    more = again(mark() + b"\n" + mark() + b"broken\n{}\n[\n").counts

    assert (2, 1, 1, 0) == (counts.lines, counts.taken, counts.blank, counts.already)
    assert (6, 1, 1, 1) == (more.lines, more.taken, more.blank, more.already)
    assert {"not_json": 2, "unknown_format": 1} == more.refused
    assert [b"broken", b"{}", b"["] == [one.value for one in again.log.dead_letters()]
    assert not again.account.is_clean


def test_a_dead_letter_says_where_it_comes_from(tmp_path: Path) -> None:
    """The file and the line, and what is wrong."""
    run = Run(tmp_path)
    run(mark() + b"broken\n")
    (letter,) = run.log.dead_letters()

    assert ("not_json", str(run.path), "2") == (
        letter.reason,
        letter.origin["file"],
        letter.origin["line"],
    )
    assert "broken" not in letter.error


def test_an_event_that_stays_too_large_is_set_aside(tmp_path: Path) -> None:
    """Though its payload and texts are cut; the lines around it are taken."""
    many = {f"name-{number}": "x" * 40 for number in range(30_000)}
    run = Run(tmp_path)
    counts = run(mark() + mark(attributes=many) + mark(payload="x" * 5_000_000)).counts

    small, large = [one for one in run.log.events("s") if one.event_type == "mark"]

    assert {"too_large": 1} == counts.refused
    assert small.payload is None
    assert large.payload_chars == 5_000_000


def test_without_room_it_stops_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """Nothing is skipped."""
    log = MemoryLog()
    log.is_away = True
    run = Run(tmp_path, log)
    content = b"".join(mark(turn_id=f"t{number}") for number in range(50))
    with pytest.raises(NotTakenError, match="queue_full"):
        run(content, room=10)
    log.is_away = False
    counts = Run(tmp_path, log)(content).counts

    assert counts.already == 0
    assert {f"t{number}" for number in range(50)} <= {
        event.turn_id for event in log.events()
    }


def test_half_a_last_line_is_read_again(tmp_path: Path) -> None:
    """When it is whole; nothing before it comes twice."""
    run = Run(tmp_path)
    whole = mark(turn_id="whole")
    first = run(mark() + whole[:30]).counts
    second = Run(tmp_path)(mark() + whole).counts

    assert {"not_json": 1} == first.refused
    assert (1, 1) == (second.already, second.taken)


def test_dead_letters_wait_for_room_too(tmp_path: Path) -> None:
    """`reject` does not, so the reader does."""
    run = Run(tmp_path)
    counts = run(b"broken\n" * 5_000, room=2_000).counts

    assert {"not_json": 5_000} == counts.refused
    assert len(run.log.dead_letters()) == 5_000


def test_what_is_told_of_refused_lines_is_redacted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the file and on the terminal; only the first are told one by one."""
    run = Run(tmp_path)
    lines = [mark(**{SECRET: number}) for number in range(25)]
    run(b"".join(lines) + f"token {SECRET}\n".encode())
    told = capsys.readouterr().err
    written = [json.loads(line) for line in run.rejects.getvalue().splitlines()]

    assert SECRET not in told + run.rejects.getvalue()
    assert len(written) == 26
    assert {"file", "line", "reason", "problem", "text"} == written[0].keys()
    assert 20 == told.count("invalid_event: ")
    assert "further refused lines are counted" in told
    assert "25 invalid_event, 1 not_json" in told


def test_rejects_are_appended_and_their_owners_only(tmp_path: Path) -> None:
    """A second run keeps what the first one wrote."""
    path = tmp_path / "rejects.jsonl"
    for text in ("one\n", "two\n"):
        with rejects_file(path) as file:
            assert file is not None
            file.write(text)

    assert path.read_text() == "one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigurationError, match="cannot be written"):
        rejects_file(tmp_path / "no" / "rejects").__enter__()


def test_a_refused_line_is_in_the_file_at_once(tmp_path: Path) -> None:
    """Whoever follows it sees it, and kill -9 loses none."""
    path = tmp_path / "rejects.jsonl"
    with rejects_file(path) as file:
        assert file is not None
        file.write("one\n")

        assert path.read_text() == "one\n"


@pytest.mark.parametrize("policy", ["full", "hash", "metadata"])
def test_what_is_told_of_refused_lines_obeys_the_settings(
    policy: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The house's own names and patterns, and the policy: as for dead letters."""
    monkeypatch.setenv("FLEETWAKE_CONTENT_POLICY", policy)
    monkeypatch.setenv("FLEETWAKE_CONTENT_REDACT_NAMES", '["x-house-ticket"]')
    monkeypatch.setenv("FLEETWAKE_CONTENT_REDACT_PATTERNS", '{"badge": "BADGE-[0-9]+"}')
    run = Run(tmp_path)
    run(mark(**{"BADGE-1234": "plain", "x_house_ticket": "T4711"}))
    told = capsys.readouterr().err + run.rejects.getvalue()

    assert "BADGE-1234" not in told
    assert "T4711" not in told
    assert ("plain" in told) == (policy == "full")
    assert ("fleetwake_sha256" in told) == (policy == "hash")


def test_what_is_acknowledged_is_told_when_it_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing counts as published that is not in Kafka."""
    account = Account(None)
    account.counts.lines = account.counts.taken = account.counts.events = 7
    producer, log = memory_producer(ProducerSettings(on_full="block"), strict=False)
    log.is_away = True
    producer.emit(AuditEvent(event_type="mark", session_id="s"))
    producer.close(0.1)
    account.tell(producer.statistics(), None)
    told = capsys.readouterr().err

    assert "7 events published" not in told
    assert " 0 are acknowledged by Kafka" in told
    assert not account.is_clean


def test_a_file_that_breaks_is_kept_up_to_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lines before the break are not published again."""
    taken: list[int] = []
    kept: list[int] = []

    class Taking:
        def take(self, _: Stream, line: Line) -> None:
            taken.append(line.number)

        def keep(self, stream: Stream) -> None:
            kept.append(stream.reader.number)

    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(mark() * 3)[:-8])
    work = _Work(cast("Any", Taking()), Account(None))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        work.read([str(path)], Run(tmp_path).way)

    assert ([1, 2, 3], [3]) == (taken, kept)
    assert capsys.readouterr().out == ""
