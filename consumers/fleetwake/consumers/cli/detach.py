"""`fleetwake up --detach`: ourselves in the background."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.table import Table

from fleetwake.consumers.cli.exits import FAILED, OK, say
from fleetwake.consumers.cli.terminal import talk
from fleetwake.consumers.home import home
from fleetwake.consumers.supervisor import AlreadyRunningError, LogFile, read_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fleetwake.consumers.supervisor import SupervisorState

__all__ = ["detached"]

_OURSELVES: Final = (sys.executable, "-P", "-m", "fleetwake.consumers.cli")
_POLL_S: Final = 0.1


async def detached(names: Sequence[str]) -> int:
    """Start ourselves in the background and wait until all is ready."""
    if state := read_state(home()):
        raise AlreadyRunningError(home(), state.pid)
    log = LogFile(home() / "logs" / "supervisor.log")
    with log.open() as file:
        process = subprocess.Popen(  # noqa: S603, ASYNC220  # ourselves, and at once
            [*_OURSELVES, "up", "--background", *names],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        state = await _complete(home(), process)
    except asyncio.CancelledError:
        process.terminate()
        raise
    if state is None:
        say(log.last_words())
        return process.returncode or FAILED
    _print_processes(state)
    say(
        "`fleetwake status` looks at it, `fleetwake logs -f` too; `fleetwake down` ends"
    )
    return OK


async def _complete(
    folder: Path, process: subprocess.Popen[bytes]
) -> SupervisorState | None:
    """Wait until all has been started; None if the supervisor ended before."""
    with talk().status("starting ...") as shown:
        while process.poll() is None:
            state = read_state(folder)
            if state is not None and state.pid == process.pid:
                if state.is_complete:
                    return state
                shown.update(f"starting {', '.join(_not_ready(state))} ...")
            await asyncio.sleep(_POLL_S)
    return None


def _not_ready(state: SupervisorState) -> Iterator[str]:
    """Names of those that we wait for; of the broker also how its download goes."""
    for one in state.processes:
        if one.phase != "ready":
            log = LogFile(Path(one.log_file))
            told = log.last_words().rpartition("\n")[2] if one.name == "broker" else ""
            yield f"{one.name} {told}"


def _print_processes(state: SupervisorState) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("process", "pid", "address"):
        table.add_column(name)
    for one in state.processes:
        address = (one.ready_url or "").removesuffix("/readyz")
        table.add_row(one.name, str(one.pid), address or f"{state.bootstrap_servers}")
    talk().print(table)
