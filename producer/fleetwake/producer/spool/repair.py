"""Makes a sound spool of what is left of a damaged one."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from fleetwake.producer.spool.database import make
from fleetwake.producer.spool.names import damaged_of, new_of, wal_of
from fleetwake.producer.spool.records import encode
from fleetwake.producer.spool.salvage import salvage

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

    from fleetwake.producer.spool.salvage import Salvaged

__all__ = ["complete", "rebuild", "set_log_aside"]

# Damaged files that a folder keeps, for whoever wants to know what happened.
_KEPT: Final = 3

_MAX_NUMBER: Final = 1 << 62


def rebuild(
    path: Path,
    *,
    durable: bool,
    first_free: int,
    is_wanted: Callable[[int], bool],
) -> int:
    """
    Replace a file, which nobody has open, by one with its readable batches.

    Those that lost their number get one from `first_free` on; others have to be wanted.
    The damaged file stays beside it as `.damaged`. Returns how many records are known
    to be lost.

    Raises:
        OSError: the disk does not take it; the damaged file stays in its place.
        sqlite3.Error: the same.
    """
    new = new_of(path)
    _delete(new)
    touch(new)
    connection = make(new, durable=durable)
    try:
        lost = 0
        for batch in salvage(path):
            if not 0 < batch.number < _MAX_NUMBER:
                lost += _keep(connection, batch, _free_number(connection, first_free))
            elif is_wanted(batch.number):
                lost += _keep(connection, batch, batch.number)
    finally:
        connection.close()
    _replace(path)
    _forget_old(path.parent)
    return lost


def complete(path: Path) -> None:
    """
    Finish a `rebuild` during which the process was killed.

    Raises:
        OSError: the disk does not take it.
    """
    new = new_of(path)
    if not new.exists():
        return
    # The damaged file is moved only when the new one is whole.
    if path.exists():
        _delete(new)
    else:
        _replace(path)


def set_log_aside(path: Path) -> None:
    """
    Move the write-ahead log of a file out of its way.

    Raises:
        OSError: the disk does not take it.
    """
    wal = wal_of(path)
    if wal.exists():
        wal.replace(wal_of(damaged_of(path)))


def touch(path: Path) -> None:
    """
    Make an empty file that only its owner reads.

    Raises:
        OSError: there is one, or the disk does not take it.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _free_number(connection: sqlite3.Connection, first_free: int) -> int:
    (highest,) = connection.execute("SELECT max(number) FROM batch").fetchone()
    return max(first_free, 1 + (highest or 0))


def _keep(connection: sqlite3.Connection, batch: Salvaged, number: int) -> int:
    """Insert a batch unless a better copy of it is there; return what it lost."""
    found = len(batch.records)
    if not found:
        return batch.lost
    frames = encode(batch.records)
    kept = connection.execute(
        "SELECT events FROM batch WHERE number = ?", (number,)
    ).fetchone()
    if kept is not None and kept[0] >= found:
        return 0
    recorded_at = batch.records[0].recorded_at
    connection.execute(
        "INSERT OR REPLACE INTO batch VALUES (?, ?, ?, ?, ?)",
        (number, recorded_at, found, len(frames), frames),
    )
    return batch.lost - (kept[0] if kept else 0)


def _replace(path: Path) -> None:
    if path.exists():
        path.replace(damaged_of(path))
    # Before the new file is there, to which it must not be applied.
    set_log_aside(path)
    new_of(path).replace(path)


def _forget_old(folder: Path) -> None:
    with contextlib.suppress(OSError):
        damaged = sorted(
            folder.glob("*.damaged"), key=lambda path: path.stat().st_mtime
        )
        for path in damaged[:-_KEPT]:
            _delete(path)


def _delete(path: Path) -> None:
    wal_of(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)
