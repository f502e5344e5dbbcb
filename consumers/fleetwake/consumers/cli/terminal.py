"""What may be shown on a terminal, and how."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from rich.console import Console

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["clean", "clock", "out", "print_json", "print_text", "since", "talk"]

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def out() -> Console:
    """Where data goes: stdout."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=False)


def talk() -> Console:
    """Where talk goes: stderr."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def print_text(console: Console, text: Text) -> None:
    """One line: on a terminal cut to its width, else whole."""
    if console.is_terminal:
        text.truncate(console.width, overflow="ellipsis")
    console.print(text, soft_wrap=True)


def print_json(value: object) -> None:
    """One line of ASCII JSON on stdout, at once."""
    print(json.dumps(value, separators=(",", ":")), flush=True)  # noqa: T201  # data


def clean(text: str) -> str:
    """
    Escape what is not printable: line ends, escape sequences, directions of writing.

    Text of events is written by agents and by what they read: on a terminal it could
    move the cursor, set the title, or show something else than it is.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode()
        for one in text
    )


def clock(micros: int) -> str:
    """The local time of day; with the date if that is not today's."""
    try:
        then = datetime.fromtimestamp(micros / 1e6, UTC).astimezone()
    except (OverflowError, OSError, ValueError):
        return "?"
    today = datetime.now(UTC).astimezone().date()
    return f"{then:%H:%M:%S}" if then.date() == today else f"{then:%Y-%m-%d %H:%M:%S}"


def since(seconds: float) -> str:
    """A duration in its two largest units: 3d 4h, 2m 5s."""
    whole = max(0, int(seconds))
    units = [(_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m"), (1, "s")]
    parts: list[str] = []
    for size, unit in units:
        count, whole = divmod(whole, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])
