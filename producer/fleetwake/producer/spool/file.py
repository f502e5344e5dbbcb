"""The file of a spool: opened, used in transactions, repaired, given back."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, TypeVar

from fleetwake.producer.spool import repair
from fleetwake.producer.spool.database import (
    WAL_BYTES,
    connect,
    is_damage,
    make,
    problem,
    verify,
)
from fleetwake.producer.spool.errors import SpoolError
from fleetwake.producer.spool.forks import keep_for_ever
from fleetwake.producer.spool.names import wal_of
from fleetwake.producer.spool.salvage import has_foreign_log, has_sound_head

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["DamagedError", "SpoolFile"]

T = TypeVar("T")


class DamagedError(SpoolError):
    """Raised when the file has to be repaired before it can be used again."""


class SpoolFile:
    """
    One SQLite connection, which is opened again after trouble. Not thread-safe.

    One connection for reader and writer: alone with its file it needs no shared memory
    and no second cache, and a read holds the writer up for less than a commit does.
    """

    def __init__(self, path: Path, *, durable: bool) -> None:
        self._path = path
        self._durable = durable
        self._connection: sqlite3.Connection | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has been in use since it was made, opened or in trouble."""
        return self._connection is not None

    def make(self) -> None:
        """
        Make the file. It must not be there.

        Raises:
            SpoolError: the disk does not take it.
        """
        try:
            repair.touch(self._path)
            self._connection = make(self._path, durable=self._durable)
        except (OSError, sqlite3.Error) as error:
            raise SpoolError(self._path, problem(error)) from error

    def open(self) -> None:
        """
        Open a file that another process left, and look at all of it.

        Raises:
            DamagedError: it is not what a process leaves.
            SpoolError: the disk does not give it, or a newer fleetwake wrote it.
        """
        try:
            if not has_sound_head(self._path):
                raise DamagedError(self._path, "not an SQLite file")
            if has_foreign_log(self._path):
                repair.set_log_aside(self._path)
            connection = connect(self._path, durable=self._durable)
        except (OSError, sqlite3.Error) as error:
            raise self._told(error) from error
        try:
            verify(connection)
        except (sqlite3.Error, ValueError) as error:
            connection.close()
            raise self._told(error) from error
        self._connection = connection

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """
        Do some work in a transaction.

        Raises:
            DamagedError: the file is damaged; nothing was changed.
            SpoolError: the disk does not take it; nothing was changed.
        """
        try:
            connection = self._connected()
            connection.execute("BEGIN")
            result = work(connection)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._recover(error)
            raise self._told(error) from error
        except BaseException as error:
            self._recover(error)
            raise
        return result

    def shrink(self) -> None:
        """Give the disk back what an empty spool does not need. Never raises."""
        with contextlib.suppress(sqlite3.Error, OSError):
            connection = self._connected()
            if self._path.stat().st_size > WAL_BYTES:
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def rebuild(self, *, first_free: int, is_wanted: Callable[[int], bool]) -> int:
        """
        Go on with what is readable; return how many records are known to be lost.

        Raises:
            SpoolError: the disk does not take it; try again later.
        """
        self.close()
        try:
            lost = repair.rebuild(
                self._path,
                durable=self._durable,
                first_free=first_free,
                is_wanted=is_wanted,
            )
            self._connection = connect(self._path, durable=self._durable)
        except (OSError, sqlite3.Error) as error:
            raise SpoolError(self._path, f"not repaired: {problem(error)}") from error
        return lost

    def close(self, *, delete: bool = False) -> None:
        """Close it. Never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        if delete:
            for path in (self._path, wal_of(self._path)):
                with contextlib.suppress(OSError):
                    path.unlink()

    def forget(self) -> None:
        """Have nothing to do with it any more: this is a forked child."""
        connection, self._connection = self._connection, None
        if connection is not None:
            keep_for_ever(connection)

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = connect(self._path, durable=self._durable)
        return self._connection

    def _recover(self, error: BaseException) -> None:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_FULL)
        connection = self._connection
        # After an I/O error nothing is certain: it is opened again for the next work.
        if connection is None or code != sqlite3.SQLITE_FULL:
            self.close()
        elif connection.in_transaction:
            try:
                connection.execute("ROLLBACK")
            except sqlite3.Error:
                self.close()

    def _told(self, error: Exception) -> SpoolError:
        is_damaged = isinstance(error, sqlite3.Error) and is_damage(error)
        return (DamagedError if is_damaged else SpoolError)(self._path, problem(error))
