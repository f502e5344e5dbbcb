"""
Records that were replayed from the archive: what a service does with them.

`fleetwake archive replay` marks each record by headers. To a service that skips them
they are not there. One that processes them, in a deployment for that, takes each as
it was, at the time when the broker first appended it, and marks whatever it publishes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias, runtime_checkable

from fleetwake.consumers.runtime.records import Records
from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from fleetwake.consumers.runtime.service import (
        OutRecord,
        Publisher,
        Record,
        Service,
        TopicReader,
    )
    from fleetwake.schemas.topics import Topic

__all__ = [
    "ORIGIN_HEADER",
    "REPLAY_HEADER",
    "TIME_HEADER",
    "Admission",
    "AdmittingReader",
    "MarkingPublisher",
    "Treating",
    "Treatment",
    "has_replays",
    "is_replay",
    "treatment_of",
]

REPLAY_HEADER: Final = "fleetwake-replay"
"""
The first header of a replayed record, with the replay's id.

And of what was made of one, with `processed`.
"""
ORIGIN_HEADER: Final = "fleetwake-replay-origin"
"""Where a replayed record was: `topic[partition]@offset`."""
TIME_HEADER: Final = "fleetwake-replay-timestamp-ms"
"""When the broker first appended it."""

Treatment: TypeAlias = Literal["keep", "skip", "process"]
"""`keep`: as any other record, at the time of its replay."""

_MARK: Final = (REPLAY_HEADER, b"processed")
_LATEST_MS: Final = 253_402_300_799_999
"""The end of the year 9999, as of all times here."""
_LATEST_DIGITS: Final = 15


@runtime_checkable
class Treating(Protocol):
    """A service that treats replayed records in one way, whatever the settings say."""

    replays: Treatment


def treatment_of(service: Service, setting: Treatment) -> Treatment:
    """
    Return what a service does with replayed records.

    Raises:
        ConfigurationError: it is one that pages, in a deployment for replays.
    """
    if not isinstance(service, Treating):
        return setting
    if (service.replays, setting) == ("skip", "process"):
        raise ConfigurationError(
            f"FLEETWAKE_RUNTIME_REPLAYS is process: {service.name} has nothing to do "
            "here, for all that is made of replays is marked and told nobody. Leave "
            "it out, or unset the variable where live events are"
        )
    return service.replays


def is_replay(record: Record) -> bool:
    """Whether a record was replayed, or was made of one that was."""
    return bool(record.headers) and record.headers[0][0] == REPLAY_HEADER


def has_replays(records: Records) -> bool:
    """Whether one of them is a replay."""
    return REPLAY_HEADER in records.first_headers


class Admission:
    """
    Decides which records a processor sees, and when they were appended.

    `clock_ms` is when the newest replayed record was first appended; 0: none was seen.
    In a replay time stands where its records are.
    """

    def __init__(self, treatment: Treatment) -> None:
        self._treatment: Treatment = treatment
        self.clock_ms = 0

    def admit(self, records: Records) -> Records:
        """Return what is to be processed, in the same order."""
        if self._treatment == "keep" or (
            self._treatment == "skip" and not has_replays(records)
        ):
            return records
        return Records.of(one for one in map(self.admit_one, records) if one)

    def admit_one(self, record: Record) -> Record | None:
        """Return a record as it is to be processed; None: it is not."""
        if self._treatment == "process":
            return self._as_it_was(record)
        return None if self._treatment == "skip" and is_replay(record) else record

    def _as_it_was(self, record: Record) -> Record:
        # The value of a header may be null, whatever our types say.
        found = dict(record.headers).get(TIME_HEADER) or b""
        is_short = len(found) <= _LATEST_DIGITS
        if is_short and found.isdigit() and int(found) <= _LATEST_MS:
            self.clock_ms = int(found)
        elif not self.clock_ms:
            return record
        return record._replace(timestamp_ms=self.clock_ms)


class AdmittingReader:
    """Reads what is admitted; see `TopicReader`."""

    def __init__(self, reader: TopicReader, treatment: Treatment) -> None:
        self._reader = reader
        self._treatment: Treatment = treatment

    async def read(
        self,
        topic: Topic,
        partition: int,
        /,
        *,
        offset: int = 0,
        since_ms: int | None = None,
    ) -> AsyncIterator[Record]:
        """Read as the other does."""
        admission = Admission(self._treatment)
        reading = self._reader.read(topic, partition, offset=offset, since_ms=since_ms)
        async for record in reading:
            if admitted := admission.admit_one(record):
                yield admitted


class MarkingPublisher:
    """Publishes what was made of replays, marked; see `Publisher`."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def publish(self, records: Sequence[OutRecord], /) -> None:
        """Publish as the other does."""
        await self._publisher.publish(
            [one._replace(headers=(_MARK, *one.headers)) for one in records]
        )
