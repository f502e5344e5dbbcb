"""Files of any kind that a back-test takes, told apart line by line."""

from __future__ import annotations

import contextlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, Field, ValidationError

from fleetwake.consumers.ingest.lines import MAX_LINE_BYTES, LineReader, opened
from fleetwake.consumers.ingest.mapping import AUTO, LineMapper
from fleetwake.consumers.ingest.stream import default_session
from fleetwake.consumers.loops.backtest.cases import Case, recording_of
from fleetwake.consumers.loops.backtest.events import event_entries
from fleetwake.consumers.loops.backtest.recording import Expected, Recording
from fleetwake.consumers.loops.backtest.trajectories import (
    Facts,
    Row,
    trajectory_entries,
)
from fleetwake.producer.adapters.formats import parse_record
from fleetwake.producer.adapters.mapping import UnmappableError
from fleetwake.producer.enrich import enriched
from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    from fleetwake.consumers.ingest.lines import Line
    from fleetwake.schemas.event import AuditEvent

__all__ = ["read_files", "read_labels", "recorded"]

_CASE: Final = frozenset({"case_id", "steps"})
_ROW: Final = frozenset({"session_id", "seq", "kind"})
_FACTS: Final = frozenset({"session_id", "n_calls"})


class _Label(BaseModel):
    """What a human says of a recorded session, in calls from 1."""

    session_id: str = Field(min_length=1)
    label: Literal["loop", "not_loop", "borderline"]
    pattern: str | None = None
    onset_call: int | None = None
    detect_by_call: int | None = None
    max_level: Literal["none", "warning", "critical"] | None = None


def read_files(
    files: Iterable[str],
    labels: Mapping[str, Expected] = MappingProxyType({}),
    *,
    only_cases: bool = False,
) -> list[Recording]:
    """
    Read cases, trajectories, facts of their sessions, and events of any format.

    Each case is a recording of its own, all trajectories are one, and so are all
    events. A file may be gzip; `-` is standard input. `labels` are of sessions.

    Raises:
        ConfigurationError: a file cannot be read, or a line is none of these, or no
            case where only cases are wanted; names the file and the line.
    """
    gathered = _Gathered(only_cases=only_cases)
    for file in files:
        mapper = LineMapper(format_=AUTO, session_id=default_session(file))
        for line in _lines(file):
            with _located(file, line):
                gathered.take(line, mapper)
    return gathered.recordings(labels)


def recorded(
    events: Iterable[tuple[AuditEvent, int]], expected: Mapping[str, Expected]
) -> Recording:
    """Make the log of events, each with the time in ms that a log took it at."""
    return Recording(event_entries(events), expected, {}, stepwise=False)


def read_labels(file: str) -> dict[str, Expected]:
    """
    Read what is expected of sessions, by session.

    Raises:
        ConfigurationError: it cannot be read, or a line is no label.
    """
    known: dict[str, Expected] = {}
    for line in _lines(file):
        with _located(file, line):
            label = _Label.model_validate(_fields(line))
            known[label.session_id] = Expected(
                is_loop=label.label == "loop",
                pattern=label.pattern or "none",
                earliest=label.onset_call or 1,
                latest=label.detect_by_call,
                max_level=label.max_level or "none",
            )
    return known


class _Gathered:
    """What the files have held so far."""

    def __init__(self, *, only_cases: bool) -> None:
        self._only_cases = only_cases
        self._cases: dict[str, Recording] = {}
        self._rows: list[Row] = []
        self._is_healthy: dict[str, bool] = {}
        self._events: list[tuple[AuditEvent, int]] = []

    def take(self, line: Line, mapper: LineMapper) -> None:
        fields = _fields(line)
        names = fields.keys()
        if names >= _CASE:
            case = Case.model_validate(fields)
            if case.case_id in self._cases:
                raise ValueError("there is a case of this case_id already")
            self._cases[case.case_id] = recording_of(case)
        elif self._only_cases:
            raise ValueError("it is no case: it lacks case_id or steps")
        elif names >= _ROW:
            self._rows.append(Row.model_validate(fields))
        elif names >= _FACTS:
            facts = Facts.model_validate(fields)
            self._is_healthy[facts.session_id] = facts.is_healthy
        else:
            for mapped in mapper.map(line):
                event = enriched(*mapped)
                self._events.append((event, event.occurred_at // 1000))

    def recordings(self, labels: Mapping[str, Expected]) -> list[Recording]:
        found = list(self._cases.values())
        if self._rows:
            rows = list(trajectory_entries(self._rows))
            found.append(Recording(rows, labels, self._is_healthy, stepwise=False))
        if self._events:
            found.append(recorded(self._events, labels))
        return found


def _lines(file: str) -> Iterator[Line]:
    with opened(file) as source:
        for line in iter(LineReader(source, file).read, None):
            if not line.is_blank:
                yield line


def _fields(line: Line) -> dict[str, object]:
    if not line.is_whole:
        raise ValueError(f"it has more than {MAX_LINE_BYTES:,} bytes")
    return parse_record(line.text).fields


@contextlib.contextmanager
def _located(file: str, line: Line) -> Generator[None]:
    """Say where it is that something is wrong."""
    try:
        yield
    except ValidationError as error:
        raise _wrong(file, line, _first_problem(error)) from None
    except (UnmappableError, ValueError) as error:
        raise _wrong(file, line, str(error)) from None


def _wrong(file: str, line: Line, problem: str) -> ConfigurationError:
    return ConfigurationError(f"{file}, line {line.number}: {problem}")


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    return f"field {'.'.join(map(str, first['loc']))[:100]!r}: {first['msg']}"
