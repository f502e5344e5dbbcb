"""`fleetwake convert`: what adapters make of lines, without a broker."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from fleetwake.consumers.cli.app import app
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.models import parse_event

if TYPE_CHECKING:
    from click.testing import Result

RECORDINGS = Path(str(files("fleetwake.consumers.demo") / "recordings"))
FILES = sorted(RECORDINGS.glob("*.jsonl"))
SECRET = "ghp_" + "0123456789abcdefghijABCDEFGHIJ012345"


def convert(*arguments: str, text: str | bytes | None = None) -> Result:
    """Run it."""
    return CliRunner().invoke(
        app, ["convert", *arguments], input=text, prog_name="fleetwake"
    )


def rows(told: Result) -> list[dict[str, Any]]:
    """What it prints."""
    return [json.loads(line) for line in told.stdout.splitlines()]


def mark(**fields: Any) -> str:
    """A line of a native event."""
    return json.dumps({"event_type": "mark", "session_id": "s"} | fields) + "\n"


@pytest.mark.parametrize("file", FILES, ids=lambda one: one.stem)
def test_every_recording_is_converted(file: Path) -> None:
    """In its order, each line to one event; fields are those of the schema."""
    told = convert("--no-redact", str(file))
    lines = file.read_text("utf-8").splitlines()
    found = rows(told)

    assert (0, "") == (told.exit_code, told.stderr)
    assert {AuditEvent._fields} == {tuple(row) for row in found}
    if "audit_trace" not in file.name:
        assert [json.loads(line) for line in lines] == [
            json.loads(row["payload"]) for row in found
        ]
    assert len(found) >= len(lines)


@pytest.mark.parametrize("file", FILES, ids=lambda one: one.stem)
def test_what_it_prints_can_be_taken_in(file: Path) -> None:
    """As native lines, which come out as they went in."""
    once = convert(str(file)).stdout
    again = convert("--format", "native", "-", text=once)

    assert again.exit_code == 0
    assert once == again.stdout
    assert all(parse_event(line) for line in once.splitlines())


def test_formats_are_found_line_by_line() -> None:
    """All systems in one stream."""
    lines = [file.read_text("utf-8").splitlines()[0] for file in FILES]
    told = convert("-", text="\n".join([*lines, mark()]))

    assert told.exit_code == 0
    assert {"calute", "agent_framework", "agent_sdk", "atof", "native"} == {
        row["source"] for row in rows(told)
    }


def test_broken_lines_are_told_with_number_and_reason() -> None:
    """The others are converted; exit code 1."""
    told = convert("-", text=mark() + "\nbroken\n" + mark() + '{"a": 1}')

    assert told.exit_code == 1
    assert len(rows(told)) == 2
    assert [3, 5] == [
        int(line.split()[1].rstrip(":")) for line in told.stderr.splitlines()
    ]
    assert "line 3: not_json: " in told.stderr
    assert "line 5: unknown_format: " in told.stderr


def test_sessions_and_agents_stand_in(tmp_path: Path) -> None:
    """Where a source names none: the option, else the file's stem, else stdin."""
    line = (RECORDINGS / "agent_sdk_0.9.2_tool_audit_records.jsonl").read_text("utf-8")
    file = tmp_path / "run-7.jsonl"
    file.write_text(line)
    asked = ("--session", "s-1", "--agent", "a-1")
    found = [
        rows(told)[0]
        for told in (
            convert(str(file)),
            convert("-", text=line),
            convert(str(file), *asked),
        )
    ]

    assert [("run-7", None), ("stdin", None), ("s-1", "a-1")] == [
        (row["session_id"], row["agent_id"]) for row in found
    ]


def test_what_only_a_producer_knows_is_empty() -> None:
    """Nobody has published it; it is stamped when it is ingested."""
    (row,) = rows(convert("-", text=mark()))

    assert (0, 0, "") == (row["recorded_at"], row["sequence"], row["producer_id"])
    assert row["event_id"]


def test_credentials_are_taken_out_unless_asked_for() -> None:
    """Of events, and of what is said of broken lines."""
    text = mark(payload={"token": SECRET}, reason=SECRET) + mark(**{SECRET: 1})
    told, raw = convert("-", text=text), convert("--no-redact", "-", text=text)

    assert SECRET not in told.output
    assert SECRET in raw.stdout
    assert SECRET not in raw.stderr


def test_what_is_said_of_broken_lines_obeys_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The house's own patterns too."""
    monkeypatch.setenv("FLEETWAKE_CONTENT_REDACT_PATTERNS", '{"badge": "BADGE-[0-9]+"}')
    told = convert("-", text=mark(**{"BADGE-1234": 1}))

    assert "invalid_event" in told.stderr
    assert "BADGE-1234" not in told.output


def test_hostile_bytes_end_nothing() -> None:
    """Each line is told, or converted."""
    text = b"\xff\n\0\0\n" + b"[" * 100_000 + b"\n\xef\xbb\xbf" + mark().encode()
    told = convert("-", text=text)

    assert told.exit_code == 1
    assert len(rows(told)) == 1
    assert len(told.stderr.splitlines()) == 3


def test_a_file_that_is_not_there_is_named() -> None:
    """Exit code 2."""
    told = convert("/no/such/file.jsonl")

    assert told.exit_code == 2
    assert "/no/such/file.jsonl cannot be read" in told.stderr
