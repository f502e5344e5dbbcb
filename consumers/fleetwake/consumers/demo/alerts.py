"""Reads the alerts topic."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleetwake.consumers.runtime.kafka import KafkaTopicReader
from fleetwake.schemas.codec import PackagedSchemas, decode_record
from fleetwake.schemas.records import LoopAlert
from fleetwake.schemas.topics import ALERTS

if TYPE_CHECKING:
    from fleetwake.producer.settings import KafkaSettings

__all__ = ["latest_alerts"]


async def latest_alerts(kafka: KafkaSettings) -> list[LoopAlert]:
    """
    Return the last word on each alert.

    Raises:
        RetriableError: no broker answers.
    """
    reader, schemas = KafkaTopicReader(kafka), PackagedSchemas()
    latest: dict[str, LoopAlert] = {}

    async def read(partition: int) -> None:
        async for record in reader.read(ALERTS, partition):
            if record.value is not None:
                alert = decode_record(LoopAlert, record.value, schemas)
                latest[alert.alert_id] = alert

    await asyncio.gather(*map(read, range(kafka.partitions)))
    return list(latest.values())
