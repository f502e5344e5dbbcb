"""`fleetwake logs`: what the processes of `fleetwake up` write."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from fleetwake.consumers.cli.command import command
from fleetwake.consumers.cli.exits import OK
from fleetwake.consumers.cli.terminal import clean, out, print_text
from fleetwake.schemas.errors import FleetwakeError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from rich.console import Console

__all__ = ["LogView", "follow", "logs"]

_POLL_S: Final = 0.2
_TAIL_BYTES: Final = 256 * 1024
_COLOURS: Final = ("cyan", "magenta", "green", "yellow", "blue")
_LEVELS: Final = {"warning": "yellow", "error": "red", "critical": "bold red"}
_PLAIN: Final = frozenset({"event", "level", "timestamp", "service"})


@command(
    "fleetwake logs --follow",
    "fleetwake logs broker --lines 100",
    exits={0: "shown", 1: "there is no such log"},
)
async def logs(
    service: Annotated[
        str | None, typer.Argument(help="Of this one: loops, broker, supervisor, ...")
    ] = None,
    *,
    follow_: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as lines come; Ctrl-C ends.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="Begin with the last ones.")
    ] = 20,
) -> int:
    """
    Show what the services and the broker have logged.

    Readable on a terminal; elsewhere the lines as they are, JSON for the services.
    """
    from fleetwake.consumers.home import home

    folder = home() / "logs"
    paths = sorted(folder.glob(f"{_only(service)}.log"))
    if not paths:
        there = ", ".join(sorted(path.stem for path in folder.glob("*.log")))
        raise FleetwakeError(
            f"no log of {service or 'anything'} in {folder}; there are: {there or '-'}"
        )
    view = LogView(out(), [path.stem for path in paths])
    for path in paths:
        view.show(path.stem, _last(path, lines))
    if follow_:
        await follow(paths, view)
    return OK


def _only(service: str | None) -> str:
    if service is None:
        return "*"
    # No pattern, and no way out of the folder.
    return "".join(one for one in service if one.isalnum() or one in "-_")


class LogView:
    """Prints log lines under the name of their process."""

    def __init__(self, console: Console, names: Iterable[str]) -> None:
        self._console = console
        self._names = list(names)
        self._width = max(map(len, self._names), default=0)

    def show(self, name: str, lines: Iterable[str]) -> None:
        """Print lines of one process."""
        for line in lines:
            print_text(self._console, self._prefix(name) + self._line(line))

    def _prefix(self, name: str) -> Text:
        if len(self._names) == 1:
            return Text()
        colour = _COLOURS[self._names.index(name) % len(_COLOURS)]
        return Text(f"{name:<{self._width}} | ", style=colour)

    def _line(self, line: str) -> Text:
        if not self._console.is_terminal:
            return Text(line)
        return _readable(line)


def _readable(line: str) -> Text:
    """A JSON line of structlog as time, event and fields; others as they are."""
    try:
        told = json.loads(line)
    except ValueError:
        told = None
    if not isinstance(told, dict) or "event" not in told:
        return Text(clean(line))
    rest = " ".join(
        f"{key}={clean(str(value))}" for key, value in told.items() if key not in _PLAIN
    )
    level = str(told.get("level", ""))
    time = str(told.get("timestamp", ""))[11:19]
    return Text.assemble(
        (f"{clean(time)} ", "dim"),
        (clean(str(told["event"])), _LEVELS.get(level, "bold")),
        (f" {rest}", _LEVELS.get(level, "")),
    )


async def follow(paths: Iterable[Path], view: LogView) -> None:
    """Show lines as they are written, for ever; files may come later."""
    files = [_Followed(path) for path in paths]
    while True:
        for one in files:
            view.show(one.path.stem, one.new_lines())
        await asyncio.sleep(_POLL_S)


class _Followed:
    """A log file from its present end on, also when it is renamed and begun anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        status = path.stat() if path.exists() else None
        self._file = status.st_ino if status else None
        self._offset = status.st_size if status else 0
        self._rest = b""

    def new_lines(self) -> list[str]:
        """Return the whole lines that were added."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return []
        with file:
            number = os.fstat(file.fileno()).st_ino
            if number != self._file:
                self._file, self._offset, self._rest = number, 0, b""
            file.seek(self._offset)
            added = file.read()
        self._offset += len(added)
        # Progress that overwrites itself ends its lines with a carriage return.
        *whole, self._rest = (self._rest + added).replace(b"\r", b"\n").split(b"\n")
        return [line.decode("utf-8", "replace") for line in whole if line]


def _last(path: Path, lines: int) -> list[str]:
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - _TAIL_BYTES))
        text = file.read().decode("utf-8", "replace")
    return text.splitlines()[-lines:] if lines else []
