"""Records that nobody can read: kept with their reason, up to a limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleetwake.consumers.runtime.service import InvalidRecord, OutRecord
from fleetwake.schemas.errors import FleetwakeError
from fleetwake.schemas.topics import DEAD_LETTERS

if TYPE_CHECKING:
    from fleetwake.consumers.runtime.source import TopicPartition

__all__ = ["DeadLetterLimit", "TooManyDeadLettersError", "dead_letter"]

_MAX_ERROR_CHARS = 1_000


class TooManyDeadLettersError(FleetwakeError):
    """Raised when nearly everything is poison: stopping beats setting it all aside."""

    def __init__(self, at: TopicPartition, invalid: int, total: int, last: str) -> None:
        super().__init__(
            f"{invalid} of {total} records of {at.topic}[{at.partition}] cannot be "
            f"read (the last: {last}); nothing was committed. Deploy the schema that "
            "they need, or raise FLEETWAKE_RUNTIME_DEAD_LETTER_MAX_RATIO"
        )


@dataclass(slots=True)
class DeadLetterLimit:
    """
    Judges each window of records of one partition.

    The idea is Arroyo's `DlqLimit`: a limit keeps a wrong deployment from sending a
    whole topic to the dead letters.
    """

    window: int
    max_ratio: float
    _total: int = 0
    _invalid: int = 0

    def add(self, at: TopicPartition, total: int, invalid: list[InvalidRecord]) -> None:
        """
        Count a batch.

        Raises:
            TooManyDeadLettersError: the window is full and too many are invalid.
        """
        self._total += total
        self._invalid += len(invalid)
        if self._total < self.window:
            return
        if self._invalid > self.max_ratio * self._total:
            last = str(invalid[-1].error) if invalid else "earlier"
            raise TooManyDeadLettersError(at, self._invalid, self._total, last)
        self._total = self._invalid = 0


def dead_letter(
    service: str, origin: TopicPartition, invalid: InvalidRecord
) -> OutRecord:
    """
    Make the dead letter of a record: its key, bytes and headers, and why.

    A crash between its acknowledgement and the commit makes it twice; the origin in
    its headers tells.
    """
    record, error = invalid
    headers = {
        "fleetwake-reason": error.reason,
        "fleetwake-error": str(error)[:_MAX_ERROR_CHARS],
        "fleetwake-origin-topic": origin.topic,
        "fleetwake-origin-partition": str(origin.partition),
        "fleetwake-origin-offset": str(record.offset),
        "fleetwake-origin-timestamp-ms": str(record.timestamp_ms),
        "fleetwake-service": service,
    }
    return OutRecord(
        DEAD_LETTERS,
        record.key or b"",
        record.value,
        origin.partition,
        record.headers + tuple((k, v.encode()) for k, v in headers.items()),
    )
