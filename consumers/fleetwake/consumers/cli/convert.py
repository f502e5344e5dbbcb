"""`fleetwake convert`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from fleetwake.consumers.cli.command import command
from fleetwake.consumers.cli.exits import FAILED, OK, say
from fleetwake.consumers.cli.ingest import (  # noqa: TC001  # typer reads them
    AgentOption,
    FormatOption,
    SessionOption,
)
from fleetwake.consumers.cli.terminal import clean

if TYPE_CHECKING:
    from fleetwake.producer.border import Border

__all__ = ["convert"]


@command(
    "fleetwake convert audit.jsonl",
    "fleetwake convert --format agent-sdk --session run-7 tools.jsonl | jq .outcome",
    exits={
        0: "all lines are converted",
        1: "lines were refused, the others are converted",
        2: "the file cannot be read",
        130: "stopped by Ctrl-C",
    },
)
def convert(
    file: Annotated[str, typer.Argument(metavar="FILE", help="- is standard input.")],
    *,
    format_: FormatOption = "auto",
    session: SessionOption = None,
    agent: AgentOption = None,
    no_redact: Annotated[
        bool,
        typer.Option(
            "--no-redact", help="Leave secrets in, cut nothing: what adapters give."
        ),
    ] = False,
) -> int:
    """
    Print the events that lines make, as JSON lines; no broker is needed.

    One event a line and all fields of an event in each, in the order of the input;
    only a run record of agent_framework becomes several. What a producer stamps
    (producer_id, sequence, recorded_at) is empty. `fleetwake ingest` takes the output.
    """
    from fleetwake.consumers.ingest.lines import LineReader, opened
    from fleetwake.consumers.ingest.mapping import LineMapper
    from fleetwake.consumers.ingest.stream import default_session
    from fleetwake.producer.adapters.mapping import UnmappableError
    from fleetwake.producer.enrich import enriched
    from fleetwake.schemas.models import to_json

    border = _border()
    finished = enriched if no_redact else border
    is_whole = True
    with opened(file) as source:
        reader = LineReader(source, file)
        mapper = LineMapper(
            format_=format_,
            session_id=session or default_session(file),
            agent_id=agent,
        )
        while line := reader.read():
            if line.is_blank:
                continue
            try:
                for mapped in mapper.map(line):
                    sys.stdout.write(to_json(finished(*mapped), with_nulls=True) + "\n")
            except UnmappableError as error:
                is_whole = False
                problem = clean(border.text(str(error)))
                say(f"line {line.number}: {error.reason}: {problem}")
    sys.stdout.flush()
    return OK if is_whole else FAILED


def _border() -> Border:
    """Redacted and cut as a producer's events are, but none is folded for its rate."""
    from fleetwake.producer.border import Border
    from fleetwake.producer.settings import ContentSettings

    settings = ContentSettings().model_copy(update={"hot_session_rate": None})
    return Border(settings)
