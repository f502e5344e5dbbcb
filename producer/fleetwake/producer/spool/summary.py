"""What a spool tells other processes about itself, in a small file beside it."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, NamedTuple

from fleetwake.producer.spool.names import lock_of, summary_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SpoolSummary", "owner_of", "read_summary", "write_summary"]


class SpoolSummary(NamedTuple):
    """How a spool is doing, seen from outside."""

    path: Path
    pid: int
    """Of the process that made it; 0 where it is not known."""
    producer_id: str
    events: int
    """Of a living owner: as of its last write_statistics."""
    bytes: int
    oldest_recorded_at: int | None
    statistics: str | None
    """JSON, as its owner wrote it last."""
    alive: bool
    """Whether a process holds its lock: its owner, or one that adopted it."""


def owner_of(path: Path) -> tuple[int, str]:
    """Return process id and producer_id of a spool's maker; 0 and "" if unknown."""
    with contextlib.suppress(OSError, ValueError):
        pid, producer_id = lock_of(path).read_text().splitlines()[:2]
        return int(pid), producer_id
    return 0, ""


def write_summary(summary: SpoolSummary) -> None:
    """Replace the summary of a spool. Never raises."""
    path = summary_of(summary.path)
    draft = path.with_name(f"{path.name}.new")
    told = summary._asdict()
    del told["path"], told["alive"]
    with contextlib.suppress(OSError):
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, json.dumps(told).encode())
        finally:
            os.close(descriptor)
        draft.replace(path)


def read_summary(path: Path) -> SpoolSummary:
    """Return what the owner of a spool told last; zeros where that is nothing."""
    pid, producer_id = owner_of(path)
    unknown = SpoolSummary(path, pid, producer_id, 0, 0, None, None, alive=False)
    with contextlib.suppress(OSError, ValueError, TypeError, LookupError):
        told = json.loads(summary_of(path).read_bytes())
        oldest, statistics = told["oldest_recorded_at"], told["statistics"]
        return unknown._replace(
            events=int(told["events"]),
            bytes=int(told["bytes"]),
            oldest_recorded_at=None if oldest is None else int(oldest),
            statistics=None if statistics is None else str(statistics),
        )
    return unknown
