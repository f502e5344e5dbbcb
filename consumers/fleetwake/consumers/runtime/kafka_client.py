# pyright: basic
"""Connections to Kafka for a question or two, and what is raised where none answers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from fleetwake.producer.obstacle import in_words
from fleetwake.schemas.errors import RetriableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

    from fleetwake.producer.settings import KafkaSettings

__all__ = [
    "MAX_REQUEST_BYTES",
    "PARTITION_FETCH_BYTES",
    "STOP_DEADLINE_S",
    "administering",
    "reading",
    "retriable",
    "soon",
]

MAX_REQUEST_BYTES: Final = 4 * 1024 * 1024
"""A broker takes records of 2 MiB; the client would refuse half of that."""
PARTITION_FETCH_BYTES: Final = 4 * 1024 * 1024
"""Batch decoding wants large fetches: 4 MB are about 5,000 events."""
STOP_DEADLINE_S: Final = 5.0
"""A client's stop has no deadline of its own while a broker is away."""

_REQUEST_DEADLINE_S: Final = 15.0

_T = TypeVar("_T")


async def soon(request: Awaitable[_T]) -> _T:
    """Await an answer for 15 s, then raise TimeoutError."""
    async with asyncio.timeout(_REQUEST_DEADLINE_S):
        return await request


@contextlib.contextmanager
def retriable(what: str) -> Generator[None]:
    """Raise RetriableError for what cannot be read now."""
    try:
        yield
    except (KafkaError, OSError, TimeoutError) as exc:
        raise RetriableError(f"cannot read {what}: {in_words(exc)}") from exc


@contextlib.asynccontextmanager
async def reading(kafka: KafkaSettings) -> AsyncGenerator[AIOKafkaConsumer]:
    """
    Read outside of any group.

    Raises:
        RetriableError: no broker answers, also within the block; or a file of the
            settings cannot be used now, as while somebody exchanges it.
    """
    with _unread(kafka):
        consumer = AIOKafkaConsumer(
            **kafka.client_options(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
        )
    async with _started(consumer.start, consumer.stop, kafka):
        yield consumer


@contextlib.asynccontextmanager
async def administering(kafka: KafkaSettings) -> AsyncGenerator[AIOKafkaAdminClient]:
    """
    Ask about topics and groups.

    Raises:
        RetriableError: as `reading`.
    """
    with _unread(kafka):
        admin = AIOKafkaAdminClient(**kafka.client_options())
    async with _started(admin.start, admin.close, kafka):
        yield admin


def _unread(kafka: KafkaSettings) -> contextlib.AbstractContextManager[None]:
    return retriable(f"from Kafka at {kafka.bootstrap_servers}")


@contextlib.asynccontextmanager
async def _started(
    start: Callable[[], Awaitable[None]],
    stop: Callable[[], Awaitable[None]],
    kafka: KafkaSettings,
) -> AsyncGenerator[None]:
    try:
        with _unread(kafka):
            await soon(start())
            yield
    finally:
        with contextlib.suppress(TimeoutError, KafkaError, OSError):
            await asyncio.wait_for(stop(), STOP_DEADLINE_S)
