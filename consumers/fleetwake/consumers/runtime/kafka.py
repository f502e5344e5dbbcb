# pyright: basic
"""Kafka, as the port of the services: what they read, publish, and look up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from importlib.metadata import version
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka import (
    AIOKafkaConsumer,
    AIOKafkaProducer,
    ConsumerRebalanceListener,
    OffsetAndMetadata,
)
from aiokafka import TopicPartition as KafkaTopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    TopicAuthorizationFailedError,
)

from fleetwake.consumers.runtime.kafka_admin import describe_topics
from fleetwake.consumers.runtime.kafka_client import (
    MAX_REQUEST_BYTES,
    PARTITION_FETCH_BYTES,
    STOP_DEADLINE_S,
    reading,
    retriable,
    soon,
)
from fleetwake.consumers.runtime.service import Record, Records
from fleetwake.consumers.runtime.source import Committed, Polled, TopicPartition
from fleetwake.producer.obstacle import find_obstacle, in_words
from fleetwake.schemas.errors import FleetwakeError, RetriableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from aiokafka import ConsumerRecord

    from fleetwake.consumers.runtime.service import OutRecord
    from fleetwake.producer.settings import KafkaSettings
    from fleetwake.schemas.topics import Topic

__all__ = [
    "KafkaPublisher",
    "KafkaReplicaSource",
    "KafkaSource",
    "KafkaTopicReader",
    "record_at",
    "tail",
]

# A revocation waits so long for a flush under way. Well below the session timeout,
# after which the broker gives the partitions away whatever we do.
_REVOKE_PATIENCE_S = 10.0
_START_S = 20.0
_PUBLISH_DEADLINE_S = 30.0
# Of all partitions together: a fetch is in memory three times while it arrives.
_FETCH_BYTES = 16 * 1024 * 1024

# In C, because it runs for every record: a function of ours costs three times as much.
_parts = attrgetter("offset", "timestamp", "key", "value", "headers")
_log = structlog.get_logger("fleetwake.kafka")


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # untyped
    """
    Notes rebalances for the next poll.

    aiokafka calls it in its coordinator task and swallows what it raises, so it does
    next to nothing.
    """

    def __init__(self, source: KafkaSource) -> None:
        self._source = source

    async def on_partitions_revoked(
        self, revoked: Iterable[KafkaTopicPartition]
    ) -> None:
        await self._source.note_revoked({TopicPartition(*tp) for tp in revoked})

    async def on_partitions_assigned(
        self, assigned: Iterable[KafkaTopicPartition]
    ) -> None:
        self._source.note_assigned({TopicPartition(*tp) for tp in assigned})


class KafkaSource:
    """A member of a Kafka consumer group; see `Source`."""

    def __init__(
        self,
        kafka: KafkaSettings,
        topics: Sequence[Topic],
        group: str,
        *,
        instance_id: str | None,
        session_timeout_ms: int,
    ) -> None:
        self._kafka = kafka
        self._topics = [kafka.topic(topic) for topic in topics]
        self._group = group
        self._instance_id = instance_id
        self._session_timeout_ms = session_timeout_ms
        self._revoked: set[TopicPartition] = set()
        self._assigned: set[TopicPartition] = set()
        self._owned: set[TopicPartition] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.publisher = KafkaPublisher(kafka)
        self.reader = KafkaTopicReader(kafka)

    async def start(self) -> None:
        with retriable("the files of the Kafka settings"):
            options = self._kafka.client_options()
        # Made here: an aiokafka client belongs to the running loop.
        self._consumer = AIOKafkaConsumer(
            **options,
            **self._membership(),
            client_id=f"{self._group}/{version('fleetwake')}",
            enable_auto_commit=False,
            # Never relied on: every partition is sought before it is resumed, and the
            # runner looks for holes itself.
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
            fetch_max_bytes=_FETCH_BYTES,
        )
        # Of its own connection: a broker answers one after another, and a fetch that
        # waits for records would hold each question for half a second.
        self._offsets = AIOKafkaConsumer(
            **options, enable_auto_commit=False, isolation_level="read_committed"
        )
        self._admin = AIOKafkaAdminClient(**options)
        try:
            # A host that is off does not answer at all, and aiokafka waits 40 s for
            # each: so long nobody would be told why, and SIGTERM not be heard.
            async with asyncio.timeout(_START_S):
                await self._admin.start()
                await self._offsets.start()
                await self._consumer.start()
                await self._check_rights()
                await self._join()
        except (KafkaError, OSError, TimeoutError) as exc:
            await self.stop()
            why = await find_obstacle(self._kafka) or (
                f"no start with {self._kafka.bootstrap_servers}: {in_words(exc)}"
            )
            raise RetriableError(str(why), after_s=2.0) from exc

    async def _check_rights(self) -> None:
        """Without one, the group would give us no partition, and say nothing."""
        for found in await self._admin.describe_topics(self._topics):
            if found["error_code"] == TopicAuthorizationFailedError.errno:
                raise TopicAuthorizationFailedError(found["topic"])

    def _membership(self) -> dict[str, Any]:
        return {
            "group_id": self._group,
            "group_instance_id": self._instance_id,
            "partition_assignment_strategy": (RangePartitionAssignor,),
            "session_timeout_ms": self._session_timeout_ms,
            "heartbeat_interval_ms": min(3_000, self._session_timeout_ms // 3),
        }

    async def _join(self) -> None:
        self._consumer.subscribe(self._topics, listener=_Listener(self))

    async def stop(self) -> None:
        self._idle.set()
        stops = (self._consumer.stop, self._offsets.stop, self.publisher.stop)
        for stop in (*stops, self._admin.close):
            # stop() has no deadline of its own while a broker is away.
            with contextlib.suppress(TimeoutError, KafkaError, OSError):
                await asyncio.wait_for(stop(), STOP_DEADLINE_S)

    async def note_revoked(self, partitions: set[TopicPartition]) -> None:
        """Called by the listener: hold the rebalance while a flush is under way."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), _REVOKE_PATIENCE_S)
        self._owned -= partitions
        self._assigned -= partitions
        self._revoked |= partitions

    def note_assigned(self, partitions: set[TopicPartition]) -> None:
        """Called by the listener before the first fetch of these partitions."""
        self._consumer.pause(*map(_native, partitions))
        self._assigned |= partitions
        self._owned |= partitions

    async def poll(self, *, timeout_s: float, max_records: int) -> Polled:
        try:
            fetched = await self._consumer.getmany(
                timeout_ms=int(timeout_s * 1000), max_records=max_records
            )
        except KafkaError as exc:
            raise FleetwakeError(
                f"group {self._group!r} cannot go on: {in_words(exc)}"
            ) from exc
        revoked, self._revoked = frozenset(self._revoked), set()
        assigned, self._assigned = frozenset(self._assigned), set()
        records = {
            TopicPartition(*tp): Records.of(map(_parts, fetched[tp]))
            for tp in fetched
            if TopicPartition(*tp) in self._owned
        }
        return Polled(revoked, assigned, records)

    def start_from(self, partition: TopicPartition, offset: int) -> None:
        with contextlib.suppress(IllegalStateError):
            self._consumer.seek(_native(partition), offset)
            self._consumer.resume(_native(partition))

    def pause(self, partition: TopicPartition) -> None:
        with contextlib.suppress(IllegalStateError):
            self._consumer.pause(_native(partition))

    def high_water_mark(self, partition: TopicPartition) -> int | None:
        try:
            mark: int | None = self._consumer.highwater(_native(partition))
        except (IllegalStateError, AssertionError):
            return None
        return mark

    async def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        tp = _native(partition)
        with retriable(f"offsets of {partition}"):
            first = await soon(self._offsets.beginning_offsets([tp]))
            end = await soon(self._offsets.end_offsets([tp]))
        return first[tp], end[tp]

    async def ends(
        self, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        with retriable("offsets of the log's ends"):
            ends = await soon(
                self._offsets.end_offsets([_native(one) for one in partitions])
            )
        return {one: ends[_native(one)] for one in partitions}

    async def committed(self, partition: TopicPartition) -> Committed | None:
        tp = _native(partition)
        with retriable(f"committed offset of {partition}"):
            # The consumer's committed() does not give the metadata.
            found = await soon(
                self._admin.list_consumer_group_offsets(self._group, partitions=[tp])
            )
        offset, metadata = found.get(tp, (-1, ""))
        if offset < 0:
            return None
        return Committed(offset, _replay_from(metadata, offset))

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> bool:
        owned = {
            _native(tp): OffsetAndMetadata(c.offset, _metadata(c))
            for tp, c in offsets.items()
            if tp in self._owned
        }
        if not owned:
            return not offsets
        try:
            await soon(self._consumer.commit(owned))
        except (KafkaError, TimeoutError) as exc:
            _log.warning("commit.refused", group=self._group, error=repr(exc))
            return False
        return len(owned) == len(offsets)

    async def flushing(self, *, active: bool) -> None:
        if active:
            self._idle.clear()
        else:
            self._idle.set()


class KafkaReplicaSource(KafkaSource):
    """
    Reads all partitions, in no group, and commits nothing; see `Source`.

    Partitions that a topic gets later are found by the next start.
    """

    def __init__(
        self, kafka: KafkaSettings, topics: Sequence[Topic], name: str
    ) -> None:
        super().__init__(
            kafka, topics, name, instance_id=None, session_timeout_ms=10_000
        )

    def _membership(self) -> dict[str, Any]:
        return {"group_id": None}

    async def _join(self) -> None:
        found = await soon(self._admin.describe_topics(self._topics))
        partitions = [
            KafkaTopicPartition(one["topic"], n)
            for one in found
            for n in range(len(one["partitions"]))
        ]
        if len({tp.topic for tp in partitions}) < len(self._topics):
            await self.stop()
            raise RetriableError("not all topics exist yet", after_s=1.0)
        self._consumer.assign(partitions)
        self.note_assigned({TopicPartition(*tp) for tp in partitions})

    async def committed(self, partition: TopicPartition) -> Committed | None:
        del partition
        return None

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> bool:
        del offsets
        return True


class KafkaPublisher:
    """
    Publishes with acks=all and waits; see `Publisher`.

    After any failure the client is thrown away: aiokafka's idempotent producer leaves
    a partition wedged after a refused batch (aiokafka#1017).
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()

    async def publish(self, records: Sequence[OutRecord]) -> None:
        if not records:
            return
        async with self._lock:
            try:
                # Not wait_for: on Python 3.11 it may swallow the end of the task.
                async with asyncio.timeout(_PUBLISH_DEADLINE_S):
                    await self._publish(records)
            except (KafkaError, OSError, TimeoutError) as exc:
                await self.stop()
                raise RetriableError(
                    f"{len(records)} records were not acknowledged: {in_words(exc)}"
                ) from exc

    async def stop(self) -> None:
        """Throw the client away; the next publish makes a new one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)

    async def _begin(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._kafka.client_options(),
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            linger_ms=5,
            max_batch_size=256 * 1024,
            max_request_size=MAX_REQUEST_BYTES,
        )
        try:
            await producer.start()
        except BaseException:
            # A broker that answered first has a connection and a task by now.
            await _stop(producer)
            raise
        return producer

    async def _publish(self, records: Sequence[OutRecord]) -> None:
        if self._producer is None:
            self._producer = await self._begin()
        # One sender: aiokafka's concurrent sends can reorder across an outage.
        sent = [
            await self._producer.send(
                self._kafka.topic(record.topic),
                record.value,
                key=record.key,
                partition=record.partition,
                headers=list(record.headers),
            )
            for record in records
        ]
        await asyncio.gather(*sent)


async def _stop(producer: AIOKafkaProducer) -> None:
    with contextlib.suppress(TimeoutError, KafkaError, OSError):
        async with asyncio.timeout(STOP_DEADLINE_S):
            await producer.stop()


class KafkaTopicReader:
    """Reads a partition to its present end, outside of any group."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka

    async def read(
        self,
        topic: Topic,
        partition: int,
        *,
        offset: int = 0,
        since_ms: int | None = None,
    ) -> AsyncIterator[Record]:
        tp = KafkaTopicPartition(self._kafka.topic(topic), partition)
        async with reading(self._kafka) as consumer:
            consumer.assign([tp])
            with retriable(f"the ends of {tp}"):
                start = (await soon(consumer.beginning_offsets([tp])))[tp]
                end = (await soon(consumer.end_offsets([tp])))[tp]
                if since_ms is not None:
                    found = await soon(consumer.offsets_for_times({tp: since_ms}))
                    # None: nothing is so new.
                    offset = found[tp].offset if found[tp] else end
            consumer.seek(tp, min(max(start, offset), end))
            # The position moves past compacted offsets and transaction markers too.
            while await soon(consumer.position(tp)) < end:
                with retriable(f"records of {tp}"):
                    fetched = await consumer.getmany(tp, timeout_ms=500)
                for one in fetched.get(tp, ()):
                    if one.offset < end:
                        yield _record(one)


async def record_at(
    kafka: KafkaSettings, topic: Topic, partition: int, offset: int
) -> Record | None:
    """
    Read one record; None where there is none, or none any more.

    Raises:
        RetriableError: no broker answers.
    """
    tp = KafkaTopicPartition(kafka.topic(topic), partition)
    async with reading(kafka) as consumer:
        consumer.assign([tp])
        with retriable(f"offset {offset} of {tp}"):
            first = (await soon(consumer.beginning_offsets([tp])))[tp]
            end = (await soon(consumer.end_offsets([tp])))[tp]
            if not first <= offset < end:
                return None
            consumer.seek(tp, offset)
            while await soon(consumer.position(tp)) <= offset:
                fetched = await consumer.getmany(tp, timeout_ms=500, max_records=1)
                for one in fetched.get(tp, ()):
                    return _record(one) if one.offset == offset else None
    return None


async def tail(
    kafka: KafkaSettings, topic: Topic, *, from_start: bool = False, last: int = 0
) -> AsyncIterator[tuple[int, Record]]:
    """
    Follow all partitions of a topic for ever: (partition, record) as they come.

    Starts at the first record, or `last` records before the end of each partition.

    Raises:
        RetriableError: no broker answers, or the topic does not exist.
    """
    name = kafka.topic(topic)
    states = {state.name: state for state in await describe_topics(kafka)}
    if not states[name].partitions:
        raise RetriableError(
            f"topic {name!r} does not exist; create it: fleetwake topics --create"
        )
    async with reading(kafka) as consumer:
        tps = [KafkaTopicPartition(name, p) for p in range(states[name].partitions)]
        consumer.assign(tps)
        with retriable(f"offsets of {name}"):
            first = await soon(consumer.beginning_offsets(tps))
            end = await soon(consumer.end_offsets(tps))
        for tp in tps:
            start = first[tp] if from_start else max(first[tp], end[tp] - last)
            consumer.seek(tp, start)
        while True:
            fetched = await consumer.getmany(timeout_ms=500)
            for tp, records in fetched.items():
                for one in records:
                    yield tp.partition, _record(one)


def _native(partition: TopicPartition) -> KafkaTopicPartition:
    return KafkaTopicPartition(*partition)


def _record(one: ConsumerRecord) -> Record:
    return Record._make(_parts(one))


def _metadata(committed: Committed) -> str:
    if committed.replay_from >= committed.offset:
        return ""
    return json.dumps({"replay_from": committed.replay_from})


def _replay_from(metadata: str | None, offset: int) -> int:
    """Read what `_metadata` wrote; anything else means: no replay."""
    found = re.fullmatch(r'\{"replay_from": (\d{1,19})\}', metadata or "")
    return min(int(found[1]), offset) if found else offset
