"""Reads the verdicts topic: what it holds, then what comes."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, TypeAlias

from fleetwake.schemas.codec import decode_record
from fleetwake.schemas.errors import (
    InvalidRecordError,
    RetriableError,
    UnknownSchemaError,
)
from fleetwake.schemas.records import Block, Verdict
from fleetwake.schemas.topics import VERDICTS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from fleetwake.producer.lookup import NetworkSchemas
    from fleetwake.producer.settings import KafkaSettings
    from fleetwake.schemas.lookup import SchemaLookup

__all__ = ["Change", "Changes", "follow_verdicts", "read_verdict"]

Change: TypeAlias = tuple[str, tuple[Block, ...] | None]
"""A session and all its blocks now; None: its newest verdict is not readable."""

Changes: TypeAlias = tuple[list[Change], float | None]
"""
What one poll brought, and since when (`time.monotonic()`) nothing is missing.

None: the log holds more, or does not answer.
"""


async def follow_verdicts(kafka: KafkaSettings) -> AsyncGenerator[Changes]:
    """
    Yield all verdicts, from the beginning of the topic, for ever.

    Raises:
        TransportError: nobody answers, or the topic is another one now: begin anew.
    """
    # 80 ms, in the follower's thread.
    from fleetwake.producer.kafka import follow_topic
    from fleetwake.producer.lookup import NetworkSchemas

    schemas = NetworkSchemas(kafka)
    async with aclosing(follow_topic(kafka, kafka.topic(VERDICTS))) as polls:
        async for records, confirmed_at in polls:
            changes = [
                await _change(key, value, schemas) for key, value in records if key
            ]
            yield changes, confirmed_at


def read_verdict(key: bytes, value: bytes | None, schemas: SchemaLookup) -> Change:
    """
    Return what a record of the topic says.

    Raises:
        UnknownSchemaError: ask for its schema, and try again.
    """
    session_id = key.decode(errors="replace")
    if value is None:
        return session_id, ()
    try:
        return session_id, decode_record(Verdict, value, schemas).blocks
    except UnknownSchemaError:
        raise
    except InvalidRecordError:
        return session_id, None


async def _change(key: bytes, value: bytes | None, schemas: NetworkSchemas) -> Change:
    try:
        return read_verdict(key, value, schemas)
    except UnknownSchemaError as error:
        try:
            await schemas.refresh(error.reference)
            return read_verdict(key, value, schemas)
        except (RetriableError, UnknownSchemaError):
            return key.decode(errors="replace"), None
