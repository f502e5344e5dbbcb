"""What is said on stderr while the demonstration runs."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

__all__ = ["Counts", "Display", "showing"]

_LINE_EVERY_S: Final = 2.0
_INDENT: Final = " " * 9
"""Below the times that stand before each step."""


class Counts(NamedTuple):
    """How far it is. `consumed` has the records that each service has committed."""

    total: int
    published: int
    consumed: Mapping[str, int]
    alerts: int


class Display(Protocol):
    """Where progress is shown. Not thread-safe."""

    def say(self, text: str) -> None:
        """Tell what is done now."""
        ...

    def show(self, counts: Counts) -> None:
        """Tell how far it is."""
        ...


@contextlib.contextmanager
def showing() -> Generator[Display]:
    """Show bars on a terminal, lines elsewhere; the last state stays."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _Lines()
        return
    with Live(console=console, refresh_per_second=10) as live:
        yield _Bars(live)


class _Lines:
    """A line for each step and, while it takes long, every two seconds."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._next = 0.0
        self._last: Counts | None = None

    def say(self, text: str) -> None:
        elapsed = time.monotonic() - self._began
        sys.stderr.write(f"{elapsed:5.1f} s  {text}\n")
        sys.stderr.flush()

    def show(self, counts: Counts) -> None:
        now = time.monotonic()
        if counts != self._last and now >= self._next:
            self._next = now + _LINE_EVERY_S
            self._last = counts
            self.say(_line(counts))


class _Bars:
    """A bar for the publisher and each service, below the steps."""

    def __init__(self, live: Live) -> None:
        self._began = time.monotonic()
        self._live = live

    def say(self, text: str) -> None:
        elapsed = time.monotonic() - self._began
        self._live.console.print(Text.assemble((f"{elapsed:5.1f} s  ", "dim"), text))

    def show(self, counts: Counts) -> None:
        rows = Table.grid(padding=(0, 1))
        for name, done in {"published": counts.published, **counts.consumed}.items():
            rows.add_row(
                Text(_INDENT + name),
                ProgressBar(total=max(1, counts.total), completed=done, width=30),
                Text(f"{done:>7,} of {counts.total:,}"),
            )
        rows.add_row(Text(_INDENT + "alerts"), Text(f"{counts.alerts:,}", "bold red"))
        self._live.update(rows)


def _line(counts: Counts) -> str:
    consumed = ", ".join(f"{name} {done:,}" for name, done in counts.consumed.items())
    return (
        f"published {counts.published:,} of {counts.total:,}; consumed: {consumed}; "
        f"alerts: {counts.alerts:,}"
    )
