"""What all commands have in common: options, help, errors, the event loop."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import typer

from fleetwake.consumers.cli.exits import reported
from fleetwake.producer.loop import run_loop

__all__ = ["Command", "command", "help_text", "with_common_options"]

_PANEL: Final = "Options of every command"


class Command(NamedTuple):
    """A function that typer takes, and its help."""

    function: Callable[..., None]
    help: str


def command(
    *examples: str, exits: Mapping[int, str]
) -> Callable[[Callable[..., Coroutine[Any, Any, int | None] | int | None]], Command]:
    """
    Make a command of a function or coroutine function that returns an exit code.

    It gets the common options; its help is the docstring with `examples` and the
    meaning of its exit codes, and what it raises becomes one line and an exit code.
    """

    def decorate(
        function: Callable[..., Coroutine[Any, Any, int | None] | int | None],
    ) -> Command:
        @with_common_options
        @wraps(function)
        def run(**options: Any) -> None:  # noqa: ANN401  # typer has checked them
            code = None
            with reported():
                result = function(**options)
                code = run_loop(result) if isinstance(result, Coroutine) else result
            raise typer.Exit(code or 0)

        return Command(run, help_text(function, examples, exits))

    return decorate


def with_common_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the common options to a function, which does not see them."""
    signature = inspect.signature(function, eval_str=True)
    parameters = [*signature.parameters.values(), *_COMMON.parameters.values()]

    def run(**options: Any) -> None:  # noqa: ANN401  # typer has checked them
        _apply(options)
        function(**options)

    # What typer reads.
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _common(
    *,
    bootstrap_servers: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT,...",
            help="Kafka; default: the embedded broker.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Settings; default: fleetwake.toml here.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="All data; default: ~/.local/share/fleetwake.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        typer.Option(
            metavar="LEVEL",
            help="Of services: debug, info (default), warning, error.",
            case_sensitive=False,
            rich_help_panel=_PANEL,
        ),
    ] = None,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            help="Log at level debug; show where errors come from.",
            rich_help_panel=_PANEL,
        ),
    ] = False,
) -> None:
    """Read by its signature; see `_apply`."""


_COMMON: Final = inspect.signature(_common, eval_str=True)


def _apply(options: dict[str, Any]) -> None:
    """
    Take the common options out of `options` and into the environment.

    That is where settings are looked for first, also by the processes that we start.
    """
    given = {name: options.pop(name) for name in _COMMON.parameters}
    if given["config"] is not None and not given["config"].is_file():
        raise typer.BadParameter(f"there is no file {given['config']}")
    variables = {
        "FLEETWAKE_KAFKA_BOOTSTRAP_SERVERS": given["bootstrap_servers"],
        "FLEETWAKE_CONFIG": given["config"] and given["config"].absolute(),
        "FLEETWAKE_HOME": given["home"] and given["home"].absolute(),
        "FLEETWAKE_LOG_LEVEL": "DEBUG" if given["debug"] else given["log_level"],
    }
    os.environ.update({k: str(v) for k, v in variables.items() if v is not None})
    # It logs each attempt to reach a broker; we say it once, in our words.
    level = logging.DEBUG if given["debug"] else logging.CRITICAL
    logging.getLogger("aiokafka").setLevel(level)


def help_text(
    function: Callable[..., object], examples: Sequence[str], exits: Mapping[int, str]
) -> str:
    """Make the help of a docstring, examples, and the meaning of exit codes."""
    paragraphs = inspect.getdoc(function) or ""
    prose = [" ".join(one.split()) for one in paragraphs.split("\n\n")]
    shown = "\n".join(f"  {example}" for example in examples)
    parts = [*prose, f"Examples:\n{shown}"]
    if exits:
        codes = ", ".join(f"{code} {meaning}" for code, meaning in exits.items())
        parts.append(f"Exit codes: {codes}.")
    return "\n\n".join(parts)
