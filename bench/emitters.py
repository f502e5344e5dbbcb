"""
What an agent could call in place of `AuditProducer.emit`, each as anyone would wire it.

All but ours send the event as JSON, so none of them pays for digests, redaction or a
schema; `aiokafka` is called in its event loop, the others from threads.
"""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from fleetwake.producer import AuditProducer
from fleetwake.producer.content import ABSENT
from fleetwake.producer.settings import KafkaSettings, ProducerSettings
from fleetwake.schemas.topics import EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fleetwake.producer.content import Content
    from fleetwake.schemas.event import AuditEvent

Made = tuple["AuditEvent", "Content | None"]


class Emitter(Protocol):
    def emit(self, made: Made) -> None: ...

    def finish(self) -> int:
        """Wait until all is delivered; return how many were not."""
        ...


def as_json(made: Made) -> bytes:
    event, content = made
    fields = {k: v for k, v in event._asdict().items() if v is not None}
    fields["attributes"] = dict(event.attributes)
    if content is not None:
        fields["arguments"] = None if content.arguments is ABSENT else content.arguments
        fields["result"] = content.result
    return json.dumps(fields).encode()


class Fleetwake:
    def __init__(self, durability: Literal["spool", "memory"]) -> None:
        self._producer = AuditProducer(
            ProducerSettings(
                durability=durability, on_full="block", block_timeout_s=120.0
            )
        )

    def emit(self, made: Made) -> None:
        self._producer.emit(*made)

    def finish(self) -> int:
        self._producer.flush(120)
        lost = self._producer.statistics()
        self._producer.close(10)
        return lost.accepted - lost.acknowledged


class Confluent:
    def __init__(self) -> None:
        from confluent_kafka import Producer

        self._topic = KafkaSettings().topic(EVENTS)
        self._failed = 0
        self._producer = Producer(
            {
                "bootstrap.servers": KafkaSettings().bootstrap_servers,
                "enable.idempotence": True,
                "compression.type": "zstd",
                "linger.ms": 5,
            }
        )

    def emit(self, made: Made) -> None:
        key = made[0].session_id.encode()
        while True:
            try:
                self._producer.produce(
                    self._topic, as_json(made), key, on_delivery=self._delivered
                )
            except BufferError:
                self._producer.poll(0.05)
            else:
                break
        self._producer.poll(0)

    def finish(self) -> int:
        return int(self._producer.flush(120)) + self._failed

    def _delivered(self, error: object, _: object) -> None:
        self._failed += error is not None


class OpenTelemetry:
    """A logger with a batch processor whose exporter takes the batch and no more."""

    def __init__(self) -> None:
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import (
            BatchLogRecordProcessor,
            LogRecordExporter,
            LogRecordExportResult,
        )

        taken = self._taken = [0]
        self._emitted = 0
        self._lock = threading.Lock()

        class Counting(LogRecordExporter):
            def export(self, batch: Any) -> Any:
                taken[0] += len(batch)
                return LogRecordExportResult.SUCCESS

            def force_flush(self, timeout_millis: int = 30_000) -> bool:
                return timeout_millis > 0

            def shutdown(self) -> None: ...

        self._provider = LoggerProvider()
        self._provider.add_log_record_processor(BatchLogRecordProcessor(Counting()))
        self._logger = self._provider.get_logger("agent")

    def emit(self, made: Made) -> None:
        event, content = made
        self._logger.emit(
            timestamp=time.time_ns(),
            event_name=event.event_type,
            body=str(content.result) if content else event.payload,
            attributes={
                k: v
                for k, v in event._asdict().items()
                if isinstance(v, (str, int, float)) and k != "payload"
            },
        )
        with self._lock:
            self._emitted += 1

    def finish(self) -> int:
        self._provider.force_flush()
        self._provider.shutdown()
        return self._emitted - self._taken[0]


class Logging:
    def __init__(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self._handler = logging.FileHandler(folder / "agent.log")
        self._logger = logging.getLogger("bench.agent")
        self._logger.propagate = False
        self._logger.setLevel(logging.INFO)
        self._logger.addHandler(self._handler)

    def emit(self, made: Made) -> None:
        self._logger.info("%s", as_json(made).decode())

    def finish(self) -> int:
        self._handler.close()
        return 0


THREADED: dict[str, Callable[[], Emitter]] = {
    "fleetwake": lambda: Fleetwake("spool"),
    "fleetwake-memory": lambda: Fleetwake("memory"),
    "confluent-kafka": Confluent,
    "opentelemetry": OpenTelemetry,
    "logging": Logging,
}


async def aiokafka_send(
    parts: Sequence[Iterable[Made]], pause_s: float, burst: int
) -> tuple[list[int], int]:
    """Emit by `AIOKafkaProducer.send`, a task for each part; latencies, and lost."""
    from aiokafka import AIOKafkaProducer

    kafka, clock, noted = KafkaSettings(), time.perf_counter_ns, list[int]()
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers,
        enable_idempotence=True,
        compression_type="zstd",
        linger_ms=5,
    )
    await producer.start()
    sent: list[Any] = []

    async def agent(part: Iterable[Made]) -> None:
        for at, made in enumerate(part):
            before = clock()
            key = made[0].session_id.encode()
            sent.append(await producer.send(kafka.topic(EVENTS), as_json(made), key))
            noted.append(clock() - before)
            if pause_s and at % burst == 0:
                await asyncio.sleep(pause_s)

    await asyncio.gather(*map(agent, parts))
    answers = await asyncio.gather(*sent, return_exceptions=True)
    await producer.stop()
    return noted, sum(isinstance(one, BaseException) for one in answers)
