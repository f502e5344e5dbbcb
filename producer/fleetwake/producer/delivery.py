"""The worker of a producer: encodes what the intake holds and gets it acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from fleetwake.producer.encoder import TooLargeError
from fleetwake.producer.lane import Encoded, Lane
from fleetwake.producer.loop import PrivateLoop
from fleetwake.producer.transport import RecordsRefusedError, TransportError
from fleetwake.schemas.errors import FleetwakeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetwake.producer.encoder import Encoder
    from fleetwake.producer.framing import Framing
    from fleetwake.producer.intake import Entry, Intake
    from fleetwake.producer.settings import ProducerSettings
    from fleetwake.producer.statistics import ErrorLog
    from fleetwake.producer.transport import Transport

__all__ = ["Delivery"]

logger = logging.getLogger("fleetwake.producer")

# Events that are encoded between two looks at the network: 2 to 3 ms.
_SLICE: Final = 64

# To connect and to learn the number of partitions.
_CONNECT_S: Final = 20.0

# Without an acknowledgement for so long, something is wrong, and is said.
_LATE_S: Final = 10.0

# When one partition fails, the others may finish what is on its way.
_QUIESCE_S: Final = 5.0

# To say good-bye. What hangs longer ends with the event loop.
_STOP_S: Final = 0.2

_BACKOFF_S: Final = 0.1
_MAX_BACKOFF_S: Final = 5.0


class Delivery:
    """
    Encodes and sends until it is stopped, whatever fails.

    Delivery guarantees: at least once while the process lives. First occurrences of a
    session's events are in the order of their sequence; duplicates have the same
    event_id, and come only from a batch that failed without an answer. One batch per
    partition is under way at a time.

    Each client lives on an event loop of its own and ends with it, because aiokafka's
    `stop` may hang and what was cancelled in it may still write. After any failed
    send the client is given up (an idempotent aiokafka producer never recovers,
    docs/decisions/0007), what was not acknowledged goes back to the front of its
    lane, and the next client begins there.
    """

    def __init__(
        self,
        intake: Intake,
        encoder: Encoder,
        framing: Framing,
        *,
        open_transport: Callable[[], Transport],
        topic: str,
        settings: ProducerSettings,
        errors: ErrorLog,
    ) -> None:
        self._intake = intake
        self._encoder = encoder
        self._framing = framing
        self._open_transport = open_transport
        self._topic = topic
        self._settings = settings
        self._errors = errors
        # Before the partitions are known, all records wait in one lane.
        self._lanes = [Lane()]
        self._partition: Callable[[bytes], int] = lambda _: 0
        self._assigned = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._halt = asyncio.Event()
        self._stop_at = math.inf
        self._broken = False
        self._backoff_s = 0.0
        self.sent = 0
        self.connected = False

    def run(self) -> None:
        """Work until `stop`, one event loop per client. The body of a thread."""
        while time.monotonic() < self._stop_at:
            with asyncio.Runner(loop_factory=PrivateLoop) as runner:
                runner.run(self._live())

    def wake(self) -> None:
        """Look at the intake. From any thread; 4 us."""
        self._call(self._wake)

    def stop(self, *, after_s: float = 0.0) -> None:
        """Give up what is not acknowledged by then, and end. From any thread."""
        self._stop_at = min(self._stop_at, time.monotonic() + after_s)
        self._call(self._halt)

    def oldest(self) -> Entry | None:
        """Return the entry that waits longest. From any thread."""
        waiting = [lane.oldest for lane in self._lanes]
        entries = [encoded.entry for encoded in waiting if encoded is not None]
        if (entry := self._intake.oldest()) is not None:
            entries.append(entry)
        return min(entries, default=None)

    def _call(self, event: asyncio.Event) -> None:
        # A loop that has just closed: the next one begins with a look at everything.
        if (loop := self._loop) is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(event.set)

    async def _live(self) -> None:
        self._wake, self._halt = asyncio.Event(), asyncio.Event()
        self._broken = False
        for lane in self._lanes:
            lane.restore()
        loop = asyncio.get_running_loop()
        self._loop = loop
        work = [self._take_in(), self._serve(), self._until_stopped()]
        tasks = [asyncio.ensure_future(part) for part in work]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._loop = None
            self.connected = False
            await _cancel(tasks)
            if isinstance(loop, PrivateLoop):
                await loop.hang_up()
        for task in tasks:
            if not task.cancelled() and (error := task.exception()):
                self._failed("worker", repr(error), level=logging.ERROR)

    async def _until_stopped(self) -> None:
        while (left_s := self._stop_at - time.monotonic()) > 0:
            self._halt.clear()
            timeout_s = None if left_s == math.inf else left_s
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._halt.wait(), timeout_s)

    async def _take_in(self) -> None:
        await self._framing.choose(self._intake)
        while True:
            entries = self._intake.take(_SLICE)
            for entry in entries:
                self._encode(entry)
            while self._intake.is_over() and (lane := self._longest_waiting()):
                self._lose(lane.pop().entry, "queue_full")
            if entries:
                await asyncio.sleep(0)
            else:
                await self._wake.wait()
                self._wake.clear()
                await asyncio.sleep(self._settings.linger_s)

    def _encode(self, entry: Entry) -> None:
        try:
            record = self._encoder(entry)
        except TooLargeError as error:
            self._errors.note("too_large", error)
            self._lose(entry, "too_large")
        except Exception as error:  # noqa: BLE001  # any value may be in an event
            # Not its text, if we do not know who wrote it: it may hold content.
            known = isinstance(error, FleetwakeError)
            self._errors.note("not_encodable", error if known else type(error).__name__)
            self._lose(entry, "not_encodable")
        else:
            self._append(Encoded(entry, record))

    def _append(self, encoded: Encoded) -> None:
        self._lanes[self._partition(encoded.record.key)].append(encoded)

    def _longest_waiting(self) -> Lane | None:
        waiting = [lane for lane in self._lanes if lane.next is not None]
        return min(waiting, key=_next_ordinal, default=None)

    def _lose(self, entry: Entry, reason: str) -> None:
        if self._intake.drop([entry], reason):
            self._wake.set()

    async def _serve(self) -> None:
        transport = await self._connect()
        try:
            await self._framing.announce(transport)
            await self._send_all(transport)
        finally:
            await _stop(transport)

    async def _connect(self) -> Transport:
        while True:
            # Jitter, so that a fleet does not come back as one.
            await asyncio.sleep(self._backoff_s * random.uniform(0.5, 1.0))  # noqa: S311
            transport = self._open_transport()
            try:
                async with asyncio.timeout(_CONNECT_S):
                    await transport.start()
                    partitions = await transport.partitions(self._topic)
            except Exception as error:  # noqa: BLE001  # the answer is the same to all
                self._failed("delivery", str(error) or repr(error))
                await _stop(transport)
            except asyncio.CancelledError:
                await _stop(transport)
                raise
            else:
                self._assign(transport, partitions)
                self.connected = True
                return transport

    def _assign(self, transport: Transport, partitions: int) -> None:
        # murmur2 in Python takes 8 us for a UUID.
        @lru_cache(maxsize=self._settings.max_sessions)
        def partition(key: bytes) -> int:
            return transport.partition(key, partitions)

        self._partition = partition
        if self._assigned == partitions:
            return
        self._assigned = partitions
        lanes, self._lanes = self._lanes, [Lane() for _ in range(partitions)]
        for lane in lanes:
            for encoded in lane:
                self._append(encoded)

    async def _send_all(self, transport: Transport) -> None:
        tasks = {
            asyncio.create_task(self._send_lane(transport, number)): lane
            for number, lane in enumerate(self._lanes)
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            self._broken = True
            busy = [task for task, lane in tasks.items() if lane.is_busy]
            if busy:
                await asyncio.wait(busy, timeout=_QUIESCE_S)
        finally:
            await _cancel(list(tasks))
        for error in filter(None, (task.exception() for task in done)):
            refused = isinstance(error, RecordsRefusedError)
            self._failed(
                "refused" if refused else "delivery", str(error) or repr(error)
            )

    async def _send_lane(self, transport: Transport, number: int) -> None:
        lane = self._lanes[number]
        while not self._broken:
            await lane.filled.wait()
            batch = lane.load(self._settings.batch_bytes)
            if not batch:
                continue
            self.sent += len(batch)
            try:
                await self._send(transport, number, batch)
            except RecordsRefusedError:
                for encoded in lane.refused():
                    self._lose(encoded.entry, "refused")
                raise
            self._backoff_s = 0.0
            self.connected = True
            if self._errors.over("delivery"):
                logger.info("Delivering again.")
            if self._intake.acknowledge([encoded.entry for encoded in lane.arrived()]):
                self._wake.set()

    async def _send(
        self, transport: Transport, number: int, batch: list[Encoded]
    ) -> None:
        records = [encoded.record for encoded in batch]
        late = asyncio.get_running_loop().call_later(_LATE_S, self._late)
        try:
            async with asyncio.timeout(self._settings.ack_timeout_s):
                if await transport.partitions(self._topic) != self._assigned:
                    raise TransportError(f"{self._topic} has more or fewer partitions")
                await transport.send(self._topic, number, records)
        except TimeoutError as error:
            raise TransportError(
                f"{self._topic}-{number}: no acknowledgement"
            ) from error
        finally:
            late.cancel()

    def _late(self) -> None:
        self.connected = False
        self._errors.note("delivery", f"no acknowledgement for {_LATE_S:.0f} s")

    def _failed(self, kind: str, problem: str, *, level: int = logging.WARNING) -> None:
        self._errors.note(kind, problem, level=level)
        if kind != "refused":
            self._backoff_s = min(max(2 * self._backoff_s, _BACKOFF_S), _MAX_BACKOFF_S)


def _next_ordinal(lane: Lane) -> int:
    return lane.next.entry.ordinal if lane.next else 0


async def _stop(transport: Transport) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_STOP_S):
            await transport.stop()


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
