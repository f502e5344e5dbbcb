"""`fleetwake doctor`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from fleetwake.consumers.cli.command import command
from fleetwake.consumers.cli.exits import FAILED, OK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.consumers.cli.checks import Check

__all__ = ["doctor"]

_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@command(
    "fleetwake doctor",
    "fleetwake doctor --json | jq '.[] | select(.verdict == \"fail\")'",
    exits={0: "nothing fails; there may be warnings", 1: "something fails"},
)
async def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> int:
    """
    Check this machine, the settings, Kafka and the registry; say what to do.

    Looks and changes nothing.
    """
    from fleetwake.consumers.cli.checks import all_checks
    from fleetwake.consumers.cli.terminal import out, print_json

    checks = [one async for one in all_checks()]
    if as_json:
        print_json([asdict(one) for one in checks])
    else:
        out().print(_table(checks))
    return FAILED if any(one.verdict == "fail" for one in checks) else OK


def _table(checks: Sequence[Check]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column()
    table.add_column(overflow="fold")
    for one in checks:
        found = Text(one.found)
        if one.advice:
            found.append(f"\n-> {one.advice}", "bold")
        table.add_row(Text(one.verdict, _STYLES[one.verdict]), one.name, found)
    return table
