"""One broker for one folder: a lock that the broker itself holds."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from fleetwake.consumers.broker.errors import BrokerRunningError
from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FolderLock", "Running", "running"]

_NAME: Final = "broker.lock"

PATIENCE_S = 2.0
"""A killed process holds lock and ports until the kernel has cleaned up after it."""


class Running(NamedTuple):
    """A broker that runs, or starts: then there is no port yet."""

    pid: int
    port: int | None


def running(data_dir: Path) -> Running | None:
    """The broker that uses a folder, whoever started it. On Windows always None."""
    try:
        descriptor = os.open(data_dir / _NAME, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        if _lock(descriptor):
            return None
        words = os.read(descriptor, 64).split()
    finally:
        os.close(descriptor)
    numbers = [int(word) for word in words]
    return Running(numbers[0], numbers[1] if numbers[1:] else None) if numbers else None


class FolderLock:
    """
    The lock of one folder, for its owner and the children that inherit it.

    It is held until the last of them has ended, so that a broker whose starter was
    killed is still seen. Its text says which process runs, and on which port.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._descriptor: int | None = None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a child must inherit."""
        held = self._descriptor
        return () if held is None or sys.platform == "win32" else (held,)

    async def acquire(self) -> None:
        """
        Take the lock; makes the folder if it is not there.

        Raises:
            BrokerRunningError: another broker holds it.
            ConfigurationError: the folder cannot be written.
        """
        self._descriptor = descriptor = self._open()
        give_up = time.monotonic() + PATIENCE_S
        while not _lock(descriptor):
            if time.monotonic() > give_up:
                self.release()
                holder = running(self._data_dir)
                raise BrokerRunningError(
                    f"a broker runs in {self._data_dir} already (process "
                    f"{holder.pid if holder else 'unknown'}): use it, or stop it first"
                )
            await asyncio.sleep(0.05)
        self.write(os.getpid())

    def write(self, pid: int, port: int | None = None) -> None:
        """Say who runs."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, f"{pid} {port or ''}\n".encode())

    def release(self) -> None:
        """Give the lock up, if it is held."""
        if self._descriptor is not None:
            _unlock(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        try:
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self._data_dir / _NAME, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"the broker cannot keep its data in {self._data_dir} "
                f"({error.strerror}): set FLEETWAKE_HOME or FLEETWAKE_BROKER_DATA_DIR "
                "to a folder that can be written"
            ) from error


def _lock(descriptor: int) -> bool:
    """Whether the lock could be taken; it goes when the descriptor is closed."""
    if sys.platform == "win32":
        return True  # Kafka's own lock of its log folder must do
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(descriptor: int) -> None:
    """Unlock it for all that share it: a fork of this process may live on."""
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_UN)
