"""What is published: given files, real trajectories, or the bundled fleet."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from pydantic import ValidationError

from fleetwake.consumers.demo.fleet import DEFAULT_SESSIONS, generate
from fleetwake.consumers.demo.recorded import recorded_events
from fleetwake.consumers.demo.shift import shifted
from fleetwake.consumers.demo.trajectories import Row, trajectory_events
from fleetwake.schemas.errors import ConfigurationError, InvalidEventError
from fleetwake.schemas.models import parse_event

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fleetwake.schemas.event import AuditEvent

__all__ = ["Input", "choose", "read_files"]

TRAJECTORIES: Final = Path("../shared/data/trajectories")
"""Looked for from the current folder; FLEETWAKE_DEMO_TRAJECTORIES names another."""

_GZIP: Final = b"\x1f\x8b"


class Input(NamedTuple):
    """Events by time, and in one line where they come from."""

    events: list[AuditEvent]
    origin: str


def choose(
    files: Sequence[Path],
    *,
    sessions: int | None,
    seed: int | None,
    trajectories: Path,
    now_us: int,
) -> Input:
    """
    Read `files`; else the trajectories where they are; else make our own fleet.

    `sessions` or `seed` ask for our own fleet. The recordings of the source systems
    come along with either.

    Raises:
        ConfigurationError: a file cannot be read, or a line of it is no event.
    """
    found = sorted(
        path for path in trajectories.glob("*.jsonl*") if ".sessions." not in path.name
    )
    if files:
        chosen = Input(read_files(files, now_us), f"{len(files)} given file(s)")
    elif found and sessions is None and seed is None:
        chosen = Input(read_files(found, now_us), f"real trajectories, {trajectories}")
    else:
        count, seed = sessions or DEFAULT_SESSIONS, 1 if seed is None else seed
        fleet = generate(sessions=count, seed=seed, now_us=now_us)
        chosen = Input(fleet.events, f"bundled, {count} sessions, seed {seed}")
    events = sorted(
        chosen.events + recorded_events(now_us), key=lambda event: event.occurred_at
    )
    return chosen._replace(events=events)


def read_files(files: Sequence[Path], now_us: int) -> list[AuditEvent]:
    """
    Read native events or trajectories, plain or gzip, moved to end at `now_us`.

    Raises:
        ConfigurationError: a file cannot be read, or a line of it is no event.
    """
    rows: list[Row] = []
    events: list[AuditEvent] = []
    for path in files:
        for number, line in _lines(path):
            try:
                if _is_row(line):
                    rows.append(Row.model_validate_json(line))
                else:
                    events.append(parse_event(line))
            except (InvalidEventError, ValidationError) as error:
                raise ConfigurationError(
                    f"{path}, line {number}: {_problem(error)}"
                ) from error
    return trajectory_events(rows, now_us) + shifted(events, now_us)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            is_gzip = file.peek(2)[:2] == _GZIP
            lines = gzip.GzipFile(fileobj=file) if is_gzip else file
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{path} cannot be read: {why}") from error


def _is_row(line: bytes) -> bool:
    try:
        found = json.loads(line)
    except ValueError:
        return False
    return isinstance(found, dict) and "seq" in found and "kind" in found


def _problem(error: InvalidEventError | ValidationError) -> str:
    if isinstance(error, InvalidEventError):
        return str(error)
    first = error.errors(include_input=False, include_url=False)[0]
    return f"field {'.'.join(map(str, first['loc']))!r}: {first['msg']}"
