# pyright: basic
"""Kafka as the producer room sees it: the only file of this room with aiokafka."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)
from aiokafka.partitioner import murmur2

from fleetwake.producer.loop import THREAD_NAME
from fleetwake.producer.obstacle import find_obstacle, in_words, last_obstacle
from fleetwake.producer.transport import (
    RecordsRefusedError,
    TopicMissingError,
    TransportError,
)
from fleetwake.schemas.topics import MAX_RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from aiokafka import TopicPartition

    from fleetwake.producer.settings import KafkaSettings
    from fleetwake.producer.transport import OutgoingRecord

__all__ = ["KafkaTransport", "follow_topic", "read_topic"]

# What aiokafka and the layers below it raise. It asserts that a partition exists.
_CLIENT_ERRORS = (KafkaError, OSError, AssertionError, ValueError)

# The batch as a whole may be what is too large, so both are solved by smaller ones.
_REFUSALS = (MessageSizeTooLargeError, RecordListTooLargeError)

# One request and one wait for metadata. The time limit of an idempotent send is the
# caller's: aiokafka has none (docs/decisions/0007).
_REQUEST_TIMEOUT_MS = 30_000

# To connect: a host that is off does not answer at all, and aiokafka waits for each
# as long as for a request. Short, so that the caller is still there to be told why.
_START_S = 10.0

# A topic that has no metadata after this is missing.
_METADATA_TIMEOUT_MS = 5_000

# So long until a reader notices more partitions.
_METADATA_MAX_AGE_MS = 60_000

_READ_S = 20.0
_CLOSE_S = 0.05
_STOP_S = 0.5


class KafkaTransport:
    """
    A `Transport` to Kafka: acks=all, idempotent, batches that we build.

    Traps of aiokafka 0.14 that its caller must know (tests/integration/
    test_client_traps.py holds each of them): after any failed send the partition is
    wedged until the client is made anew; a send and `stop` hang while the broker is
    away; what was cancelled may still be written while its event loop lives.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        compression: str = "zstd",
        metadata_max_age_s: float = 60.0,
    ) -> None:
        self._settings = settings
        self._compression = None if compression == "none" else compression
        self._metadata_max_age_s = metadata_max_age_s
        self._producer: Any = None  # until start

    async def start(self) -> None:
        """Connect, and get the id under which sends are idempotent."""
        _quieten()
        try:
            self._producer = AIOKafkaProducer(
                **self._settings.client_options(),
                acks="all",
                enable_idempotence=True,
                compression_type=self._compression,
                # We count bytes ourselves, so a batch must take all that it is given.
                max_batch_size=8 * MAX_RECORD_BYTES,
                request_timeout_ms=_REQUEST_TIMEOUT_MS,
                metadata_max_age_ms=round(self._metadata_max_age_s * 1000),
            )
            async with asyncio.timeout(_START_S):
                await self._producer.start()
        except _CLIENT_ERRORS as error:
            why = await _why(self._settings, error)
            raise TransportError(f"cannot connect to Kafka: {why}") from error

    async def partitions(self, topic: str) -> int:
        """Return the number of partitions, refreshed with the client's metadata."""
        if known := self._producer.client.cluster.partitions_for_topic(topic):
            return len(known)
        try:
            async with asyncio.timeout(_METADATA_TIMEOUT_MS / 1000):
                return len(await self._producer.partitions_for(topic))
        except UnknownTopicOrPartitionError as error:
            raise TopicMissingError(topic) from error
        except TimeoutError as error:
            # The brokers may be other addresses, or names, than the first ones.
            if obstacle := await find_obstacle(self._settings):
                raise TransportError(f"cannot reach the brokers: {obstacle}") from error
            raise TopicMissingError(topic) from error
        except _CLIENT_ERRORS as error:
            raise TransportError(f"cannot read metadata: {in_words(error)}") from error

    def partition(self, key: bytes, partitions: int) -> int:
        """Return what Kafka's default partitioner returns."""
        hashed: int = murmur2(key)
        return (hashed & 0x7FFFFFFF) % partitions

    async def send(
        self, topic: str, partition: int, records: Sequence[OutgoingRecord]
    ) -> None:
        """Send one batch; see the port. Never two at a time to one partition."""
        batch = self._producer.create_batch()
        for key, value, headers in records:
            # The present, never occurred_at: brokers refuse what is an hour ahead
            # (KIP-937). Our topics write a time of their own in its place.
            batch.append(timestamp=None, key=key, value=value, headers=headers)
        if batch.record_count() != len(records):
            raise RecordsRefusedError(f"{len(records)} records do not fit in a batch")
        try:
            await (await self._producer.send_batch(batch, topic, partition=partition))
        except _REFUSALS as error:
            raise RecordsRefusedError(f"{topic}-{partition}: {error!r}") from error
        except _CLIENT_ERRORS as error:
            raise TransportError(f"{topic}-{partition}: {in_words(error)}") from error

    async def stop(self) -> None:
        """Disconnect; hangs while sends are under way and the broker is away."""
        if self._producer is None:
            return
        try:
            await self._producer.stop()
        except asyncio.CancelledError:
            # It was cut short before it came to its connections.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._producer.client.close(), _CLOSE_S)
            raise


async def read_topic(
    settings: KafkaSettings, topic: str
) -> list[tuple[bytes | None, bytes | None]]:
    """
    Read the keys and values of a small topic, from its start to its present end.

    Without a group, so nothing is committed.

    Raises:
        TopicMissingError: there is no such topic.
        TransportError: nobody answers, within 20 s.
    """
    consumer: AIOKafkaConsumer | None = None
    try:
        async with asyncio.timeout(_READ_S):
            consumer = AIOKafkaConsumer(
                topic,
                **settings.client_options(),
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                request_timeout_ms=_METADATA_TIMEOUT_MS,
            )
            await consumer.start()
            return await _read_to_end(consumer)
    except UnknownTopicOrPartitionError as error:
        raise TopicMissingError(topic) from error
    except _CLIENT_ERRORS as error:
        why = await _why(settings, error)
        raise TransportError(f"cannot read {topic}: {why}") from error
    finally:
        if consumer is not None:
            await consumer.stop()


async def _read_to_end(
    consumer: AIOKafkaConsumer,
) -> list[tuple[bytes | None, bytes | None]]:
    ends = await consumer.end_offsets(consumer.assignment())
    records: list[tuple[bytes | None, bytes | None]] = []
    for partition, end in ends.items():
        while await consumer.position(partition) < end:
            polled = await consumer.getmany(partition, timeout_ms=500)
            for batch in polled.values():
                records += [(record.key, record.value) for record in batch]
    return records


async def _why(settings: KafkaSettings, error: Exception) -> object:
    """Return what is wrong; aiokafka's error tells it only where a broker answers."""
    return await last_obstacle(settings) or in_words(error)


class _QuietInProducers(logging.Filter):
    """
    Keeps what aiokafka logs in a producer's thread out of the agent's log.

    That is each attempt to connect, at ERROR. What matters of it, producers say once.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass what other threads log, and everything where DEBUG is wanted."""
        ours = (record.threadName or "").startswith(THREAD_NAME)
        return not ours or logging.getLogger("fleetwake.producer").isEnabledFor(
            logging.DEBUG
        )


@cache
def _quieten() -> None:
    # A filter holds for the logger that it is added to, not for those below it.
    quiet = _QuietInProducers()
    for name in tuple(logging.root.manager.loggerDict):
        if name.startswith("aiokafka"):
            logging.getLogger(name).addFilter(quiet)


async def follow_topic(
    settings: KafkaSettings, topic: str, *, poll_s: float = 1.0
) -> AsyncGenerator[tuple[list[tuple[bytes | None, bytes | None]], float | None]]:
    """
    Yield the keys and values of a topic, all of it and then for ever what comes.

    With them the monotonic time at which nothing was missing; None while the log holds
    more, or does not answer: this waits for it. Yields at least once per `poll_s`, and
    more often while there is something. Without a group, so nothing is committed.

    Raises:
        TopicMissingError: there is no such topic.
        TransportError: nobody answers at the start, or the topic is not the one that it
            was (made anew, more partitions): what was read is of no use, begin anew.
    """
    _quieten()
    consumer: AIOKafkaConsumer | None = None
    try:
        async with asyncio.timeout(_READ_S):
            consumer = AIOKafkaConsumer(
                topic,
                **settings.client_options(),
                group_id=None,
                enable_auto_commit=False,
                # What we did not begin at its beginning is an error.
                auto_offset_reset="none",
                request_timeout_ms=_METADATA_TIMEOUT_MS,
                metadata_max_age_ms=_METADATA_MAX_AGE_MS,
            )
            await consumer.start()
            await consumer.seek_to_beginning()
        heard = _Heard(consumer)
        while True:
            polled = await consumer.getmany(timeout_ms=round(poll_s * 1000))
            records = [(one.key, one.value) for some in polled.values() for one in some]
            yield records, await heard.at()
    except UnknownTopicOrPartitionError as error:
        raise TopicMissingError(topic) from error
    except _CLIENT_ERRORS as error:
        why = await _why(settings, error)
        raise TransportError(f"cannot follow {topic}: {why}") from error
    finally:
        if consumer is not None:
            with contextlib.suppress(TimeoutError, *_CLIENT_ERRORS):
                await asyncio.wait_for(consumer.stop(), _STOP_S)


class _Heard:
    """When each partition's leader answered last, by our clock."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._answers: dict[TopicPartition, tuple[int | None, float]] = {}

    async def at(self) -> float | None:
        """Since when all answers are known; None while we are behind one of them."""
        partitions = self._consumer.assignment()
        for partition in partitions:
            end = self._consumer.highwater(partition)
            if end is None or await self._consumer.position(partition) < end:
                return None
            answer = self._consumer.last_poll_timestamp(partition)
            if answer != self._answers.get(partition, (None, 0.0))[0]:
                self._answers[partition] = answer, time.monotonic()
        ages = [self._answers[partition][1] for partition in partitions]
        return min(ages, default=None)
