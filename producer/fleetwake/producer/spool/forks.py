"""Keeps spools and forks apart: SQLite survives none while it is in use."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from functools import cache
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

__all__ = ["Forks", "forks", "keep_for_ever"]

# A fork waits for transactions and openings; not for a disk that hangs.
_PATIENCE_S: Final = 1.0

_immortal: list[sqlite3.Connection] = []


class _Forgetting(Protocol):
    @property
    def lock(self) -> threading.Lock: ...

    def forget_after_fork(self) -> None: ...


class Forks:
    """
    The open spools of this process, which stand still while it forks.

    A child could otherwise inherit a mutex of SQLite's that nobody ever releases.
    """

    def __init__(self) -> None:
        self._spools: weakref.WeakSet[_Forgetting] = weakref.WeakSet()
        # Reentrant, because a signal handler may fork.
        self._lock = threading.RLock()
        self._releases: list[Callable[[], None]] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before,
                after_in_parent=self._after,
                after_in_child=self._forked,
            )

    def add(self, spool: _Forgetting) -> None:
        """
        Take care of a spool, as long as it exists. Waits while the process forks.

        Before its files are opened, and with its lock held until they are: a fork that
        does not see the spool yet is over before there is anything to inherit.
        """
        with self._lock:
            self._spools.add(spool)

    def _before(self) -> None:
        self._lock.acquire()
        self._releases.append(self._lock.release)
        for spool in tuple(self._spools):
            if spool.lock.acquire(timeout=_PATIENCE_S):
                self._releases.append(spool.lock.release)

    def _after(self) -> None:
        while self._releases:
            self._releases.pop()()

    def _forked(self) -> None:
        self._lock = threading.RLock()
        self._releases.clear()
        for spool in tuple(self._spools):
            with contextlib.suppress(Exception):
                spool.forget_after_fork()
        self._spools.clear()


@cache
def forks() -> Forks:
    """Return the one `Forks`; the first call registers its hooks."""
    return Forks()


def keep_for_ever(connection: sqlite3.Connection) -> None:
    """
    Never close a connection that a fork inherited, nor at the end of the interpreter.

    To close it would copy the parent's log and delete it, while the parent writes.
    """
    _immortal.append(connection)
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
