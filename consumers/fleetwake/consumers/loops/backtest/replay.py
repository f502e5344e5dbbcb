"""
The loops service over a log in memory.

The service is driven as the runtime drives it: opened for a partition, shown batches,
flushed; in between time passes. What it publishes is taken as its word; what it writes
for itself to the topics that it reads is shown to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from fleetwake.consumers.loops.backtest.recording import LEVELS
from fleetwake.consumers.runtime.service import (
    EventBatch,
    PartitionStart,
    Record,
    Records,
    Ticking,
)
from fleetwake.schemas.arrow import RecordBatch, to_arrow
from fleetwake.schemas.checks import mend_texts
from fleetwake.schemas.codec import PackagedSchemas, decode_record
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.records import LoopAlert
from fleetwake.schemas.topics import ALERTS, EVENTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from fleetwake.consumers.loops.backtest.recording import Entry, Recording
    from fleetwake.consumers.runtime.service import OutRecord, Processor, Service
    from fleetwake.schemas.topics import Topic

__all__ = ["Episode", "Moment", "replay"]

_BATCH: Final = 500
"""Entries: what sessions tell one another comes back after each batch."""
_TICK_MS: Final = 30_000
"""The runtime ticks every second; a rule that waits does so for minutes."""
_LONGEST_SILENCE_MS: Final = 4 * 3_600_000
"""Of which more is learnt by listening."""


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """When something was told: after which entry, and at which place of its subject."""

    index: int
    place: int


@dataclass(slots=True)
class Episode:
    """An alert from its first record to its last."""

    rule: str
    subject: str
    """Empty where the alert is of no session: of a tool, or of the fleet."""
    began: Moment
    """Where its first event stands; that it began was told later."""
    reached: dict[str, Moment] = field(default_factory=dict[str, Moment])
    """When it first had at least the level."""

    def delay(self, level: str) -> int | None:
        """Count the places from its first to where it reached the level, both."""
        told = self.reached.get(level)
        return None if told is None else told.place - self.began.place + 1


async def replay(
    recording: Recording,
    service: Service,
    progress: Callable[[int], object] = lambda _: None,
) -> list[Episode]:
    """
    Show a recording to a service and return its alerts, in the order they were opened.

    `progress` is told how many entries each batch had.
    """
    log = _Log()
    processor = await service.open(_start(recording, log))
    watch = _Watch(recording, service, processor, log)
    for first, batch in _batches(recording):
        await watch.show(first, batch)
        progress(len(batch))
    return list(watch.episodes.values())


class _Log:
    """Keeps what is published until it is taken; there is nothing to read."""

    def __init__(self) -> None:
        self._published: list[OutRecord] = []

    async def publish(self, records: Sequence[OutRecord], /) -> None:
        self._published += records

    async def read(
        self,
        _topic: Topic,
        _partition: int,
        /,
        *,
        offset: int = 0,  # noqa: ARG002
        since_ms: int | None = None,  # noqa: ARG002
    ) -> AsyncIterator[Record]:
        nothing: tuple[Record, ...] = ()
        for one in nothing:
            yield one

    def take(self) -> list[OutRecord]:
        taken, self._published = self._published, []
        return taken


class _Watch:
    """Shows batches, and notes which alerts come of which."""

    def __init__(
        self, recording: Recording, service: Service, processor: Processor, log: _Log
    ) -> None:
        self.episodes: dict[str, Episode] = {}
        self._recording = recording
        self._topics = service.topics
        self._processor = processor
        self._log = log
        self._schemas = PackagedSchemas()
        self._index_of: dict[str, int] = {}
        self._own = 0
        self._now_ms = 0

    async def show(self, first: int, entries: Sequence[Entry]) -> None:
        last = first + len(entries) - 1
        await self._pass_time(entries[0].at_ms, last)
        events, columns = _columns([entry.event for entry in entries])
        for index, event in enumerate(events, first):
            self._index_of.setdefault(event.event_id, index)
        self._processor.process(
            EventBatch(
                topic=EVENTS,
                partition=0,
                records=Records.of(
                    Record(index, entry.at_ms, None, None)
                    for index, entry in enumerate(entries, first)
                ),
                events=columns,
                rows=range(len(events)),
            )
        )
        self._now_ms = entries[-1].at_ms
        await self._settle(last)

    async def _pass_time(self, until_ms: int, last: int) -> None:
        """Let the processor listen to the silence before an entry."""
        if not isinstance(self._processor, Ticking) or not self._now_ms:
            return
        until_ms = min(until_ms, self._now_ms + _LONGEST_SILENCE_MS)
        for now_ms in range(self._now_ms + _TICK_MS, until_ms, _TICK_MS):
            if self._processor.tick(now_ms):
                self._now_ms = now_ms
                await self._settle(last)

    async def _settle(self, last: int) -> None:
        """Take what is published, and show what is for the service itself."""
        await self._processor.flush()
        while published := self._log.take():
            for one in published:
                if one.topic == ALERTS and one.value is not None:
                    alert = decode_record(LoopAlert, one.value, self._schemas)
                    self._note(alert, last)
            own = [one for one in published if one.topic in self._topics]
            for topic, records in groupby(own, attrgetter("topic")):
                self._show_own(topic, list(records), self._now_ms)
            await self._processor.flush()

    def _show_own(self, topic: Topic, own: Sequence[OutRecord], at_ms: int) -> None:
        records = Records.of(
            Record(offset, at_ms, one.key, one.value, one.headers)
            for offset, one in enumerate(own, self._own)
        )
        self._own += len(records)
        self._processor.process(
            EventBatch(topic=topic, partition=0, records=records, events=None, rows=())
        )

    def _note(self, alert: LoopAlert, last: int) -> None:
        if alert.state == "resolved":
            return
        episode = self.episodes.get(alert.alert_id)
        if episode is None:
            began = self._moment(self._index_of.get(alert.first_event_id, last))
            episode = Episode(alert.rule, self._subject(alert), began)
            self.episodes[alert.alert_id] = episode
        index = self._index_of.get(alert.last_event_id, last)
        told = self._moment(last if self._recording.stepwise else index)
        for level in LEVELS[1 : LEVELS.index(alert.level) + 1]:
            episode.reached.setdefault(level, told)

    def _moment(self, index: int) -> Moment:
        return Moment(index, self._recording.entries[index].place)

    def _subject(self, alert: LoopAlert) -> str:
        if self._recording.stepwise:
            return self._recording.entries[0].subject
        index = self._index_of.get(alert.first_event_id)
        if index is None or not alert.session_id:
            return ""
        return self._recording.entries[index].subject


def _start(recording: Recording, log: _Log) -> PartitionStart:
    return PartitionStart(
        topic=EVENTS,
        topic_name=EVENTS.name,
        partition=0,
        log_start=0,
        log_end=len(recording.entries),
        committed=None,
        publisher=log,
        reader=log,
    )


def _batches(recording: Recording) -> Iterator[tuple[int, Sequence[Entry]]]:
    """Yield batches with the offset of their first entry."""
    first = 0
    if recording.stepwise:
        for _, group in groupby(recording.entries, attrgetter("place")):
            entries = list(group)
            yield first, entries
            first += len(entries)
        return
    for first in range(0, len(recording.entries), _BATCH):
        yield first, recording.entries[first : first + _BATCH]


def _columns(events: list[AuditEvent]) -> tuple[list[AuditEvent], RecordBatch]:
    """Return events and their columns, with texts that a codec can hold."""
    try:
        return events, to_arrow(events)
    except UnicodeEncodeError:
        events = [AuditEvent(**mend_texts(event._asdict())) for event in events]
        return events, to_arrow(events)
