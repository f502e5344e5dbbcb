"""The SQLite file of a spool: how it is opened, and which of its errors mean what."""

from __future__ import annotations

import secrets
import sqlite3
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "FORMAT",
    "MAGIC",
    "PAGE",
    "WAL_BYTES",
    "connect",
    "is_damage",
    "make",
    "problem",
    "verify",
]

FORMAT: Final = 1
"""`user_version`: a file with a higher one is left alone."""

PAGE: Final = 4096
MAGIC: Final = b"SQLite format 3\0"

WAL_BYTES: Final = 8 * 1024 * 1024
"""The write-ahead log is copied into the file when it is so large."""

_SCHEMA: Final = (
    "CREATE TABLE batch (number INTEGER PRIMARY KEY, recorded_at INTEGER NOT NULL, "
    "events INTEGER NOT NULL, size INTEGER NOT NULL, frames BLOB NOT NULL)"
)

# What a scrambled cell may hold in a sound tree.
_ODD: Final = (
    "SELECT count(*) FROM batch WHERE typeof(frames) <> 'blob' OR events < 1 OR "
    "size <> length(frames) OR typeof(events) <> 'integer' OR "
    "typeof(recorded_at) <> 'integer' OR number < 1"
)

_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def connect(path: Path, *, durable: bool) -> sqlite3.Connection:
    """
    Open an existing file, alone. Transactions are the caller's.

    Raises:
        sqlite3.Error: it cannot be opened, or is in use.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        for pragma in (
            # Before anything else, then the index of the log is ordinary memory: no
            # shared memory that may fail under us (SIGBUS kills the agent).
            "locking_mode = EXCLUSIVE",
            f"page_size = {PAGE}",
            "journal_mode = WAL",
            f"synchronous = {'FULL' if durable else 'NORMAL'}",
            f"wal_autocheckpoint = {WAL_BYTES // PAGE}",
            f"journal_size_limit = {WAL_BYTES}",
            # To overwrite what was settled would double the work.
            "secure_delete = OFF",
            "temp_store = MEMORY",
            "mmap_size = 0",
            "cell_size_check = ON",
            "trusted_schema = OFF",
        ):
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def make(path: Path, *, durable: bool) -> sqlite3.Connection:
    """
    Make a spool of an empty file.

    Raises:
        sqlite3.Error: the disk does not take it.
    """
    connection = connect(path, durable=durable)
    try:
        # It tells a log of this file from a log of another (salvage.py).
        connection.execute(f"PRAGMA application_id = {secrets.randbits(31)}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute(_SCHEMA)
        # From here on the file itself says which log belongs to it.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def verify(connection: sqlite3.Connection) -> None:
    """
    Read the whole file once (1 s per GB).

    Raises:
        sqlite3.DatabaseError: its structure is damaged (`is_damage`).
        ValueError: a newer fleetwake wrote it.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > FORMAT:
        raise ValueError(f"format {version}; this fleetwake reads up to {FORMAT}")
    tables = connection.execute("SELECT sql FROM sqlite_master").fetchall()
    is_sound = version == FORMAT and tables == [(_SCHEMA,)]
    if is_sound:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        (odd,) = connection.execute(_ODD).fetchone()
        is_sound = verdict == "ok" and not odd
    if not is_sound:
        error = sqlite3.DatabaseError("not a sound spool")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


def is_damage(error: sqlite3.Error) -> bool:
    """Tell damage of the file from trouble with the disk."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGE


def problem(error: Exception) -> str:
    """Say what went wrong. Neither SQLite nor the system quote content."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    name = getattr(error, "sqlite_errorname", None)
    return f"{error} ({name})" if name else str(error)
