"""What a newcomer copies out of the documents can be run."""

from __future__ import annotations

import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer

import fleetwake.producer
from fleetwake.consumers.cli.app import app
from fleetwake.producer import LoopGuard, SessionBlockedError
from fleetwake.producer.testing import MemoryLog, memory_producer

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
# A line of a block that begins with the command, perhaps after variables or a pipe.
COMMAND = re.compile(
    r"^(?: {4}|\$ |)(?:[A-Z_]+=\S+ |\w[^|\n]*\| *)*(fleetwake [a-z].*)$", re.MULTILINE
)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)


def example() -> str:
    """The first Python of the README."""
    return (ROOT / "README.md").read_text().partition("```python\n")[2].split("```")[0]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> MemoryLog:
    """A log in memory in the place of Kafka."""
    producer, log = memory_producer()
    guard = partial(LoopGuard, verdicts=log.verdicts)
    monkeypatch.setattr(fleetwake.producer, "AuditProducer", lambda: producer)
    monkeypatch.setattr(fleetwake.producer, "LoopGuard", guard)
    return log


def test_the_example_publishes_its_calls(log: MemoryLog) -> None:
    """Six, as the loop in it says."""
    exec(example(), {})

    assert 6 == len([e for e in log.events() if e.event_type == "tool.complete"])


def test_the_example_is_stopped_by_a_block(log: MemoryLog) -> None:
    """Before its first call, because it waits for the verdicts."""
    log.block("session-42", "enough")

    with pytest.raises(SessionBlockedError, match="enough"):
        exec(example(), {})
    assert [] == [e for e in log.events() if e.event_type == "tool.complete"]


def blocks(page: str) -> str:
    """The indented and the fenced code of a page, for a shell as far as is said."""
    fenced = FENCED.findall(page)
    shell = [
        code for language, code in fenced if language in {"", "bash", "sh", "text"}
    ]
    indented = re.findall(r"^ {4}\S.*$", FENCED.sub("", page), re.MULTILINE)
    return "\n".join([*shell, *indented])


def fault(line: str) -> str | None:
    """Say what of a command line the command does not know."""
    try:
        words = shlex.split(re.split(r" [|>] ", line)[0], comments=True)
    except ValueError:  # goes on in the next line
        words = line.split()
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            return f"no command {rest[0]!r}: {line}"
        command, rest = command.commands[rest[0]], rest[1:]
    known = {name for one in command.params for name in one.opts} | {"--help", "-h"}
    given = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
    return f"no option {given - known}: {line}" if given - known else None


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_in_blocks_exist(page: Path) -> None:
    """With every option that stands beside them."""
    lines = COMMAND.findall(blocks(page.read_text()))

    assert [found for line in lines if (found := fault(line))] == []


def test_a_wrong_command_or_option_would_be_found() -> None:
    """Or the test above says nothing."""
    found = COMMAND.findall(blocks("    X=1 fleetwake tail --lats 3  # so\n"))

    assert ["fleetwake tail --lats 3  # so"] == found
    assert fault(found[0])
    assert fault("fleetwake tial")
    assert fault("fleetwake tail --last 3") is None


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_make_targets_exist(page: Path) -> None:
    """Those in backticks and in blocks."""
    targets = set(TARGET.findall((ROOT / "Makefile").read_text()))
    text = page.read_text()
    named = set(re.findall(r"`make ([a-z][a-z-]*)", text))
    named |= set(re.findall(r"^ {4}make ([a-z][a-z-]*)", text, re.MULTILINE))

    assert named <= targets
