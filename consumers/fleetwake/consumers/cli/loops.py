"""`fleetwake loops ...`."""

from __future__ import annotations

import typer

from fleetwake.consumers.cli.backtest import backtest

__all__ = ["loops"]

loops = typer.Typer(
    help="Try the rules for loops.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
loops.command("backtest", help=backtest.help)(backtest.function)
