"""A lock that ends with its holder, on a file of its own."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Final

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FileLock"]

_FLAGS: Final = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)

# Windows forbids others to read a locked byte: this one is behind all content.
_BYTE: Final = 1 << 30


class FileLock:
    """
    One holder per file, among all processes and containers of this kernel.

    A second holder in the same process is refused, too. It does not go by process ids,
    so that their reuse is harmless.
    The kernel gives it up when the last descriptor is closed; a forked child has to
    `forget` its copy.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """
        Take the lock if nobody has it. Makes the file where it is missing.

        Raises:
            OSError: the file can be neither opened nor made.
        """
        self._descriptor = descriptor = os.open(self._path, _FLAGS, 0o600)
        # Between open and lock its last holder may have deleted the file.
        if _lock(descriptor) and _is_at(descriptor, self._path):
            return True
        self.forget()
        return False

    def write(self, text: str) -> None:
        """Say who holds it."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, text.encode())

    def release(self, *, delete: bool = False) -> None:
        """Give it up, with its file if nobody needs it again."""
        # Windows deletes no open file: there it stays, and is deleted by the next.
        if delete and self._descriptor is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
        self.forget()

    def forget(self) -> None:
        """Close the descriptor; whoever has a copy of it holds the lock on."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    return False


def _lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, _BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
