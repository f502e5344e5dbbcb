"""What is published: given files, real trajectories, or the bundled fleet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from pydantic import ValidationError

from fleetwake.consumers.demo.fleet import DEFAULT_SESSIONS, generate
from fleetwake.consumers.demo.recorded import recorded_events
from fleetwake.consumers.demo.shift import shifted
from fleetwake.consumers.demo.trajectories import Row, trajectory_events
from fleetwake.consumers.ingest.lines import LineReader, opened
from fleetwake.consumers.ingest.mapping import AUTO, LineMapper
from fleetwake.consumers.ingest.stream import default_session
from fleetwake.producer.adapters.formats import parse_record
from fleetwake.producer.adapters.mapping import UnmappableError
from fleetwake.producer.enrich import enriched
from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.consumers.ingest.lines import Line
    from fleetwake.schemas.event import AuditEvent

__all__ = ["Input", "choose", "read_files"]

TRAJECTORIES: Final = Path("../shared/data/trajectories")
"""Looked for from the current folder; FLEETWAKE_DEMO_TRAJECTORIES names another."""


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
    Read events of any format or trajectories, plain or gzip, moved to end at `now_us`.

    Raises:
        ConfigurationError: a file cannot be read, or a line of it is neither.
    """
    rows: list[Row] = []
    events: list[AuditEvent] = []
    for path in files:
        mapper = LineMapper(format_=AUTO, session_id=default_session(str(path)))
        with opened(str(path)) as source:
            for line in iter(LineReader(source, str(path)).read, None):
                if line.is_blank:
                    continue
                try:
                    if _is_row(line):
                        rows.append(Row.model_validate_json(line.text))
                    else:
                        events += [enriched(*mapped) for mapped in mapper.map(line)]
                except (UnmappableError, ValidationError) as error:
                    raise ConfigurationError(
                        f"{path}, line {line.number}: {_problem(error)}"
                    ) from error
    return trajectory_events(rows, now_us) + shifted(events, now_us)


def _is_row(line: Line) -> bool:
    return parse_record(line.text).fields.keys() >= {"seq", "kind"}


def _problem(error: UnmappableError | ValidationError) -> str:
    if isinstance(error, UnmappableError):
        return str(error)
    first = error.errors(include_input=False, include_url=False)[0]
    return f"field {'.'.join(map(str, first['loc']))!r}: {first['msg']}"
