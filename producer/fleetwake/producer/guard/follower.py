"""One thread per process and Kafka that keeps the verdicts in memory."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import random
import threading
import time
import weakref
from contextlib import aclosing
from functools import cache
from typing import TYPE_CHECKING, Final

from fleetwake.producer.guard.source import follow_verdicts
from fleetwake.producer.guard.table import BlockTable
from fleetwake.producer.guard.verdicts import Verdicts
from fleetwake.producer.loop import THREAD_NAME, PrivateLoop
from fleetwake.schemas.errors import FleetwakeError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from fleetwake.producer.guard.source import Changes
    from fleetwake.producer.settings import KafkaSettings

__all__ = ["Follower", "follower_of"]

# A guard per request comes and goes; reading the topic for each would never end.
_LINGER_S: Final = 60.0

# So long without an answer: a new client may find the brokers where this one does not.
_GIVE_UP_S: Final = 30.0

_BACKOFF_S: Final = 0.1
_MAX_BACKOFF_S: Final = 5.0
_STOP_S: Final = 0.5


class Hold:
    """What keeps a follower at work: it ends a minute after the last one is gone."""


class Follower:
    """
    Reads the topic from its beginning, then lives on it; reconnects for ever.

    What was known stays in force until a new reading is complete.
    """

    def __init__(
        self,
        open_source: Callable[[], AsyncGenerator[Changes]],
        *,
        verdicts: Verdicts | None = None,
        linger_s: float = _LINGER_S,
    ) -> None:
        self.verdicts = verdicts or Verdicts()
        self.is_running = False
        self._open_source = open_source
        self._linger_s = linger_s
        self._hold: Callable[[], Hold | None] = lambda: None
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cancel: Callable[[], object] = lambda: None
        self._stopping = threading.Event()
        self._unheld_since: float | None = None

    def hold(self) -> Hold:
        """Start it if need be, and keep it at work as long as the result lives."""
        with self._lock:
            hold = self._hold() or Hold()
            self._hold = weakref.ref(hold)
            self.start()
            return hold

    def start(self) -> None:
        """Start the thread if there is none. Never raises."""
        with self._lock:
            if self.is_running or self._stopping.is_set():
                return
            try:
                # Before its start: a signal handler may ask during that.
                self.is_running = True
                self._thread = threading.Thread(
                    target=self._run, name=f"{THREAD_NAME}-guard", daemon=True
                )
                self._thread.start()
            except BaseException as error:
                # By Ctrl-C it may have started all the same: see _run.
                self.is_running, self._thread = False, None
                if not isinstance(error, RuntimeError):
                    raise
                # Too many threads, or too late.
                self.verdicts.last_error = f"no thread: {error}"

    def stop(self, timeout_s: float = _STOP_S) -> None:
        """End the thread for good, and wait for that a little."""
        self._stopping.set()
        if (loop := self._loop) is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._cancel)
        if self._thread is not None:
            self._thread.join(timeout_s)

    def renew(self) -> None:
        """Begin anew in a forked child; what the parent knew is still known."""
        # Never collected here: closing an inherited loop would remove the parent's
        # sockets from the epoll instance that both share.
        _of_parent.append(self._loop)
        self._lock = threading.RLock()
        self.verdicts.renew()
        self._stopping = threading.Event()
        self._thread = self._loop = self._unheld_since = None
        self.is_running = False

    def _run(self) -> None:
        with self._lock:
            if self._thread is not threading.current_thread():
                return
        backoff_s = _BACKOFF_S
        while not self._is_over():
            begin = time.monotonic()
            try:
                with asyncio.Runner(loop_factory=PrivateLoop) as runner:
                    runner.run(self._live())
            except asyncio.CancelledError:
                continue
            except BaseException as error:  # noqa: BLE001  # the answer is the same
                # Not the text of an error that is not ours: it may hold content.
                known = isinstance(error, FleetwakeError)
                problem = str(error) if known else type(error).__name__
                self.verdicts.last_error = problem
            if time.monotonic() - begin > _GIVE_UP_S:
                backoff_s = _BACKOFF_S
            # Jitter, so that a fleet does not come back as one.
            self._stopping.wait(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311
            backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        self._cancel = task.cancel if task else self._cancel
        self._loop = loop
        try:
            await self._follow()
        finally:
            if self._loop is loop:  # and not already that of the next thread
                self._loop = None
            if isinstance(loop, PrivateLoop):
                await loop.hang_up()

    async def _follow(self) -> None:
        table = BlockTable()
        heard_at = time.monotonic()
        async with aclosing(self._open_source()) as polls:
            async for changes, confirmed_at in polls:
                for session_id, blocks in changes:
                    table.put(session_id, blocks)
                    if blocks is None:
                        self.verdicts.count("unreadable")
                table.sweep()
                if confirmed_at is not None:
                    self.verdicts.confirm(table, confirmed_at)
                    heard_at = confirmed_at
                elif changes:
                    heard_at = time.monotonic()
                if time.monotonic() - heard_at > _GIVE_UP_S:
                    raise FleetwakeError("the verdicts topic does not answer")
                if self._is_over():
                    return

    def _is_over(self) -> bool:
        if self._stopping.is_set():
            return True
        with self._lock:
            if self._hold() is not None:
                self._unheld_since = None
                return False
            now = time.monotonic()
            self._unheld_since = self._unheld_since or now
            if now - self._unheld_since < self._linger_s:
                return False
            self.is_running = False
            self._unheld_since = None
            return True


class _Followers:
    """Those of this process, one per Kafka."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._by_settings: list[tuple[KafkaSettings, Follower]] = []
        self._default: Follower | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)
        atexit.register(self._stop)

    def find(self, kafka: KafkaSettings | None) -> Follower:
        from fleetwake.producer.settings import KafkaSettings

        with self._lock:
            if kafka is None and self._default is not None:
                return self._default
            settings = kafka or KafkaSettings()
            follower = next(
                (one for of, one in self._by_settings if of == settings), None
            )
            if follower is None:
                follower = Follower(lambda: follow_verdicts(settings))
                self._by_settings.append((settings, follower))
            if kafka is None:
                self._default = follower
            return follower

    def _forked(self) -> None:
        self._lock = threading.RLock()
        for _, follower in self._by_settings:
            follower.renew()

    def _stop(self) -> None:
        for _, follower in self._by_settings:
            follower.stop()


_of_parent: list[object] = []


@cache
def _followers() -> _Followers:
    return _Followers()


def follower_of(kafka: KafkaSettings | None = None) -> Follower:
    """
    Return the process's follower of a Kafka; None: of the environment's settings.

    Those are read once per process.
    """
    return _followers().find(kafka)
