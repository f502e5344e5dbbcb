"""One process's run of a producer: its id, its queue and its thread."""

from __future__ import annotations

import json
import logging
import threading
import time
from concurrent.futures import Future
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Final

from uuid_utils import uuid7

from fleetwake.producer.adoption import Adoption
from fleetwake.producer.check import check, check_letter
from fleetwake.producer.delivery import Delivery
from fleetwake.producer.encoder import Encoder
from fleetwake.producer.entry import Entry, resolve
from fleetwake.producer.framing import Framing
from fleetwake.producer.home import spools_for
from fleetwake.producer.intake import Intake
from fleetwake.producer.loop import THREAD_NAME
from fleetwake.producer.outbox import Outbox
from fleetwake.producer.process import this_process
from fleetwake.producer.spool import Spool
from fleetwake.producer.statistics import DeliveryStatistics, ErrorLog
from fleetwake.producer.writer import Writer
from fleetwake.schemas.codec import confluent_header, schema_of
from fleetwake.schemas.errors import FleetwakeError
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.topics import DEAD_LETTERS, EVENTS, SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetwake.producer.check import Checked
    from fleetwake.producer.content import Content
    from fleetwake.producer.dead_letter import DeadLetter
    from fleetwake.producer.settings import (
        ContentSettings,
        KafkaSettings,
        ProducerSettings,
        RegistrySettings,
    )
    from fleetwake.producer.transport import Transport

__all__ = ["Run"]

logger = logging.getLogger("fleetwake.producer")

# For the delivery to end, in the first thread of the producer.
_JOIN_S: Final = 1.0

# Between two looks at the spool's age, the spools of others and the statistics.
_TEND_S: Final = 1.0


class Run:
    """
    What a producer has once per process; a forked child has another one.

    Its two threads start with the first event and end when `close` is done.
    """

    def __init__(
        self,
        settings: ProducerSettings,
        kafka: KafkaSettings,
        registry: RegistrySettings,
        content: ContentSettings,
        *,
        redactors: Sequence[Callable[[AuditEvent], AuditEvent]],
        source: str,
        open_transport: Callable[[], Transport] | None,
        strict: bool,
    ) -> None:
        self.producer_id = str(uuid7())
        self.settings = settings
        # What is adopted goes where we send: not from Kafka's spools to another log.
        where = kafka.bootstrap_servers if open_transport is None else "not-kafka"
        self._spools = partial(spools_for, settings, where, kafka.topic_prefix)
        self.finished: Future[bool] = Future()
        self._strict = strict
        self._errors = ErrorLog()
        self._intake = Intake(self.producer_id, settings)
        self._encoder = Encoder(
            source=source,
            host=settings.host,
            environment=settings.environment,
            content=content,
            redactors=redactors,
        )
        self._framing = Framing(
            self._encoder,
            self._errors,
            schemas_topic=kafka.topic(SCHEMAS),
            register=_registration(registry, kafka.topic(EVENTS)),
            fallback_after_s=registry.fallback_after_s,
        )
        spools = settings.durability == "spool"
        self._outbox = Outbox(
            self._intake,
            self._errors,
            on_full=settings.on_full,
            open_spool=self._open_spool if spools else None,
            deliver=self._deliver,
        )
        self._adoption = Adoption(
            self._spools,
            self._errors,
            max_age_s=settings.spool_max_age_s,
            tell=self._intake.note,
            ring=self._intake.ring_if_resting,
        )
        self._writer = Writer(
            self._intake,
            self._encoder,
            self._framing,
            self._outbox,
            commit_s=settings.commit_s,
            errors=self._errors,
            tend=self._tend,
            tend_every_s=_TEND_S if spools else None,
            deliver=self._deliver,
        )
        self._delivery = Delivery(
            self._intake,
            self._outbox,
            self._adoption if spools else None,
            self._framing,
            open_transport=open_transport or _kafka(kafka, settings.compression),
            topics={one.name: kafka.topic(one) for one in (EVENTS, DEAD_LETTERS)},
            settings=settings,
            errors=self._errors,
        )
        self._tend_at = 0.0
        self._told = ""
        # Reentrant, as the intake's lock is.
        self._starting = threading.RLock()
        self._is_started = False
        self._working = threading.Lock()

    def emit(self, event: AuditEvent, content: Content | None = None) -> None:
        """Accept an event or count it as invalid; see `AuditProducer.emit`."""
        try:
            checked = check(event, content)
            if self._strict:
                self._try(checked)
            self._intake.put(checked)
        except Exception as error:  # noqa: BLE001  # an agent goes on
            self._refuse(error)
        else:
            if not self._is_started:
                self._start()

    def reject(self, letter: DeadLetter) -> None:
        """Accept a dead letter, or count it as invalid; see `AuditProducer.reject`."""
        try:
            copied, size = check_letter(letter)
            if self._strict:
                self._refuse_when_closed()
            self._intake.put_letter(copied, size)
        except Exception as error:  # noqa: BLE001  # an agent goes on
            self._refuse(error)
        else:
            if not self._is_started:
                self._start()

    def flush(self) -> Future[bool]:
        """Return what becomes True when all that was accepted so far is settled."""
        return self._intake.flush()

    def close(self, *, abandon_after_s: float | None = None) -> Future[bool]:
        """
        Accept no more; return what becomes True when all was delivered.

        Without `abandon_after_s` somebody must call `abandon` in the end.
        """
        done = self._intake.close()
        done.add_done_callback(lambda _: self._writer.stop())
        if abandon_after_s is not None:
            self._writer.stop(after_s=abandon_after_s)
        self._delivery.wake()
        if not self._is_started and self._intake.queued:
            self._start()
        if not self._is_started:
            resolve(self.finished, result=True)
        return done

    def abandon(self) -> None:
        """End: leave what was not delivered in the spool, else drop it and say so."""
        if self.settings.durability == "memory":
            self._drop_rest()
        self._writer.stop()

    def statistics(self) -> DeliveryStatistics:
        """Return the counts of now."""
        errors = self._errors.counts
        waiting = self._delivery.oldest(), self._outbox.oldest(), self._intake.oldest()
        now = time.time_ns() // 1000
        oldest = min((one for one in waiting if one is not None), default=now)
        return DeliveryStatistics(
            producer_id=self.producer_id,
            **self._intake.counts(),
            sent=self._delivery.sent,
            adopted=self._adoption.acknowledged,
            unreadable=self._outbox.unreadable + self._adoption.unreadable,
            invalid=errors.get("invalid", 0),
            errors=errors,
            last_error=self._errors.last,
            oldest_age_s=max(0, now - oldest) / 1e6,
            connected=self._delivery.connected,
        )

    def _refuse(self, error: Exception) -> None:
        # Not the text of an error that is not ours: it may hold content.
        known = isinstance(error, FleetwakeError)
        self._errors.note("invalid", error if known else type(error).__name__)
        if self._strict:
            raise error

    def _refuse_when_closed(self) -> None:
        if self._intake.closed:
            raise FleetwakeError("the producer is closed")

    def _try(self, checked: Checked) -> None:
        self._refuse_when_closed()
        event, attributes, size, content = checked
        stamps = (self.producer_id, 1, time.time_ns() // 1000)
        self._encoder(Entry(event, attributes, size, *stamps, content))

    def _start(self) -> None:
        with self._starting:
            if self._is_started:
                return
            this_process().close_with_child()
            thread = threading.Thread(target=self._work, name=THREAD_NAME, daemon=True)
            try:
                # Not after its start: a signal handler may emit during that.
                self._is_started = True
                thread.start()
            except BaseException as error:
                self._is_started = False
                if not isinstance(error, RuntimeError):
                    raise
                self._errors.note("thread", error)  # too many threads, or too late

    def _work(self) -> None:
        # A start that Ctrl-C interrupts may succeed all the same, and is done again.
        if not self._working.acquire(blocking=False):
            return
        self._guard(self._live)
        resolve(self.finished, result=True)

    def _live(self) -> None:
        delivering = threading.Thread(
            target=partial(self._guard, self._delivery.run),
            name=THREAD_NAME,
            daemon=True,
        )
        try:
            delivering.start()
        except RuntimeError as error:  # what is spooled, another process delivers
            self._errors.note("thread", error)
        self._guard(self._writer.run)
        self._guard(self._end)
        self._delivery.stop()
        if delivering.is_alive():
            delivering.join(_JOIN_S)
        self._guard(self._outbox.close)
        self._guard(self._adoption.close)
        self._drop_rest()
        if kept := self._intake.spooled:
            logger.warning(
                "%d events stay in the spool for the next producer on this machine.",
                kept,
            )

    def _end(self) -> None:
        self._framing.stop()
        if self._outbox.has_spool:
            self._intake.end()
        self._writer.finish()

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # what follows must be done
            # Not its text: it may hold content.
            name = type(error).__name__
            self._errors.note("worker", name, level=logging.CRITICAL)

    def _drop_rest(self) -> None:
        if lost := self._intake.abandon():
            self._errors.note(
                "closed", f"{lost} events were not delivered", level=logging.ERROR
            )

    def _open_spool(self) -> Spool:
        return Spool.create(
            self._spools(),
            producer_id=self.producer_id,
            max_bytes=self.settings.spool_max_bytes,
            durable=self.settings.spool_durable,
        )

    def _deliver(self) -> None:
        self._delivery.wake()

    def _tend(self) -> bool:
        """Do what is due on the disk. True: there is more to deliver."""
        if self.settings.durability == "memory":
            return False
        more = self._outbox.tend() | self._adoption.tend()
        now = time.monotonic()
        if (spool := self._outbox.spool) is not None and now >= self._tend_at:
            self._tend_at = now + _TEND_S
            age_us = round(self.settings.spool_max_age_s * 1e6)
            self._outbox.expire(time.time_ns() // 1000 - age_us)
            if (told := json.dumps(asdict(self.statistics()))) != self._told:
                self._told = told
                spool.write_statistics(told)
        return more


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
