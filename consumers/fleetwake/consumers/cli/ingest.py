"""`fleetwake ingest`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final, Literal, TextIO

import typer

from fleetwake.consumers.cli.command import command
from fleetwake.consumers.cli.exits import FAILED, OK, UnreachableError, say
from fleetwake.consumers.cli.terminal import clean, talk
from fleetwake.schemas.errors import ConfigurationError, InvalidEventError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from fleetwake.producer import AuditProducer
    from fleetwake.producer.settings import KafkaSettings

__all__ = ["ingest"]

_MAX_LINE_BYTES: Final = 8 * 1024 * 1024
"""A record has 1 MiB at most; JSON escapes can make six times as much of it."""

_SEE_EVERY_S: Final = 0.5
_MAX_TOLD: Final = 20
_MAX_REASON: Final = 200


@command(
    "fleetwake ingest events.jsonl",
    "zcat march.jsonl.gz | fleetwake ingest - --rejects refused.jsonl",
    """echo '{"event_type": "mark", "session_id": "s-1"}' | fleetwake ingest -""",
    exits={
        0: "all lines are published",
        1: "lines were refused, the others are published",
        2: "a file cannot be opened",
        4: "Kafka does not answer, or did not take all within --timeout",
        130: "stopped by Ctrl-C",
    },
)
def ingest(
    file: Annotated[str, typer.Argument(metavar="FILE", help="- is standard input.")],
    *,
    format_: Annotated[  # what else there is comes with its adapter
        Literal["native"], typer.Option("--format", help="Of the lines.")
    ] = "native",
    rejects: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write refused lines here, with the reason."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="For Kafka to answer.")
    ] = 30.0,
) -> int:
    """
    Publish events from JSON lines, one event a line.

    A line has the fields of an event; event_type and session_id must be there, what a
    producer stamps (producer_id, sequence, recorded_at) is stamped anew. A line that
    is no event is refused and reported by its number, and the rest goes on. Nothing
    else is dropped: the reader waits for Kafka.
    """
    del format_
    from fleetwake.consumers.cli.cluster import kafka_settings, partitions_of, reach
    from fleetwake.producer import AuditProducer
    from fleetwake.producer.settings import ProducerSettings
    from fleetwake.schemas.topics import EVENTS

    kafka = kafka_settings()
    settings = ProducerSettings(on_full="block", block_timeout_s=timeout)
    with _lines(file) as lines, _opened(rejects) as refused:
        partitions_of(kafka, EVENTS, asyncio.run(reach(kafka, timeout, patient=True)))
        with AuditProducer(settings, kafka=kafka, strict=True) as producer:
            run = _Run(producer, kafka, timeout, refused)
            run.read(lines)
            run.finish()
    return FAILED if run.refused else OK


@dataclass
class _Run:
    producer: AuditProducer
    kafka: KafkaSettings
    timeout_s: float
    rejects: TextIO | None
    lines: int = 0
    events: int = 0
    refused: int = 0
    _see_at: float = 0.0

    def read(self, lines: Iterator[tuple[int, bytes]]) -> None:
        """Publish line by line."""
        with _progress() as show:
            for number, line in lines:
                self.lines = number
                self._take(number, line)
                if time.monotonic() > self._see_at:
                    self._see()
                show(self._told)

    def finish(self) -> None:
        """
        Wait for the acknowledgement of what is under way.

        Raises:
            UnreachableError: it does not come.
        """
        is_delivered = self.producer.close(self.timeout_s)
        self._see()
        told = self.producer.statistics()
        say(
            f"{self.lines:,} lines: {self.events:,} events published, {self.refused:,} "
            f"refused"
        )
        if not is_delivered:
            raise UnreachableError(
                f"{self.kafka.bootstrap_servers} did not take all within "
                f"{self.timeout_s:g} s: {told.last_error}"
            )

    def _take(self, number: int, line: bytes) -> None:
        from fleetwake.schemas.models import parse_event

        if len(line) > _MAX_LINE_BYTES:
            self._refuse(number, line, f"it has more than {_MAX_LINE_BYTES:,} bytes")
            return
        try:
            self.producer.emit(parse_event(line))
        except InvalidEventError as error:
            self._refuse(number, line, str(error))
        else:
            self.events += 1

    def _refuse(self, number: int, line: bytes, reason: str) -> None:
        self.refused += 1
        if self.rejects is not None:
            text = line.decode("utf-8", "backslashreplace").rstrip("\r\n")
            told = {"line": number, "reason": reason, "text": text}
            self.rejects.write(json.dumps(told) + "\n")
        if self.refused <= _MAX_TOLD:
            say(f"line {number}: {textwrap.shorten(clean(reason), _MAX_REASON)}")
        elif self.refused == _MAX_TOLD + 1:
            say("further refused lines are counted, not told")

    def _see(self) -> None:
        """
        See that nothing was dropped.

        Raises:
            UnreachableError: the queue was full for longer than we wait.
        """
        self._see_at = time.monotonic() + _SEE_EVERY_S
        told = self.producer.statistics()
        if told.dropped:
            raise UnreachableError(
                f"events were not taken ({dict(told.dropped)}) before line "
                f"{self.lines:,}, {told.acknowledged:,} were: {told.last_error}"
            )

    def _told(self) -> str:
        acknowledged = self.producer.statistics().acknowledged
        return (
            f"{self.lines:,} lines, {acknowledged:,} events in Kafka, "
            f"{self.refused:,} refused"
        )


@contextlib.contextmanager
def _progress() -> Generator[Callable[[Callable[[], str]], None]]:
    """What shows a text now and then: in place on a terminal, by lines elsewhere."""
    console = talk()
    every_s = 0.2 if console.is_terminal else 2.0
    next_at = time.monotonic() + every_s

    def show(text: Callable[[], str]) -> None:
        nonlocal next_at
        if time.monotonic() < next_at:
            return
        next_at = time.monotonic() + every_s
        if status is None:
            say(text())
        else:
            status.update(text())

    status = console.status("") if console.is_terminal else None
    with status or contextlib.nullcontext():
        yield show


@contextlib.contextmanager
def _lines(file: str) -> Generator[Iterator[tuple[int, bytes]]]:
    """Lines that are not blank, with their numbers; a far too long one is cut."""
    if file == "-":
        yield _numbered(sys.stdin.buffer)
        return
    try:
        opened = Path(file).open("rb")  # noqa: SIM115  # closed below
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
    with opened:
        yield _numbered(opened)


def _numbered(source: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := source.readline(_MAX_LINE_BYTES + 1):
        number += 1
        rest = line
        while len(rest) > _MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = source.readline(_MAX_LINE_BYTES + 1)
        if line.strip():
            yield number, line


@contextlib.contextmanager
def _opened(path: Path | None) -> Generator[TextIO | None]:
    if path is None:
        yield None
        return
    try:
        opened = path.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from (
            error
        )
    with opened:
        yield opened
