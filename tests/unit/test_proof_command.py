"""`fleetwake archive verify` and `fleetwake keys`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from tests.proving import Proven
from typer.testing import CliRunner

from fleetwake.consumers.cli import app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path) -> Iterator[None]:
    """Options go into the environment: put it back."""
    saved = dict(os.environ)
    os.environ["FLEETWAKE_HOME"] = str(tmp_path)
    yield
    os.environ.clear()
    os.environ.update(saved)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, prog_name="fleetwake")


@pytest.fixture(name="made")
def _made(tmp_path: Path) -> Proven:
    made = Proven(tmp_path)
    made.file(0, 5)
    made.file(0, 3)
    made.list(0)
    return made


def test_a_whole_archive_is_ok(made):
    """It says how much was looked at, and whom it trusts."""
    told = call("archive", "verify")
    key = made.signer.now().key_id

    assert 0 == told.exit_code
    assert "ok: 8 rows in 2 files" in told.stderr
    assert f"trusted: key {key}" in told.stderr
    assert "fleetwake.events[0]" in told.stdout


def test_partitions_without_a_row_are_one_line(made):
    """A topic may have hundreds of them; their lists were checked all the same."""
    made.list(1)
    made.list(2)
    told = call("archive", "verify")

    assert 0 == told.exit_code
    assert "fleetwake.events[0]" in told.stdout
    assert ["2", "empty", "0", "0", "2"] in [
        line.split() for line in told.stdout.splitlines()
    ]
    assert "2 empty: complete as of " in told.stderr
    assert "fleetwake.events[1]" not in told.output


def test_a_loss_is_named_with_its_place(made, tmp_path):
    """File, partition, offset, what was expected; exit code 5."""
    path = next((tmp_path / "archive").rglob("*5.parquet"))
    path.unlink()
    told = call("archive", "verify")

    assert 5 == told.exit_code
    assert "file.missing fleetwake.events[0] offset 5: it is gone" in told.stdout
    assert str(path) in told.stdout.replace("\n", "")
    assert "1 findings" in told.stderr


def test_programs_get_one_object(made, tmp_path):
    """With findings, what was checked, heads and trust."""
    told = call("archive", "verify", "--json")
    found = json.loads(told.stdout)

    assert found["ok"]
    assert {"findings", "partitions", "heads", "trust"} <= found.keys()
    next((tmp_path / "archive").rglob("*5.parquet")).unlink()
    told = call("archive", "verify", "--json")
    assert (5, ["file.missing"]) == (
        told.exit_code,
        [one["kind"] for one in json.loads(told.stdout)["findings"]],
    )


def test_hostile_names_cannot_write_to_the_terminal(made):
    """A session's name is somebody else's text."""
    first = made.event(0, "a\x1b]0;title\x07")
    made.sequences["a\x1b]0;title\x07", "p"] = 7
    made.append(0, first, made.event(0, "a\x1b]0;title\x07"))
    told = call("archive", "verify")

    assert 5 == told.exit_code
    assert "\x1b]" not in told.stdout + told.stderr


def test_nothing_archived_is_no_proof(tmp_path):
    """A wrong folder must not be taken for a whole archive."""
    told = call("archive", "verify", "--archive", str(tmp_path / "nowhere"))

    assert 1 == told.exit_code
    assert "nothing is archived" in told.stderr


def test_an_anchor_is_kept_only_of_what_is_whole(made, tmp_path):
    """Else it would bear witness to the damage."""
    anchor = tmp_path / "anchor.json"
    assert 0 == call("archive", "verify", "--anchor", str(anchor)).exit_code
    kept = anchor.read_bytes()
    made.file(0)
    made.list(0)
    next((tmp_path / "archive").rglob("*5.parquet")).unlink()

    assert 5 == call("archive", "verify", "--anchor", str(anchor)).exit_code
    assert kept == anchor.read_bytes()


def test_a_topic_that_cannot_be_asked_is_exit_code_4(made):
    """The rest was verified, and nothing is said of the topic."""
    told = call(
        *("archive", "verify", "--topic-check", "--bootstrap-servers", "127.0.0.1:1")
    )

    assert 4 == told.exit_code


def test_keys_are_made_shown_and_rotated():
    """By the commands that the messages name."""
    assert 0 == call("keys", "new").exit_code
    assert 2 == call("keys", "new").exit_code
    first = json.loads(call("keys", "list", "--json").stdout)[0]["key_id"]
    pem = call("keys", "show").stdout
    assert 0 == call("keys", "rotate").exit_code
    listed = json.loads(call("keys", "list", "--json").stdout)

    assert [first, True, True] == [
        listed[0]["key_id"],
        listed[0]["linked"],
        listed[1]["linked"],
    ]
    assert pem.startswith("-----BEGIN PUBLIC KEY-----")
    assert pem == call("keys", "show", first).stdout != call("keys", "show").stdout


def test_a_key_without_a_line_is_made_only_on_demand():
    """And shown as what it is."""
    call("keys", "new")
    assert 0 == call("keys", "new", "--unlinked").exit_code

    listed = json.loads(call("keys", "list", "--json").stdout)
    assert [True, False] == [one["linked"] for one in listed]


def test_there_is_nothing_to_rotate_or_show_without_a_key():
    """The error names the command that makes one."""
    for verb in ("rotate", "show"):
        assert 2 == call("keys", verb).exit_code
    assert "fleetwake keys new" in call("keys", "rotate").stderr


@pytest.mark.parametrize(
    ("group", "verb"),
    [("archive", "verify"), *(("keys", one) for one in ("new", "list", "show"))],
)
def test_each_verb_teaches(group, verb):
    """Its help says what it does, with examples and exit codes."""
    told = call(group, verb, "--help").stdout

    assert f"fleetwake {group} {verb}" in told
    assert "Exit codes: 0" in told
