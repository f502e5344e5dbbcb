"""One process that is kept running."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import time
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from fleetwake.consumers.supervisor.log import LogFile
from fleetwake.consumers.supervisor.state import Phase, ProcessState
from fleetwake.schemas.errors import FleetwakeError

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable
    from pathlib import Path

    from fleetwake.consumers.supervisor.spec import ProcessSpec

__all__ = ["Clock", "ProcessFailedError", "SupervisedProcess", "SystemClock", "answers"]

_FIRST_BACKOFF_S: Final = 1.0
_MAX_BACKOFF_S: Final = 30.0
_STABLE_S: Final = 60.0
_READY_POLL_S: Final = 0.1
_REQUEST_TIMEOUT_S: Final = 2.0
_OK: Final = 200
_CANNOT_START: Final = 127
"""As in a shell."""


class ProcessFailedError(FleetwakeError):
    """Raised when a process ends before it is ready, or need not be tried again."""

    def __init__(self, name: str, exit_code: int, last_words: str) -> None:
        told = f":\n{last_words}" if last_words else ""
        super().__init__(f"{name} ended with exit code {exit_code}{told}")
        self.name = name
        self.exit_code = exit_code


class Clock(Protocol):
    """Time, so that tests need not wait for it."""

    def now(self) -> float:
        """Seconds, monotonic."""
        ...

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Return when `event` is set, after `seconds` at the latest."""
        ...


class SystemClock:
    """The real one."""

    def now(self) -> float:
        """Seconds, monotonic."""
        return time.monotonic()

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Return when `event` is set, after `seconds` at the latest."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), seconds)


class SupervisedProcess:
    """
    Runs a process, again whenever it ends, until it is stopped.

    Between two runs it waits 1 s, twice as long each time up to 30 s, and 1 s again
    after a run of a minute. An exit code of `final_exit_codes` is the end, and so is
    any end before it was ready for the first time.
    """

    def __init__(
        self,
        spec: ProcessSpec,
        log_file: Path,
        *,
        changed: Callable[[ProcessState], None],
        inherited: tuple[int, ...] = (),
        clock: Clock,
    ) -> None:
        self.spec = spec
        self._log = LogFile(log_file)
        self._changed = changed
        self._inherited = inherited
        self._clock = clock
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._settled = asyncio.Event()
        self._was_ready = False
        self._phase: Phase = "starting"
        self._started_at_ms: int | None = None
        self._next_start_at_ms: int | None = None
        self._exit_code: int | None = None
        self._restarts = 0

    @property
    def state(self) -> ProcessState:
        """What is known of it now."""
        process = self._process
        return ProcessState(
            name=self.spec.name,
            phase=self._phase,
            pid=process.pid if process else None,
            started_at_ms=self._started_at_ms,
            restarts=self._restarts,
            exit_code=self._exit_code,
            next_start_at_ms=self._next_start_at_ms,
            ready_url=self.spec.ready_url,
            log_file=str(self._log.path),
        )

    async def start(self) -> None:
        """
        Start it and wait until it is ready for the first time.

        Raises:
            ProcessFailedError: it ended before that; it is not started again.
        """
        self._task = asyncio.create_task(self._keep_running())
        await self._settled.wait()
        if self._phase == "failed" and self._exit_code is not None:
            raise ProcessFailedError(
                self.spec.name, self._exit_code, self._log.last_words()
            )

    async def ended(self) -> None:
        """Wait until it has failed for good, or was stopped."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def stop(self) -> None:
        """Send SIGTERM, wait for `stop_timeout_s`, and kill what is left then."""
        self._stop.set()
        self._signal(signal.SIGTERM)
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=self.spec.stop_timeout_s)
            self.kill()
            await asyncio.wait({self._task})

    def terminate(self) -> None:
        """Send SIGTERM, once more, and do not wait."""
        self._stop.set()
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, and what it has started in its process group, at once."""
        self._stop.set()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _keep_running(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while not self._stop.is_set():
            began = self._clock.now()
            self._exit_code = code = await self._run_once()
            if self._stop.is_set():
                break
            if code in self.spec.final_exit_codes or not self._was_ready:
                self._change("failed")
                self._settled.set()
                return
            if self._clock.now() - began >= _STABLE_S:
                backoff_s = _FIRST_BACKOFF_S
            self._next_start_at_ms = _now_ms() + int(backoff_s * 1000)
            self._change("waiting")
            await self._clock.wait(self._stop, backoff_s)
            backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)
            self._next_start_at_ms = None
            self._restarts += not self._stop.is_set()
        self._change("stopped")
        self._settled.set()

    async def _run_once(self) -> int:
        """Run it to its end; its exit code."""
        try:
            self._process = process = await self._spawn()
        except OSError as error:
            with contextlib.suppress(OSError):
                self._log.append(f"cannot start {self.spec.argv[0]}: {error}")
            return _CANNOT_START
        self._started_at_ms = _now_ms()
        self._change("starting")
        if self._stop.is_set():
            self._signal(signal.SIGTERM)
        watch = asyncio.create_task(self._until_ready())
        try:
            return await process.wait()
        except asyncio.CancelledError:  # the loop is being closed
            self.kill()
            raise
        finally:
            watch.cancel()
            self._process = None

    async def _spawn(self) -> Process:
        with self._log.open() as log:
            return await asyncio.create_subprocess_exec(
                *self.spec.argv,
                env=os.environ | self.spec.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal is for us: we stop it in order.
                start_new_session=True,
                pass_fds=self._inherited,
            )

    async def _until_ready(self) -> None:
        while not await self._is_ready():  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(_READY_POLL_S)
        self._was_ready = True
        self._change("ready")
        self._settled.set()

    async def _is_ready(self) -> bool:
        if self.spec.ready_url is not None:
            return await answers(self.spec.ready_url)
        if self.spec.ready_line is not None:
            return self._log.has_line(self.spec.ready_line)
        return True

    def _change(self, phase: Phase) -> None:
        self._phase = phase
        self._changed(self.state)


async def answers(url: str) -> bool:
    """Whether a GET of this http address is answered with 200, within 2 s."""
    return await asyncio.to_thread(_get, url)


def _get(url: str) -> bool:
    # Not urllib.request: it would ask a proxy of the environment.
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(
        parts.hostname or "", parts.port, timeout=_REQUEST_TIMEOUT_S
    )
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == _OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
