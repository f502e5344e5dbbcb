"""`fleetwake down`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Final

from fleetwake.consumers.cli.command import command
from fleetwake.consumers.cli.exits import OK, say
from fleetwake.schemas.errors import FleetwakeError

if TYPE_CHECKING:
    from fleetwake.consumers.supervisor import RunLock

__all__ = ["down"]

_POLL_S: Final = 0.1
_STOPPED_AFTER_S: Final = 60.0
"""The services have 25 s to stop, and then the broker has."""

_KILLED_AFTER_S: Final = 10.0


@command(
    "fleetwake down",
    "fleetwake down --home /srv/fleetwake",
    exits={0: "nothing runs any longer", 1: "something did not stop"},
)
async def down() -> int:
    """
    Stop what `fleetwake up` runs in this home, wherever it was started.

    The services flush and commit, then the broker stops. What has not stopped after a
    minute is killed.
    """
    from fleetwake.consumers.home import home
    from fleetwake.consumers.supervisor import RunLock, read_state

    lock, state = RunLock(home()), read_state(home())
    if not lock.is_held():
        say(f"nothing runs in {home()}")
        return OK
    owner = lock.owner()
    names = [one.name for one in state.processes] if state else []
    say(
        f"stopping {', '.join(reversed(names)) or 'what an earlier start has left'} ..."
    )
    if owner is not None:
        os.kill(owner, signal.SIGTERM)
    if not await _released(lock, _STOPPED_AFTER_S):
        if owner is not None:
            os.kill(owner, signal.SIGTERM)
        if not await _released(lock, _KILLED_AFTER_S):
            raise FleetwakeError(f"something still runs in {home()}: process {owner}")
    say("stopped")
    return OK


async def _released(lock: RunLock, timeout_s: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while lock.is_held():  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(_POLL_S)
            return True
    return False
