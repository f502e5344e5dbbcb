"""The log file of a process: what it writes to stdout and stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LogFile"]

_MAX_BYTES: Final = 10 * 1024 * 1024
_LAST_WORDS: Final = 3
_TAIL_BYTES: Final = 16 * 1024


class LogFile:
    """
    A file that is appended to, and renamed to `.1` at a start when it has got large.

    The process writes to it directly, so that it can go on when we cannot.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start = 0

    def open(self) -> BinaryIO:
        """Open it for one run of the process."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size > _MAX_BYTES:
            self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        file = self.path.open("ab")
        self._start = file.tell()
        return file

    def append(self, line: str) -> None:
        """Add a line of our own."""
        with self.open() as file:
            file.write(f"{line}\n".encode())

    def has_line(self, line: str) -> bool:
        """Whether this run of the process has written that line."""
        return line in self._lines()

    def last_words(self) -> str:
        """The last lines of this run."""
        lines = [line.rstrip() for line in self._lines() if line.strip()]
        return "\n".join(lines[-_LAST_WORDS:])

    def _lines(self) -> list[str]:
        try:
            with self.path.open("rb") as file:
                end = file.seek(0, 2)
                file.seek(max(self._start, end - _TAIL_BYTES))
                return file.read().decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return []
