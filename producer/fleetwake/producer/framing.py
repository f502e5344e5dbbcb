"""Decides how records are framed, and lets readers know the schema."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Final

from fleetwake.producer.transport import OutgoingRecord
from fleetwake.schemas.codec import schema_of
from fleetwake.schemas.event import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetwake.producer.encoder import Encoder
    from fleetwake.producer.intake import Intake
    from fleetwake.producer.statistics import ErrorLog
    from fleetwake.producer.transport import Transport

__all__ = ["Framing"]

_THREAD: Final = "fleetwake-registry"
_POLL_S: Final = 0.05
_WHILE_CLOSING_S: Final = 1.0
_ASK_AGAIN_S: Final = 5.0
_ANNOUNCE_S: Final = 2.0
_ANNOUNCE_AGAIN_S: Final = 30.0


class Framing:
    """
    The Confluent wire format where a registry answers, single-object encoding else.

    With a registry, nothing is encoded until it has given the schema's id, but for at
    most `fallback_after_s`, and no longer once the queue is half full or the producer
    closed for a second: then records have the single-object encoding until it answers.
    Our readers take both, in one topic. Until then nothing is in the spool either.

    In either case the schema is published to the schemas topic, once per process and
    before the first event if that is possible, so that an older reader can resolve it.
    """

    def __init__(
        self,
        encoder: Encoder,
        errors: ErrorLog,
        *,
        schemas_topic: str,
        register: Callable[[], bytes] | None,
        fallback_after_s: float,
    ) -> None:
        self._encoder = encoder
        self._errors = errors
        self._schemas_topic = schemas_topic
        self._register = register
        self._wait_s = fallback_after_s
        self._tried = False
        self._announced = False
        self._answered = threading.Event()
        self._stopped = threading.Event()
        # Kept, so that it is not collected while it works.
        self._announcing: asyncio.Task[None] | None = None

    def choose(self, intake: Intake) -> None:
        """Wait for the registry, if there is one, or until that has taken too long."""
        if self._register is None:
            return
        # A daemon thread, not an executor: that one holds up the end of the process.
        threading.Thread(
            target=self._ask, args=(self._register,), name=_THREAD, daemon=True
        ).start()
        end = time.monotonic() + self._wait_s
        while (left_s := end - time.monotonic()) > 0:
            if self._answered.wait(min(left_s, _POLL_S)) or intake.is_half_full():
                return
            if intake.closed:
                end = min(end, time.monotonic() + _WHILE_CLOSING_S)

    def stop(self) -> None:
        """Ask the registry no more."""
        self._stopped.set()

    async def announce(self, transport: Transport) -> None:
        """Publish the schema; if the first try fails, go on in the background."""
        tried, self._tried = self._tried, True
        if not self._announced and (tried or not await self._publish(transport)):
            self._announcing = asyncio.create_task(self._go_on(transport))

    def _ask(self, register: Callable[[], bytes]) -> None:
        while not self._answered.is_set():
            try:
                self._encoder.use_header(register())
            except Exception as error:  # noqa: BLE001  # the answer is the same to all
                self._errors.note("registry", error)
                if self._stopped.wait(_ASK_AGAIN_S):
                    return
            else:
                self._answered.set()

    async def _go_on(self, transport: Transport) -> None:
        while not self._announced:
            await asyncio.sleep(_ANNOUNCE_AGAIN_S)
            await self._publish(transport)

    async def _publish(self, transport: Transport) -> bool:
        schema = schema_of(AuditEvent)
        key = schema.fingerprint.hex().encode()
        topic = self._schemas_topic
        try:
            async with asyncio.timeout(_ANNOUNCE_S):
                partition = transport.partition(key, await transport.partitions(topic))
                record = OutgoingRecord(key, schema.text.encode(), [])
                await transport.send(topic, partition, [record])
        except Exception as error:  # noqa: BLE001  # events go on without it
            self._errors.note("schemas_topic", str(error) or repr(error))
        else:
            self._announced = True
        return self._announced
