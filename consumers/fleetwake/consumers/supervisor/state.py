"""What a supervisor tells other processes of itself: `run/state.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from fleetwake.consumers.supervisor.lock import RunLock

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "ProcessState",
    "SupervisorState",
    "read_state",
    "remove_state",
    "write_state",
]

Phase = Literal["starting", "ready", "waiting", "failed", "stopped"]
"""`ready` once it was; `waiting` for its next start; `failed`: for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    """One process. Times are milliseconds since the epoch."""

    name: str
    phase: Phase
    pid: int | None
    started_at_ms: int | None
    restarts: int
    exit_code: int | None
    """Of its last end; negative: killed by that signal."""
    next_start_at_ms: int | None
    ready_url: str | None
    log_file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorState:
    """A supervisor and its processes, in the order of their start."""

    pid: int
    started_at_ms: int
    bootstrap_servers: str | None
    is_complete: bool
    """All that was to be started has been."""
    processes: tuple[ProcessState, ...]


def write_state(home: Path, state: SupervisorState) -> None:
    """Replace the file; a reader sees the old one or the new one."""
    path = _path(home)
    half = path.with_suffix(".new")
    half.write_text(json.dumps(asdict(state), indent=1))
    half.replace(path)


def read_state(home: Path) -> SupervisorState | None:
    """Return the state of the supervisor that runs in `home`; None if none does."""
    owner = RunLock(home).owner()
    try:
        told = json.loads(_path(home).read_text())
    except (FileNotFoundError, ValueError):
        return None
    if owner is None or told.get("pid") != owner:
        return None
    processes = tuple(ProcessState(**one) for one in told.pop("processes"))
    return SupervisorState(**told, processes=processes)


def remove_state(home: Path) -> None:
    """Remove the file."""
    _path(home).unlink(missing_ok=True)


def _path(home: Path) -> Path:
    return home / "run" / "state.json"
