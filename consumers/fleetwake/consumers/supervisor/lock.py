"""One supervisor, with all that it runs, for one folder."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING, Final

from fleetwake.schemas.errors import FleetwakeError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["AlreadyRunningError", "RunLock"]

_POLL_S: Final = 0.1
_PATIENCE_S: Final = 35.0
"""Processes whose supervisor was killed take up to 30 s to end."""


class AlreadyRunningError(FleetwakeError):
    """Raised when another supervisor, or what it left behind, uses the folder."""

    def __init__(self, folder: Path, pid: int | None) -> None:
        told = f"process {pid}" if pid else "processes of an earlier start"
        super().__init__(
            f"fleetwake runs in {folder} already ({told}): stop it with `fleetwake "
            "down`, or use another folder (--home)"
        )
        self.pid = pid


class RunLock:
    """
    Two lock files: one for the supervisor, which it names, and one for its processes.

    The processes inherit theirs (`descriptor`), so that it is held until the last of
    them has ended, whatever became of the supervisor. The kernel gives a lock up when
    its last holder ends, however that comes.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._own = home / "run" / "supervisor.lock"
        self._shared = home / "run" / "processes.lock"
        self._descriptors: list[int] = []

    @property
    def descriptor(self) -> int:
        """What processes are to inherit, while the lock is held."""
        return self._descriptors[1]

    async def acquire(self, *, patience_s: float = _PATIENCE_S) -> None:
        """
        Take the lock; wait for the processes of a supervisor that was killed.

        Raises:
            AlreadyRunningError: another supervisor runs, or these do not end.
        """
        give_up = time.monotonic() + patience_s
        while not self.try_acquire():
            owner = self.owner()
            if owner is not None or time.monotonic() > give_up:
                raise AlreadyRunningError(self._home, owner)
            await asyncio.sleep(_POLL_S)

    def try_acquire(self) -> bool:
        """Take the lock if nobody has it."""
        self._own.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (self._own, self._shared):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            self._descriptors.append(descriptor)
            if not _lock(descriptor, fcntl.LOCK_EX):
                self.release()
                return False
        os.ftruncate(self._descriptors[0], 0)
        os.pwrite(self._descriptors[0], f"{os.getpid()}\n".encode(), 0)
        return True

    def is_held(self) -> bool:
        """Whether a supervisor runs, or what one has left behind."""
        return _is_held(self._own) or _is_held(self._shared)

    def owner(self) -> int | None:
        """The process id of the supervisor that runs; None if none does."""
        if not _is_held(self._own):
            return None
        with contextlib.suppress(OSError, ValueError):
            return int(self._own.read_text())
        return None

    def release(self) -> None:
        """Give it up, as far as we are concerned."""
        while self._descriptors:
            os.close(self._descriptors.pop())


def _is_held(path: Path) -> bool:
    """Whether anybody holds the lock of a file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
