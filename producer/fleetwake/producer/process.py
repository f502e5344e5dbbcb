"""Follows the process: a fork gets runs of its own, its end is held up to deliver."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import time
import weakref
from concurrent.futures import wait
from functools import cache
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from multiprocessing.util import Finalize

    from fleetwake.producer.run import Run

# For a thread to end by itself, before the interpreter ends it.
_STOP_S: Final = 0.5

__all__ = ["Forking", "Process", "this_process"]


class Forking(Protocol):
    """What must be told of a fork."""

    def renew(self) -> None:
        """Begin anew: this is a forked child."""
        ...


class Process:
    """The producers and the unfinished runs of this process."""

    def __init__(self) -> None:
        self._producers: weakref.WeakSet[Forking] = weakref.WeakSet()
        self._runs: set[Run] = set()
        self._of_parent: list[Run] = []
        self._at_end: Finalize | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)
        atexit.register(self.close)

    def add(self, producer: Forking, run: Run) -> None:
        """Tell `producer` of forks, and close `run` when the process ends."""
        self._producers.add(producer)
        self._runs.add(run)
        run.finished.add_done_callback(lambda _: self._runs.discard(run))

    def close(self) -> None:
        """Close all runs, side by side, each within its `exit_timeout_s`."""
        begin = time.monotonic()
        runs = sorted(self._runs, key=lambda run: run.settings.exit_timeout_s)
        ends = [run.close() for run in runs]
        for run, end in zip(runs, ends, strict=True):
            left_s = begin + run.settings.exit_timeout_s - time.monotonic()
            wait([end], timeout=max(0.0, left_s))
            run.abandon()
        wait([run.finished for run in runs], timeout=_STOP_S)

    def close_with_child(self) -> None:
        """Have `close` called at the end of a multiprocessing child, too."""
        # Such a child ends with os._exit, so atexit does not run. Its finalizers were
        # cleared when it began, so this cannot be done earlier than in the child.
        util = sys.modules.get("multiprocessing.util")
        process = sys.modules.get("multiprocessing.process")
        if not util or not process or process.parent_process() is None:
            return
        if self._at_end is None or not self._at_end.still_active():
            self._at_end = util.Finalize(None, self.close, exitpriority=10)

    def _forked(self) -> None:
        # Never collected in the child: closing an inherited loop would remove the
        # parent's sockets from the epoll instance that both share.
        self._of_parent += self._runs
        self._runs = set()
        for producer in tuple(self._producers):
            with contextlib.suppress(Exception):
                producer.renew()


@cache
def this_process() -> Process:
    """Return the one `Process`; the first call registers its hooks."""
    return Process()
