"""The second thread of a producer: gets records acknowledged by the log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from fleetwake.producer.lanes import Lanes, lose
from fleetwake.producer.loop import PrivateLoop
from fleetwake.producer.transport import (
    RecordsRefusedError,
    TopicMissingError,
    TransportError,
)
from fleetwake.schemas.topics import DEAD_LETTERS, EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fleetwake.producer.adoption import Adoption
    from fleetwake.producer.consignment import Consignment
    from fleetwake.producer.framing import Framing
    from fleetwake.producer.intake import Intake
    from fleetwake.producer.lane import Lane
    from fleetwake.producer.outbox import Outbox
    from fleetwake.producer.parcel import Parcel
    from fleetwake.producer.settings import ProducerSettings
    from fleetwake.producer.statistics import ErrorLog
    from fleetwake.producer.transport import Transport

__all__ = ["Delivery"]

logger = logging.getLogger("fleetwake.producer")

# To connect and to learn the number of partitions.
_CONNECT_S: Final = 20.0

# Without an acknowledgement for so long, something is wrong, and is said.
_LATE_S: Final = 10.0

# When one partition fails, the others may finish what is on its way.
_QUIESCE_S: Final = 5.0

# To say good-bye. What hangs longer ends with the event loop.
_STOP_S: Final = 0.2

# Dead letters that cannot be sent are tried again after this.
_LETTERS_AGAIN_S: Final = 30.0

# Records that are taken in at a time, roughly: some milliseconds of work.
_TAKEN: Final = 2_000

_BACKOFF_S: Final = 0.1
_MAX_BACKOFF_S: Final = 5.0


class Delivery:
    """
    Sends what the outbox and adopted spools hold until it is stopped, whatever fails.

    Delivery guarantees: at least once while the process lives. First occurrences of a
    session's events are in the order of their sequence; duplicates have the same
    event_id, and come only from a batch that failed without an answer. One batch per
    partition is under way at a time. Dead letters never hold up events.

    Each client lives on an event loop of its own and ends with it, because aiokafka's
    `stop` may hang and what was cancelled in it may still write. After any failed
    send the client is given up (an idempotent aiokafka producer never recovers,
    docs/decisions/0007), what was not acknowledged goes back to the front of its
    lane, and the next client begins there.
    """

    def __init__(
        self,
        intake: Intake,
        outbox: Outbox,
        adoption: Adoption | None,
        framing: Framing,
        *,
        open_transport: Callable[[], Transport],
        topics: Mapping[str, str],
        settings: ProducerSettings,
        errors: ErrorLog,
    ) -> None:
        self._intake = intake
        self._outbox = outbox
        self._adoption = adoption
        self._framing = framing
        self._open_transport = open_transport
        self._topic = topics[EVENTS.name]
        self._letters_topic = topics[DEAD_LETTERS.name]
        self._settings = settings
        self._errors = errors
        self._lanes = Lanes(settings.max_sessions)
        self._letters_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        # Somebody waits, the writer too: until something is dropped.
        self._hurry = asyncio.Event()
        self._halt = asyncio.Event()
        self._stop_at = math.inf
        self._broken = False
        self._backoff_s = 0.0
        self.sent = 0
        self.connected = False

    def run(self) -> None:
        """Work until `stop`, one event loop per client. The body of a thread."""
        while time.monotonic() < self._stop_at:
            try:
                with asyncio.Runner(loop_factory=PrivateLoop) as runner:
                    runner.run(self._live())
            except Exception as error:  # noqa: BLE001  # as too many open files
                self._failed("worker", repr(error), level=logging.ERROR)
                time.sleep(self._backoff_s)

    def wake(self) -> None:
        """Look at the outbox. From any thread; 4 us, and less if it will anyway."""
        if not self._wake.is_set():
            self._call(self._wake)
        if self._is_urgent():
            self._call(self._hurry)

    def stop(self) -> None:
        """End now, and leave what is not acknowledged where it is. From any thread."""
        self._stop_at = time.monotonic()
        self._call(self._halt)

    def oldest(self) -> int | None:
        """Return when the record that waits longest was accepted. From any thread."""
        return self._lanes.oldest()

    def _call(self, event: asyncio.Event) -> None:
        # A loop that has just closed: the next one begins with a look at everything.
        if (loop := self._loop) is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(event.set)

    async def _live(self) -> None:
        self._wake, self._hurry = asyncio.Event(), asyncio.Event()
        self._halt = asyncio.Event()
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
        while time.monotonic() < self._stop_at:
            self._halt.clear()
            await self._halt.wait()

    async def _take_in(self) -> None:
        while True:
            taken = self._take()
            self._lanes.extend(taken)
            self._drop_oldest()
            if sum(map(len, taken)) >= _TAKEN:
                await asyncio.sleep(0)
                continue
            await self._wake.wait()
            self._wake.clear()
            if not self._is_urgent():
                await self._linger()

    def _is_urgent(self) -> bool:
        return self._intake.is_awaited() or self._outbox.excess > 0

    async def _linger(self) -> None:
        self._hurry.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.linger_s):
                await self._hurry.wait()

    def _take(self) -> list[Parcel]:
        # All that there is before any of it is sent: what is sent by itself costs a
        # request by itself.
        takes = [self._outbox.take]
        if self._adoption is not None:
            takes.append(self._adoption.take)
        taken: list[Parcel] = []
        count = 0
        for take in takes:
            while count < _TAKEN and (some := take()):
                taken += some
                count += sum(map(len, some))
        return taken

    def _drop_oldest(self) -> None:
        drop = self._lanes.drop_oldest
        drop("queue_full", self._intake.is_over, _in_memory)
        drop("spool_full", lambda: self._outbox.excess > 0, _in_spool)

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
                self._lanes.assign(partitions, transport.partition)
                self.connected = True
                return transport

    async def _send_all(self, transport: Transport) -> None:
        tasks = {
            asyncio.create_task(self._send_lane(transport, number)): lane
            for number, lane in enumerate(self._lanes.events)
        }
        letters = asyncio.create_task(self._send_letters(transport))
        tasks[letters] = self._lanes.letters
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
        lane = self._lanes.events[number]
        while not self._broken:
            await lane.filled.wait()
            batch = lane.load(self._settings.batch_bytes)
            if not batch:
                continue
            await self._send(transport, self._topic, number, lane, batch)
            self._arrived(lane)

    async def _send_letters(self, transport: Transport) -> None:
        # One sender is enough: they are few, and their order is of no matter.
        lane = self._lanes.letters
        while not self._broken:
            await lane.filled.wait()
            await asyncio.sleep(self._letters_at - time.monotonic())
            batch = lane.load(self._settings.batch_bytes)
            try:
                await self._send_by_key(transport, batch)
            except TopicMissingError as error:
                self._letters_at = time.monotonic() + _LETTERS_AGAIN_S
                self._errors.note("dead_letters", error)
                lane.restore()
            except RecordsRefusedError:
                raise
            except TransportError:
                self._letters_at = time.monotonic() + _LETTERS_AGAIN_S
                raise
            else:
                self._errors.over("dead_letters")
                self._arrived(lane)

    async def _send_by_key(self, transport: Transport, batch: Sequence[Parcel]) -> None:
        topic = self._letters_topic
        partitions = await transport.partitions(topic)

        def partition(key: bytes) -> int:
            return transport.partition(key, partitions)

        by_partition: defaultdict[int, list[Parcel]] = defaultdict(list)
        for parcel in batch:
            for number, part in parcel.by_partition(partition).items():
                by_partition[number].append(part)
        for number, some in by_partition.items():
            await self._send(transport, topic, number, self._lanes.letters, some)

    def _arrived(self, lane: Lane) -> None:
        self._backoff_s = 0.0
        self.connected = True
        if self._errors.over("delivery"):
            logger.info("Delivering again: %d events wait.", self._intake.queued)
        arrived = lane.arrived()
        sources = {one.consignment.source for one in arrived}
        for source in sources:
            source.acknowledge(
                arrived
                if len(sources) == 1
                else [one for one in arrived if one.consignment.source is source]
            )

    async def _send(
        self,
        transport: Transport,
        topic: str,
        partition: int,
        lane: Lane,
        batch: Sequence[Parcel],
    ) -> None:
        outgoing = [record for parcel in batch for record in parcel.records]
        self.sent += len(outgoing)
        late = asyncio.get_running_loop().call_later(_LATE_S, self._late)
        try:
            async with asyncio.timeout(self._settings.ack_timeout_s):
                if topic == self._topic:
                    await self._check_partitions(transport)
                await transport.send(topic, partition, outgoing)
        except TimeoutError as error:
            raise TransportError(f"{topic}-{partition}: no acknowledgement") from error
        except RecordsRefusedError:
            for parcel in lane.refused():
                lose(parcel, "refused")
            raise
        finally:
            late.cancel()

    async def _check_partitions(self, transport: Transport) -> None:
        if await transport.partitions(self._topic) != self._lanes.partitions:
            raise TransportError(f"{self._topic} has more or fewer partitions")

    def _late(self) -> None:
        self.connected = False
        self._errors.note("delivery", f"no acknowledgement for {_LATE_S:.0f} s")

    def _failed(self, kind: str, problem: str, *, level: int = logging.WARNING) -> None:
        self._errors.note(kind, problem, level=level)
        if kind != "refused":
            self._backoff_s = min(max(2 * self._backoff_s, _BACKOFF_S), _MAX_BACKOFF_S)


def _in_memory(one: Consignment) -> bool:
    return not one.number


def _in_spool(one: Consignment) -> bool:
    # What was adopted has no ordinal: it does not count against our spool.
    return one.number > 0 and one.ordinal > 0


async def _stop(transport: Transport) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_STOP_S):
            await transport.stop()


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
