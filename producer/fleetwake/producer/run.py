"""One process's run of a producer: its id, its queue and its thread."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

from uuid_utils import uuid7

from fleetwake.producer.check import check
from fleetwake.producer.delivery import Delivery
from fleetwake.producer.encoder import Encoder
from fleetwake.producer.framing import Framing
from fleetwake.producer.intake import Entry, Intake, resolve
from fleetwake.producer.loop import THREAD_NAME
from fleetwake.producer.process import this_process
from fleetwake.producer.statistics import DeliveryStatistics, ErrorLog
from fleetwake.schemas.codec import confluent_header, schema_of
from fleetwake.schemas.errors import FleetwakeError
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.topics import EVENTS, SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetwake.producer.check import Checked
    from fleetwake.producer.settings import (
        KafkaSettings,
        ProducerSettings,
        RegistrySettings,
    )
    from fleetwake.producer.transport import Transport

__all__ = ["Run"]


class Run:
    """
    What a producer has once per process; a forked child has another one.

    Its thread starts with the first event and ends when `close` is done.
    """

    def __init__(
        self,
        settings: ProducerSettings,
        kafka: KafkaSettings,
        registry: RegistrySettings,
        *,
        source: str,
        open_transport: Callable[[], Transport] | None,
        strict: bool,
    ) -> None:
        self.producer_id = str(uuid7())
        self.settings = settings
        self.finished: Future[bool] = Future()
        self._strict = strict
        self._errors = ErrorLog()
        self._intake = Intake(self.producer_id, settings)
        self._encoder = Encoder(
            source=source, host=settings.host, environment=settings.environment
        )
        topic = kafka.topic(EVENTS)
        framing = Framing(
            self._encoder,
            self._errors,
            schemas_topic=kafka.topic(SCHEMAS),
            register=_registration(registry, topic),
            fallback_after_s=registry.fallback_after_s,
        )
        self._delivery = Delivery(
            self._intake,
            self._encoder,
            framing,
            open_transport=open_transport or _kafka(kafka, settings.compression),
            topic=topic,
            settings=settings,
            errors=self._errors,
        )
        # Reentrant, as the intake's lock is.
        self._starting = threading.RLock()
        self._thread: threading.Thread | None = None

    def emit(self, event: AuditEvent) -> None:
        """Accept an event or count it as invalid; see `AuditProducer.emit`."""
        try:
            checked = check(event)
            if self._strict:
                self._try(checked)
            must_wake = self._intake.put(checked)
        except Exception as error:
            # Not the text of an error that is not ours: it may hold content.
            known = isinstance(error, FleetwakeError)
            self._errors.note("invalid", error if known else type(error).__name__)
            if self._strict:
                raise
        else:
            if self._thread is None:
                self._start()
            # Also then: another thread may just have started it.
            if must_wake:
                self._delivery.wake()

    def flush(self) -> Future[bool]:
        """Return what becomes True when all that was accepted so far is settled."""
        return self._intake.flush()

    def close(self, *, abandon_after_s: float | None = None) -> Future[bool]:
        """
        Accept no more; return what becomes True when all was delivered.

        Without `abandon_after_s` somebody must call `abandon` in the end.
        """
        done, must_wake = self._intake.close()
        done.add_done_callback(lambda _: self._delivery.stop())
        if must_wake:
            self._delivery.wake()
        if abandon_after_s is not None:
            self._delivery.stop(after_s=abandon_after_s)
        if self._thread is None:
            resolve(self.finished, result=True)
        return done

    def abandon(self) -> None:
        """Drop what was not delivered until now, and say so."""
        if lost := self._intake.abandon():
            self._errors.note(
                "closed", f"{lost} events were not delivered", level=logging.ERROR
            )
        self._delivery.stop()

    def statistics(self) -> DeliveryStatistics:
        """Return the counts of now."""
        intake, errors = self._intake, self._errors.counts
        oldest = self._delivery.oldest()
        age_us = time.time_ns() // 1000 - oldest.recorded_at if oldest else 0
        return DeliveryStatistics(
            producer_id=self.producer_id,
            **intake.counts(),
            sent=self._delivery.sent,
            invalid=errors.get("invalid", 0),
            errors=errors,
            last_error=self._errors.last,
            oldest_age_s=max(0, age_us) / 1e6,
            connected=self._delivery.connected,
        )

    def _try(self, checked: Checked) -> None:
        if self._intake.closed:
            raise FleetwakeError("the producer is closed")
        now = time.time_ns() // 1000
        self._encoder(Entry(0, *checked, self.producer_id, 1, now))

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._work, name=THREAD_NAME, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # too many threads, or too late
                self._errors.note("thread", error)
                return
            self._thread = thread
            this_process().close_with_child()

    def _work(self) -> None:
        try:
            self._delivery.run()
        except BaseException as error:
            self._errors.note("worker", repr(error), level=logging.CRITICAL)
            raise
        finally:
            self.abandon()
            resolve(self.finished, result=True)


def _kafka(kafka: KafkaSettings, compression: str) -> Callable[[], Transport]:
    def open_transport() -> Transport:
        # 80 ms, in the producer's thread.
        from fleetwake.producer.kafka import KafkaTransport

        return KafkaTransport(kafka, compression=compression)

    return open_transport


def _registration(registry: RegistrySettings, topic: str) -> Callable[[], bytes] | None:
    if not registry.url:
        return None
    from fleetwake.producer.registry import Registry

    client = Registry(registry)
    return lambda: confluent_header(
        client.register(f"{topic}-value", schema_of(AuditEvent))
    )
