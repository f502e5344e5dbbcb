"""Takes lines: publishes their events, sets aside what makes none, keeps account."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from fleetwake.producer.adapters.mapping import UnmappableError
from fleetwake.producer.check import check
from fleetwake.producer.dead_letter import DeadLetter
from fleetwake.producer.encoder import Encoder, TooLargeError
from fleetwake.producer.entry import Entry
from fleetwake.schemas.errors import FleetwakeError, InvalidEventError

if TYPE_CHECKING:
    from fleetwake.consumers.ingest.keeper import Keeper
    from fleetwake.consumers.ingest.lines import Line
    from fleetwake.consumers.ingest.stream import Stream
    from fleetwake.producer import AuditProducer
    from fleetwake.producer.adapters.mapping import Mapped
    from fleetwake.producer.content import Content
    from fleetwake.schemas.event import AuditEvent

__all__ = ["GIVEN_UP", "Account", "Counts", "Ingestion", "NotTakenError", "Refusal"]

GIVEN_UP: Final = frozenset({"not_encodable", "too_large", "refused"})
"""Reasons of drops that another attempt does not change; a `gap` event tells them."""

_KEEP_EVERY_S: Final = 0.5
_LARGE_BYTES: Final = 256 * 1024
"""From here on an event may be too large, whatever is cut of it."""
_LETTERS_BYTES: Final = 16 * 1024 * 1024
_LETTER_BYTES: Final = 16 * 1024
"""Of dead letters under way at a time, because `reject` does not wait for room; and
of one at least, in this account."""


class NotTakenError(FleetwakeError):
    """Raised when the producer had to drop events: Kafka does not take them."""


class Refusal(NamedTuple):
    """A line that made no event. Has content: redact before it is shown."""

    stream: str
    line: Line
    reason: str
    problem: str


@dataclass
class Counts:
    """Lines by what became of them, and events. `lines` is the sum of all."""

    lines: int = 0
    taken: int = 0
    blank: int = 0
    already: int = 0
    """Published by an earlier run."""
    refused: Counter[str] = field(default_factory=Counter[str])
    """Dead letters, by reason."""
    events: int = 0


class Account(Protocol):
    """Where an ingestion tells what becomes of lines."""

    counts: Counts

    def refuse(self, refusal: Refusal, /) -> None:
        """Take note of a line that was refused, and counted."""


class Ingestion:
    """
    Publishes streams with one producer.

    Args:
        producer: with `on_full=block` and without a spool: the file is one.
        keeper: writes the bookmarks.
        account: counts what becomes of lines, and is told of each refused one.
        timeout_s: the longest wait for room.
    """

    def __init__(
        self,
        producer: AuditProducer,
        keeper: Keeper,
        account: Account,
        timeout_s: float,
    ) -> None:
        self._producer = producer
        self._keeper = keeper
        self._account = account
        self._timeout_s = timeout_s
        self._keep_at = 0.0
        self._letters_bytes = 0
        self._counts = account.counts
        self._encoder = Encoder(source="native", host=None, environment=None)

    def take(self, stream: Stream, line: Line) -> None:
        """
        Publish a line, or set it aside.

        Raises:
            NotTakenError: Kafka did not take events in time.
        """
        counts = self._counts
        counts.lines += 1
        if line.is_blank:
            counts.blank += 1
        elif stream.is_published:
            self._learn(stream, line)
            counts.already += 1
        else:
            self._publish(stream, line)
        if time.monotonic() > self._keep_at:
            self.keep(stream)

    def keep(self, stream: Stream) -> None:
        """
        Have the stream's place written down when all up to it is acknowledged.

        Raises:
            NotTakenError: something was dropped.
        """
        self._keep_at = time.monotonic() + _KEEP_EVERY_S
        told = self._producer.statistics()
        if told.dropped.keys() - GIVEN_UP:
            raise NotTakenError(
                f"events were not taken ({dict(told.dropped)}) before line "
                f"{self._counts.lines:,}, {told.acknowledged:,} were: {told.last_error}"
            )
        if stream.bookmark is not None and stream.reader.offset > stream.kept:
            self._keeper.offer(stream.bookmark, stream.place())
            stream.kept = stream.reader.offset

    def _learn(self, stream: Stream, line: Line) -> None:
        """What an adapter must know of it; it was published or set aside before."""
        try:
            stream.map(line)
        except UnmappableError:
            return

    def _publish(self, stream: Stream, line: Line) -> None:
        try:
            checked = [self._checked(one) for one in stream.map(line)]
        except UnmappableError as error:
            self._refuse(stream, line, error.reason, str(error))
            return
        for event, content in checked:
            self._producer.emit(event, content)
        self._counts.events += len(checked)
        self._counts.taken += 1

    def _checked(self, mapped: Mapped) -> tuple[AuditEvent, Content | None]:
        """
        See now what the producer would find later, when nobody knows the line.

        Raises:
            UnmappableError: invalid_event, too_large.
        """
        try:
            checked = check(*mapped)
            if checked.size > _LARGE_BYTES:
                self._encoder(Entry(*checked[:3], "try", 1, 1, checked.content))
        except InvalidEventError as error:
            raise UnmappableError("invalid_event", str(error)) from None
        except TooLargeError as error:
            raise UnmappableError("too_large", str(error)) from None
        return checked.event, checked.content

    def _refuse(self, stream: Stream, line: Line, reason: str, problem: str) -> None:
        self._counts.refused[reason] += 1
        origin = {"file": stream.name, "line": str(line.number)}
        self._producer.reject(DeadLetter(line.text, reason, problem, origin))
        self._account.refuse(Refusal(stream.name, line, reason, problem))
        self._letters_bytes += max(_LETTER_BYTES, len(line.text))
        if self._letters_bytes > _LETTERS_BYTES:
            self._producer.flush(self._timeout_s)
            self._letters_bytes = 0
        if not line.is_ended:
            # More of it may be written: then it is read again, whole.
            stream.reader.give_back()
