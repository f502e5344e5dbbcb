"""The spools of a folder: those to adopt, and how all of them are doing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from fleetwake.producer.spool import table
from fleetwake.producer.spool.errors import SpoolError
from fleetwake.producer.spool.file import SpoolFile
from fleetwake.producer.spool.forks import forks
from fleetwake.producer.spool.lock import FileLock
from fleetwake.producer.spool.names import lock_of, spools_in
from fleetwake.producer.spool.store import Spool
from fleetwake.producer.spool.summary import SpoolSummary, read_summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fleetwake.producer.spool.table import Totals

__all__ = ["adopt", "spools"]


def adopt(
    folder: Path, *, on_error: Callable[[SpoolError], None] | None = None
) -> Iterator[Spool]:
    """
    Open one by one the spools of processes that ended, as far as nobody has them.

    What is empty is deleted on the way. A spool that cannot be opened is left where it
    is and told to `on_error`. Raises nothing, also where the folder is missing.
    """
    for path in _found(folder):
        try:
            spool = Spool.adopt(path)
        except SpoolError as error:
            if on_error is not None:
                on_error(error)
            continue
        if spool is None:
            continue
        if spool.events:
            yield spool
        else:
            spool.close()


def spools(folder: Path) -> list[SpoolSummary]:
    """
    Look at all spools of a folder, without disturbing their owners.

    Raises nothing: what cannot be read has zero events.
    """
    return [_summary(path) for path in _found(folder)]


def _found(folder: Path) -> list[Path]:
    try:
        return spools_in(folder)
    except OSError:
        return []


def _summary(path: Path) -> SpoolSummary:
    told = read_summary(path)
    try:
        counted = _Look(path).count()
    except (OSError, SpoolError):
        return told
    if counted is None:
        return told._replace(alive=True)
    # Nobody has it: what it told last is older than what it holds.
    return told._replace(
        events=counted.events, bytes=counted.size, oldest_recorded_at=counted.oldest
    )


class _Look:
    """A spool that is open for a moment."""

    def __init__(self, path: Path) -> None:
        self.lock = threading.Lock()
        self._held = FileLock(lock_of(path))
        self._file = SpoolFile(path, durable=False)

    def count(self) -> Totals | None:
        """Return what is in it; None where somebody has it."""
        with self.lock:
            forks().add(self)
            if not self._held.take():
                return None
            try:
                self._file.open()
                return self._file.run(table.totals)[0]
            finally:
                self._file.close()
                self._held.release()

    def forget_after_fork(self) -> None:
        self._file.forget()
        self._held.forget()
