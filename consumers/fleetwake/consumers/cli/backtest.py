"""`fleetwake loops backtest`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fleetwake.consumers.cli.command import command
from fleetwake.consumers.cli.exits import OK, say

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from fleetwake.consumers.loops.backtest.recording import Recording
    from fleetwake.consumers.runtime.service import Service

__all__ = ["backtest"]

_ARCHIVE: Final = "archive:"


@command(
    "fleetwake loops backtest --cases cases.jsonl",
    "fleetwake loops backtest --labels labels.jsonl trajectories/*.jsonl.gz",
    "fleetwake loops backtest --rules rules.toml --json audit.jsonl | jq .load",
    "fleetwake loops backtest \"archive:occurred_at > now() - INTERVAL '7 days'\"",
    exits={
        0: "done, whatever was found",
        1: "the archive is empty, or refuses the query",
        2: "a file cannot be read, or a line of it or the rules cannot be used",
        130: "stopped by Ctrl-C",
    },
)
async def backtest(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|archive:QUERY...",
            help="- is standard input; a QUERY is a condition or a SELECT.",
        ),
    ],
    *,
    rules: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|PRESET",
            help="A rules file, default, strict or calute; else the service's.",
        ),
    ] = None,
    cases: Annotated[
        bool, typer.Option("--cases", help="Take labelled cases only.")
    ] = False,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What is known of recorded sessions."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object, also on a terminal.")
    ] = False,
) -> int:
    """
    Show recordings to the loops service and count its alerts; no broker is needed.

    A file, plain or gzip, holds labelled cases, trajectories, facts of their sessions,
    or events of any format that `ingest` takes. The archive is that of this home. Rules
    and settings are those of the service, or --rules.

    Told are alerts by rule, their number for 1,000 sessions, how many calls it took
    from an episode's first, and what a stop would have saved; of what is labelled
    also precision and recall. Elsewhere than on a terminal, tables are Markdown.
    """
    from fleetwake.consumers.cli.backtest_report import as_json as told
    from fleetwake.consumers.cli.backtest_report import show
    from fleetwake.consumers.cli.terminal import print_json
    from fleetwake.consumers.loops.backtest.replay import replay
    from fleetwake.consumers.loops.backtest.report import report

    service = _service(rules)
    recordings = _read(inputs, labels, only_cases=cases)
    if labels is not None:
        _tell_unused(recordings)
    events = sum(len(one.entries) for one in recordings)
    say(f"{events:,} events in {len(recordings):,} recordings")
    with _progress(events) as advance:
        watched = [(one, await replay(one, service, advance)) for one in recordings]
    found = report(watched)
    if as_json:
        print_json(told(found))
    else:
        show(found)
    return OK


def _service(rules: str | None) -> Service:
    from fleetwake.consumers.loops.loops import Loops
    from fleetwake.consumers.loops.settings import LoopsSettings

    return Loops(LoopsSettings() if rules is None else LoopsSettings(rules=rules))


def _read(
    inputs: Sequence[str], labels: Path | None, *, only_cases: bool
) -> list[Recording]:
    from fleetwake.consumers.cli.backtest_archive import archived_events
    from fleetwake.consumers.loops.backtest.inputs import (
        read_files,
        read_labels,
        recorded,
    )

    files = [one for one in inputs if not one.startswith(_ARCHIVE)]
    queries = [one[len(_ARCHIVE) :] for one in inputs if one.startswith(_ARCHIVE)]
    if only_cases and queries:
        raise typer.BadParameter("the archive holds no cases (--cases)")
    known = {} if labels is None else read_labels(str(labels))
    return [
        *read_files(files, known, only_cases=only_cases),
        *(recorded(archived_events(query), known) for query in queries),
    ]


def _tell_unused(recordings: Sequence[Recording]) -> None:
    """Say how many labels are of sessions that are not there."""
    present = {entry.subject for one in recordings for entry in one.entries}
    labelled = {subject for one in recordings for subject in one.expected}
    if missing := len(labelled - present):
        say(f"{missing} labelled sessions are not in the files")


@contextlib.contextmanager
def _progress(events: int) -> Generator[Callable[[int], object]]:
    from rich.progress import Progress

    from fleetwake.consumers.cli.terminal import talk

    console = talk()
    if not console.is_terminal:
        yield lambda _: None
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("watching", total=events)
        yield lambda count: progress.advance(task, count)
