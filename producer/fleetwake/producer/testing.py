"""
A log in memory, for tests of code that emits events or asks a guard.

    producer, log = memory_producer()
    guard = LoopGuard("s-1", verdicts=log.verdicts, producer=producer)
    log.block("s-1", "it goes round in circles")
    agent.run(producer, guard)
    producer.flush()
    log.assert_event(event_type="tool.blocked", session_id="s-1")
    log.assert_sequences()
    log.assert_no_secrets("hunter2")
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
import zlib
from collections import defaultdict
from typing import TYPE_CHECKING

from fleetwake.producer.client import AuditProducer
from fleetwake.producer.dead_letter import DeadLetter
from fleetwake.producer.guard.source import read_verdict
from fleetwake.producer.guard.table import BlockTable
from fleetwake.producer.guard.verdicts import Verdicts
from fleetwake.producer.settings import (
    KafkaSettings,
    ProducerSettings,
    RegistrySettings,
)
from fleetwake.producer.transport import (
    OutgoingRecord,
    RecordsRefusedError,
    TopicMissingError,
    TransportError,
)
from fleetwake.schemas.codec import (
    SHA256_HEADER,
    PackagedSchemas,
    decode,
    encode_record,
)
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.records import WARN, Block, Verdict
from fleetwake.schemas.topics import DEAD_LETTERS, EVENTS, SCHEMAS, VERDICTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


__all__ = ["MemoryLog", "MemoryTransport", "memory_producer"]

_BREATH_S = 0.001
_ORIGIN = "fleetwake-origin-"
_MAX_SHOWN = 20


class MemoryLog:
    """
    What was published, and a broker's faults on demand. Thread-safe.

    - `is_away`: nobody answers; sends under way hang, as Kafka's do.
    - `refuses`: says of which record that the broker does not take it.
    - `loses_answers`: how many of the next sends are written but not acknowledged.
    - `partitions`: of each topic; 0 makes the topic missing.

    `verdicts` is what a `LoopGuard` asks; `block` and `release` change it at once.
    """

    def __init__(self, partitions: int = 4) -> None:
        kafka = KafkaSettings()
        self.topic = kafka.topic(EVENTS)
        self._dead_letters = kafka.topic(DEAD_LETTERS)
        self._verdicts = kafka.topic(VERDICTS)
        self.partitions = {
            self.topic: partitions,
            self._dead_letters: partitions,
            kafka.topic(SCHEMAS): 1,
        }
        self.verdicts = Verdicts(stale_after_s=math.inf)
        self._table = BlockTable()
        self._blocks: dict[str, tuple[Block, ...]] = {}
        self.verdicts.confirm(self._table, time.monotonic())
        self.is_away = False
        self.refuses: Callable[[OutgoingRecord], bool] = lambda _: False
        self.loses_answers = 0
        self.connections = 0
        self._records: defaultdict[tuple[str, int], list[OutgoingRecord]] = defaultdict(
            list
        )
        self._lock = threading.Lock()

    async def is_back(self) -> None:
        """Wait while the log is away."""
        while self.is_away:  # noqa: ASYNC110  # set by other threads
            await asyncio.sleep(_BREATH_S)

    def append(
        self, topic: str, partition: int, records: Sequence[OutgoingRecord]
    ) -> None:
        """Append records, in order."""
        with self._lock:
            self._records[topic, partition] += records

    def records(self, topic: str | None = None) -> list[OutgoingRecord]:
        """Return the records of a topic (default: events), partition by partition."""
        name = topic or self.topic
        with self._lock:
            numbers = sorted(number for of, number in self._records if of == name)
            return [one for number in numbers for one in self._records[name, number]]

    def events(self, session_id: str | None = None) -> list[AuditEvent]:
        """Return the decoded events, of one session if you name it, in its order."""
        schemas = PackagedSchemas()
        events = [
            decode(record.value, schemas, sha256=dict(record.headers)[SHA256_HEADER])
            for record in self.records()
        ]
        return [one for one in events if session_id in (None, one.session_id)]

    def dead_letters(self) -> list[DeadLetter]:
        """Return what could not become an event."""
        return [_dead_letter(record) for record in self.records(self._dead_letters)]

    def block(
        self,
        session_id: str,
        reason: str,
        *,
        tool_name: str | None = None,
        until: int | None = None,
        alert_id: str | None = None,
        warn: bool = False,
    ) -> None:
        """Add a block to the session's verdict, as the loops service would."""
        scope = "session" if tool_name is None else f"tool:{tool_name}"
        block = Block(
            scope=WARN + scope if warn else scope,
            reason=reason,
            until=until,
            issuer="test",
            alert_id=alert_id,
        )
        self._judge(session_id, (*self._blocks.get(session_id, ()), block))

    def release(self, session_id: str) -> None:
        """Lift all blocks of a session."""
        self._judge(session_id, ())

    def assert_event(self, **fields: object) -> AuditEvent:
        """
        Return the first event with these fields: event_type, session_id, ...

        Raises:
            AssertionError: there is none; shows those that come nearest.
            ValueError: events have no such field.
        """
        if unknown := fields.keys() - set(AuditEvent._fields):
            raise ValueError(f"an event has no field {sorted(unknown)}")
        events = self.events()
        for event in events:
            if not _different(event, fields):
                return event
        nearest = sorted(events, key=lambda event: len(_different(event, fields)))
        shown = "".join(
            f"\n  {event.event_type} of {event.session_id}: {_different(event, fields)}"
            for event in nearest[:_MAX_SHOWN]
        )
        raise AssertionError(
            f"none of {len(events)} events has {fields}; they differ in:{shown}"
        )

    def assert_sequences(self) -> None:
        """
        Hold each session of each producer to 1, 2, 3, ... in order.

        Raises:
            AssertionError: an event was lost, or written twice or in another order.
        """
        found: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for event in self.events():
            found[event.producer_id, event.session_id].append(event.sequence)
        for (producer, session), sequences in found.items():
            if sequences != list(range(1, len(sequences) + 1)):
                raise AssertionError(
                    f"session {session!r} of producer {producer} has the sequences "
                    f"{sequences}"
                )

    def assert_no_secrets(self, *texts: str) -> None:
        """
        Hold all that was written, to any topic, against texts that must not be there.

        Raises:
            AssertionError: one is; says where, and quotes none.
            ValueError: a text is empty.
        """
        if "" in texts:
            raise ValueError("an empty text is in everything")
        with self._lock:
            written = [(at, tuple(records)) for at, records in self._records.items()]
        for (topic, partition), records in written:
            for number, record in enumerate(records):
                for index, text in enumerate(texts):
                    if _holds(record, text):
                        raise AssertionError(
                            f"text {index} of {len(texts)} is in record {number} of "
                            f"{topic}[{partition}], key {record.key!r}"
                        )

    def _judge(self, session_id: str, blocks: tuple[Block, ...]) -> None:
        issued_at = time.time_ns() // 1000
        verdict = Verdict(session_id=session_id, issued_at=issued_at, blocks=blocks)
        key, value = session_id.encode(), encode_record(verdict)
        self.append(self._verdicts, 0, [OutgoingRecord(key, value, [])])
        with self._lock:
            self._blocks[session_id] = blocks
            self._table.put(*read_verdict(key, value, PackagedSchemas()))


class MemoryTransport:
    """A `Transport` to a `MemoryLog`. The partition is not Kafka's."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._wedged: set[tuple[str, int]] = set()

    async def start(self) -> None:
        """Connect, unless the log is away."""
        if self._log.is_away:
            raise TransportError("the log is away")
        self._log.connections += 1

    async def partitions(self, topic: str) -> int:
        """Return what the log has."""
        if not (count := self._log.partitions.get(topic, 0)):
            raise TopicMissingError(topic)
        return count

    def partition(self, key: bytes, partitions: int) -> int:
        """Return any partition that is always the same for a key."""
        return zlib.crc32(key) % partitions

    async def send(
        self, topic: str, partition: int, records: Sequence[OutgoingRecord]
    ) -> None:
        """Append, as the log's faults allow. Wedged after a refusal, as aiokafka is."""
        await self._log.is_back()
        if (topic, partition) in self._wedged:
            raise TransportError("out of order sequence number")
        if any(map(self._log.refuses, records)):
            self._wedged.add((topic, partition))
            raise RecordsRefusedError("one of the records is refused")
        self._log.append(topic, partition, records)
        if self._log.loses_answers:
            self._log.loses_answers -= 1
            raise TransportError("no answer")

    async def stop(self) -> None:
        """Disconnect; hangs while the log is away."""
        await self._log.is_back()


def memory_producer(
    settings: ProducerSettings | None = None,
    *,
    log: MemoryLog | None = None,
    source: str = "native",
    strict: bool = True,
) -> tuple[AuditProducer, MemoryLog]:
    """
    Return a producer, strict unless you say otherwise, and the log it writes to.

    Without a spool, unless `settings` name a durability.
    """
    into = log or MemoryLog()
    chosen = settings or ProducerSettings()
    if "durability" not in chosen.model_fields_set:
        chosen = chosen.model_copy(update={"durability": "memory"})
    producer = AuditProducer(
        chosen,
        kafka=KafkaSettings(),
        registry=RegistrySettings(url=None),
        source=source,
        strict=strict,
        open_transport=lambda: MemoryTransport(into),
    )
    return producer, into


def _different(event: AuditEvent, fields: dict[str, object]) -> dict[str, object]:
    found = {name: getattr(event, name) for name in fields}
    return {name: value for name, value in found.items() if value != fields[name]}


def _holds(record: OutgoingRecord, text: str) -> bool:
    places = (record.key, record.value, *(value for _, value in record.headers))
    escaped = json.dumps(text)[1:-1]
    # Also in JSON, and in JSON that stands as a text in JSON.
    forms = (text, escaped, json.dumps(escaped)[1:-1])
    return any(form.encode() in place for form in forms for place in places)


def _dead_letter(record: OutgoingRecord) -> DeadLetter:
    headers = {name: value.decode() for name, value in record.headers}
    origin = {
        name.removeprefix(_ORIGIN): value
        for name, value in headers.items()
        if name.startswith(_ORIGIN)
    }
    return DeadLetter(
        record.value,
        headers["fleetwake-reason"],
        headers["fleetwake-error"],
        origin,
        record.key.decode(),
    )
