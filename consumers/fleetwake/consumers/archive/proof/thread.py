"""The thread that digest lists are written in."""

from __future__ import annotations

import asyncio
import time
import weakref
from threading import Lock
from typing import TYPE_CHECKING, Final

import structlog

from fleetwake.consumers.archive import metrics
from fleetwake.consumers.archive.threads import DaemonThreads
from fleetwake.schemas.errors import RetriableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from weakref import WeakMethod

    from fleetwake.consumers.archive.proof.writer import ListWriter

__all__ = ["ListThread"]

_PATIENCE_S: Final = 5.0
"""So long the start of the archive waits for the store of lists, and so long its
end."""

_log = structlog.get_logger("fleetwake.archive")


class ListThread:
    """
    Writes the lists of all partitions of a process, one after another.

    A store of lists that hangs holds up this thread, and nothing else: what is
    archived meanwhile is listed when the store answers again. Any thread may call it.

    Args:
        check: Raises ConfigurationError where lists cannot be signed and written.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._is_checked = False
        self._thread = DaemonThreads(1, "digest-lists")
        self._lock = Lock()
        self._writers: weakref.WeakSet[ListWriter] = weakref.WeakSet()
        metrics.LISTS_LATE.set_function(self._late_s)

    def add(self, writer: ListWriter) -> None:
        """Let a writer find where its chain of lists ends. It is not kept alive."""
        with self._lock:
            self._writers.add(writer)
        self.soon(weakref.WeakMethod(writer.open))

    def soon(self, work: WeakMethod[Callable[[], None]]) -> None:
        """Do it after all that was asked for before, if its owner is there still."""
        self._thread.submit(_do, work)

    def check_soon(self) -> None:
        """
        Check what lists need, but wait only 5 s for it: archiving can do without.

        Raises:
            ConfigurationError: lists cannot be signed, or the store refuses them.
        """
        try:
            self._thread.submit(self.check).result(_PATIENCE_S)
        except (TimeoutError, RetriableError) as exc:
            why = str(exc) or "the store of lists does not answer"
            _log.warning("digest_lists.unchecked", why=why)

    def check(self) -> None:
        """Check once that it passes. In the thread, before anything is written."""
        if not self._is_checked:
            self._check()
            self._is_checked = True

    async def close(self) -> None:
        """Wait for the lists that were asked for, 5 s at most."""
        last = asyncio.wrap_future(self._thread.submit(time.monotonic))
        try:
            # Not wait_for: on Python 3.11 it may swallow the end of the task.
            async with asyncio.timeout(_PATIENCE_S):
                await last
        except TimeoutError:
            _log.warning(
                "digest_lists.left",
                why="the store of lists does not answer; the next owner writes them",
            )

    def _late_s(self) -> float:
        with self._lock:
            writers = list(self._writers)
        return max((one.late_s for one in writers), default=0.0)


def _do(work: WeakMethod[Callable[[], None]]) -> None:
    if (found := work()) is None:
        return  # its partition was given away
    try:
        found()
    except Exception:  # noqa: BLE001  # nobody waits for it; the next list makes up
        metrics.LIST_FAILURES.inc()
        _log.exception("digest_list.failed")
