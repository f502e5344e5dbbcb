"""What `fleetwake ingest` tells: how far it is, what it refused, what became of all."""

from __future__ import annotations

import contextlib
import json
import os
import textwrap
import time
from typing import TYPE_CHECKING, Final, TextIO

from fleetwake.consumers.cli.exits import say
from fleetwake.consumers.cli.terminal import clean, talk
from fleetwake.consumers.ingest.run import Counts, Refusal
from fleetwake.producer.border import Border
from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from rich.status import Status

    from fleetwake.producer import AuditProducer
    from fleetwake.producer.statistics import DeliveryStatistics

__all__ = ["Account", "rejects_file"]

_TERMINAL_EVERY_S: Final = 0.2
_LINES_EVERY_S: Final = 2.0
_MAX_TOLD: Final = 20
_MAX_PROBLEM: Final = 200


class Account:
    """
    Tells on stderr, and writes refused lines to a file.

    What is told or written of a line is what may leave a producer with the same
    settings: see `Border`.
    """

    def __init__(self, rejects: TextIO | None) -> None:
        self.counts = Counts()
        self.is_clean = False
        """In the end: every line that is not blank is in Kafka."""
        self._rejects = rejects
        self._border = Border()
        self._producer: AuditProducer | None = None
        self._status: Status | None = None
        self._next_at = 0.0

    @contextlib.contextmanager
    def showing(self, producer: AuditProducer) -> Generator[None]:
        """Show the progress meanwhile: in place on a terminal, by lines elsewhere."""
        console = talk()
        self._producer = producer
        self._status = console.status("") if console.is_terminal else None
        self._next_at = time.monotonic() + self._every_s()
        with self._status or contextlib.nullcontext():
            yield

    def show(self) -> None:
        """Show the progress, if it is time to."""
        if time.monotonic() < self._next_at or self._producer is None:
            return
        self._next_at = time.monotonic() + self._every_s()
        acknowledged = self._producer.statistics().acknowledged
        text = (
            f"{self.counts.lines:,} lines, {acknowledged:,} events in Kafka, "
            f"{self.counts.refused.total():,} refused"
        )
        if self._status is None:
            say(text)
        else:
            self._status.update(text)

    def refuse(self, refusal: Refusal) -> None:
        """Tell of the first refused lines; write all of them to the file."""
        line, problem = refusal.line, self._border.text(refusal.problem)
        if self._rejects is not None:
            data = self._border.data(line.text)
            told = {
                "file": refusal.stream,
                "line": line.number,
                "reason": refusal.reason,
                "problem": problem,
                "text": data.decode("utf-8", "backslashreplace"),
            }
            self._rejects.write(json.dumps(told) + "\n")
        refused = self.counts.refused.total()
        if refused <= _MAX_TOLD:
            short = textwrap.shorten(clean(problem), _MAX_PROBLEM)
            say(f"{refusal.stream}, line {line.number}: {refusal.reason}: {short}")
        elif refused == _MAX_TOLD + 1:
            say("further refused lines are counted, not told")

    def tell(self, delivery: DeliveryStatistics, problem: str | None) -> None:
        """Tell what became of all lines; `problem`: of the bookmarks."""
        counts = self.counts
        is_delivered = not delivery.dropped and not delivery.queued
        published = " published" if is_delivered else ""
        say(
            f"{counts.lines:,} lines: {counts.taken:,} taken, {counts.events:,} events"
            f"{published}; {counts.blank:,} blank, {counts.already:,} already "
            f"published, {counts.refused.total():,} refused"
        )
        if counts.already:
            say("what is already published was skipped; --restart publishes it again")
        if counts.refused:
            reasons = ", ".join(
                f"{count:,} {reason}" for reason, count in counts.refused.most_common()
            )
            say(f"refused lines are in the dead letters: {reasons}")
        if not is_delivered:
            say(
                f"of {delivery.accepted:,} events and dead letters "
                f"{delivery.acknowledged:,} are acknowledged by Kafka"
            )
        if delivery.dropped:
            say(f"events not delivered, by reason: {dict(delivery.dropped)}")
        self.is_clean = not counts.refused and not delivery.dropped
        if problem is not None:
            say(f"how far it is was not written down, the next run repeats: {problem}")

    def _every_s(self) -> float:
        return _LINES_EVERY_S if self._status is None else _TERMINAL_EVERY_S


@contextlib.contextmanager
def rejects_file(path: Path | None) -> Generator[TextIO | None]:
    """
    Open a file to append to; if it is new, it is its owner's only.

    Each line is written at once: kill -9 loses none, and it can be watched.

    Raises:
        ConfigurationError: it cannot be written.
    """
    if path is None:
        yield None
        return
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from (
            error
        )
    with open(handle, "a", 1, encoding="utf-8") as opened:  # noqa: PTH123  # no path
        yield opened
