"""The commands, by name."""

from __future__ import annotations

from functools import wraps
from importlib.metadata import version
from typing import Annotated, Any, Final

import typer

from fleetwake.consumers.cli.acknowledge import acknowledge
from fleetwake.consumers.cli.alerts import alerts
from fleetwake.consumers.cli.archive import archive
from fleetwake.consumers.cli.block import block
from fleetwake.consumers.cli.command import (
    Command,
    help_text,
    with_common_options,
)
from fleetwake.consumers.cli.convert import convert
from fleetwake.consumers.cli.dead_letters import dead_letters
from fleetwake.consumers.cli.doctor import doctor
from fleetwake.consumers.cli.down import down
from fleetwake.consumers.cli.erase import erase
from fleetwake.consumers.cli.exits import reported
from fleetwake.consumers.cli.ingest import ingest
from fleetwake.consumers.cli.keys import keys
from fleetwake.consumers.cli.logs import logs
from fleetwake.consumers.cli.loops import loops
from fleetwake.consumers.cli.metrics import metrics
from fleetwake.consumers.cli.notify import notify
from fleetwake.consumers.cli.page import page
from fleetwake.consumers.cli.release import release
from fleetwake.consumers.cli.reset import reset
from fleetwake.consumers.cli.run import run
from fleetwake.consumers.cli.silence import silence
from fleetwake.consumers.cli.status import status
from fleetwake.consumers.cli.tail import tail
from fleetwake.consumers.cli.top import top
from fleetwake.consumers.cli.topics import topics
from fleetwake.consumers.cli.up import up
from fleetwake.consumers.cli.verdicts import verdicts
from fleetwake.consumers.demo.command import demo

__all__ = ["app", "main"]

_HELP: Final = """\
The flight recorder and the brake for fleets of AI agents.

To see it at work, with agents of its own:

  fleetwake demo

For your agents, all on this machine:

  fleetwake up --detach
  fleetwake page --open
  fleetwake tail

A setting is looked for as an option, as an environment variable, in fleetwake.toml.

Exit codes: 0 ok, 1 failed, 2 usage or configuration, 4 cannot reach the broker, \
5 integrity violated, 75 try again, 130 interrupted."""

app = typer.Typer(
    name="fleetwake",
    help=_HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@wraps(demo)
def _demo(**options: Any) -> None:  # noqa: ANN401  # typer has checked them
    with reported():
        demo(**options)


_COMMANDS: Final = {
    "Begin": {
        # It has a folder of its own, and so no common options.
        "demo": Command(
            _demo, help_text(demo, ["fleetwake demo", "fleetwake demo --exit"], {})
        ),
        "up": up,
        "down": down,
        "status": status,
        "page": page,
        "logs": logs,
        "doctor": doctor,
    },
    "Events and alerts": {
        "ingest": ingest,
        "convert": convert,
        "tail": tail,
        "alerts": alerts,
        "top": top,
        "metrics": metrics,
    },
    "The brake": {
        "verdicts": verdicts,
        "block": block,
        "release": release,
        "acknowledge": acknowledge,
        "silence": silence,
    },
    "Parts": {"run": run, "topics": topics, "erase": erase, "reset": reset},
}
for _panel, _commands in _COMMANDS.items():
    for _name, _command in _commands.items():
        app.command(_name, help=_command.help, rich_help_panel=_panel)(
            _command.function
        )
app.add_typer(archive, name="archive", rich_help_panel="Events and alerts")
app.add_typer(dead_letters, name="dead-letters", rich_help_panel="Events and alerts")
app.add_typer(keys, name="keys", rich_help_panel="Parts")
app.add_typer(loops, name="loops", rich_help_panel="Parts")
app.add_typer(notify, name="notify", rich_help_panel="Parts")


def _show_version(show: bool) -> None:
    if show:
        typer.echo(f"fleetwake {version('fleetwake')}")
        raise typer.Exit


@app.callback()
@with_common_options
def _root(
    *,
    version: Annotated[  # its callback has done it
        bool,
        typer.Option(
            "--version",
            help="Print the version.",
            callback=_show_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command of `sys.argv`, and exit with its code."""
    app(prog_name="fleetwake")
