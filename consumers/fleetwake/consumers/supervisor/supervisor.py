"""Starts processes, keeps them running, stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, Final

from fleetwake.consumers.supervisor.lock import RunLock
from fleetwake.consumers.supervisor.process import SupervisedProcess, SystemClock
from fleetwake.consumers.supervisor.state import (
    ProcessState,
    SupervisorState,
    remove_state,
    write_state,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from fleetwake.consumers.supervisor.process import Clock
    from fleetwake.consumers.supervisor.spec import ProcessSpec

__all__ = ["Supervisor"]

_KILL_AFTER_S: Final = 2.0


class Supervisor:
    """
    The processes of one folder: the lock and state in `run/`, their logs in `logs/`.

    `on_change` is called on the event loop whenever a process starts, gets ready,
    ends or is given up. All methods belong to one event loop, that of a thread which
    lives as long as the processes.

    Guarantees: no two supervisors run in one folder. Each process has a session of its
    own, so that Ctrl-C in a terminal reaches only us. A process that watches its
    parent (`stop_with_parent`; ours do) ends when we are killed, and until then the
    folder stays locked.
    """

    def __init__(
        self,
        home: Path,
        *,
        bootstrap_servers: str | None = None,
        on_change: Callable[[ProcessState], None] = lambda _: None,
        clock: Clock | None = None,
    ) -> None:
        self._home = home
        self._bootstrap_servers = bootstrap_servers
        self._on_change = on_change
        self._clock = clock or SystemClock()
        self._lock = RunLock(home)
        self._batches: list[list[SupervisedProcess]] = []
        self._started_at_ms = time.time_ns() // 1_000_000
        self._is_complete = False

    async def __aenter__(self) -> Self:
        """
        Take the folder.

        Raises:
            AlreadyRunningError: another supervisor has it.
        """
        await self._lock.acquire()
        self._write()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop what runs and give the folder back."""
        try:
            await self.stop()
        finally:
            remove_state(self._home)
            self._lock.release()

    @property
    def states(self) -> tuple[ProcessState, ...]:
        """What is known of each process now, in the order of their start."""
        return tuple(one.state for batch in self._batches for one in batch)

    async def start(self, *specs: ProcessSpec) -> None:
        """
        Start processes, and wait until each is ready for the first time.

        From then on they are kept running.

        Raises:
            ProcessFailedError: one ended before it was ready; the others go on.
        """
        batch = [
            SupervisedProcess(
                spec,
                self._home / "logs" / f"{spec.name}.log",
                changed=self._note,
                inherited=(self._lock.descriptor,),
                clock=self._clock,
            )
            for spec in specs
        ]
        self._batches.append(batch)
        await asyncio.gather(*(one.start() for one in batch))

    def complete(self) -> None:
        """Tell whoever waits for us (`up --detach`) that all has been started."""
        self._is_complete = True
        self._write()

    async def wait(self) -> None:
        """Wait until none of the processes is kept running any longer."""
        await asyncio.gather(*(one.ended() for one in self._all()))

    async def stop(self) -> None:
        """
        Stop what was started last first; those that were started together, together.

        When this is cancelled it kills what is left.
        """
        try:
            for batch in reversed(self._batches):
                await asyncio.gather(*(one.stop() for one in batch))
        except asyncio.CancelledError:
            await self.kill()
            raise

    async def kill(self) -> None:
        """Send SIGTERM to all that runs, and SIGKILL two seconds later."""
        running = self._all()
        for one in running:
            # The embedded broker takes a second SIGTERM as: at once, with Java.
            one.terminate()
        try:
            async with asyncio.timeout(_KILL_AFTER_S):
                await self.wait()
        except TimeoutError:
            pass
        finally:
            for one in running:
                one.kill()
        await self.wait()

    def _all(self) -> list[SupervisedProcess]:
        return [one for batch in self._batches for one in batch]

    def _note(self, state: ProcessState) -> None:
        self._write()
        self._on_change(state)

    def _write(self) -> None:
        state = SupervisorState(
            pid=os.getpid(),
            started_at_ms=self._started_at_ms,
            bootstrap_servers=self._bootstrap_servers,
            is_complete=self._is_complete,
            processes=self.states,
        )
        # A full disk must not end what is supervised: the next change is written again.
        with contextlib.suppress(OSError):
            write_state(self._home, state)
