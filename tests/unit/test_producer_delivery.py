"""What the delivery takes at a time, and what it sends together."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Literal

import pytest
from tests.producing import event, until
from tests.spooling import record

from fleetwake.producer import AuditProducer
from fleetwake.producer.check import check
from fleetwake.producer.delivery import Delivery
from fleetwake.producer.encoder import Encoder
from fleetwake.producer.framing import Framing
from fleetwake.producer.intake import Intake
from fleetwake.producer.outbox import Outbox
from fleetwake.producer.parcel import parcels
from fleetwake.producer.settings import ProducerSettings
from fleetwake.producer.statistics import ErrorLog
from fleetwake.producer.testing import MemoryLog, MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fleetwake.producer.transport import OutgoingRecord

PARCELS, RECORDS = 30, 100


class CountingTransport(MemoryTransport):
    """Notes the batches of each partition."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log)
        self.batches: defaultdict[int, list[list[bytes]]] = defaultdict(list)

    async def send(
        self, topic: str, partition: int, records: Sequence[OutgoingRecord]
    ) -> None:
        self.batches[partition].append([one.value for one in records])
        await super().send(topic, partition, records)


class Running:
    """A delivery beside an outbox in memory."""

    def __init__(self) -> None:
        settings = ProducerSettings(durability="memory", linger_s=0.0)
        errors = ErrorLog()
        log = MemoryLog()
        self.transport = CountingTransport(log)
        self.intake = Intake("p", settings)
        framing = Framing(
            Encoder(source="native", host=None, environment=None),
            errors,
            schemas_topic="schemas",
            register=None,
            fallback_after_s=0.0,
        )
        self.outbox = Outbox(
            self.intake,
            errors,
            on_full="drop_newest",
            open_spool=None,
            deliver=lambda: None,
        )
        self.delivery = Delivery(
            self.intake,
            self.outbox,
            None,
            framing,
            open_transport=lambda: self.transport,
            topics={"events": log.topic, "dead-letters": "dead-letters"},
            settings=settings,
            errors=errors,
        )
        self._thread = threading.Thread(target=self.delivery.run)

    def put(self, count: int, records: int) -> list[bytes]:
        values: list[bytes] = []
        for nth_parcel in range(count):
            some = [b"%d %d" % (nth_parcel, nth) for nth in range(records)]
            for _ in some:
                self.intake.put(check(event()))
            held = sum(one.size for one in self.intake.take(records))
            batch = [record(nth, value=one, key=b"s") for nth, one in enumerate(some)]
            (parcel,) = parcels(batch)
            self.outbox.put(parcel, held)
            values += some
        return values

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.delivery.stop()
        self._thread.join(10)


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.stop()


def test_what_waits_is_taken_at_once_and_shares_its_requests(running: Running) -> None:
    """Many small parcels become few batches, in order, and all are settled."""
    values = running.put(PARCELS, RECORDS)
    running.start()
    until(lambda: running.intake.acknowledged == PARCELS * RECORDS)
    sent = [batch for some in running.transport.batches.values() for batch in some]

    assert values == [value for batch in sent for value in batch]
    assert len(sent) < PARCELS
    assert 0 == running.intake.queued


def test_what_comes_while_it_sends_is_taken_after_one_wake_up(
    running: Running,
) -> None:
    """It is woken once for all that comes before it looks."""
    running.start()
    until(lambda: running.delivery.connected)
    for _ in range(3):
        before = running.intake.acknowledged
        running.put(3, 5)
        running.delivery.wake()
        running.delivery.wake()
        until(lambda before=before: running.intake.acknowledged == before + 15)

    assert 45 == running.intake.acknowledged


def test_a_stretch_of_work_needs_no_bell_and_a_pause_ends_with_one() -> None:
    """What comes while the writer looks by itself, or after that, is delivered."""
    log = MemoryLog()
    with AuditProducer(
        ProducerSettings(durability="memory"),
        open_transport=lambda: MemoryTransport(log),
    ) as producer:
        for pause_s in (0.0, 0.001, 0.02, 0.3):
            threading.Event().wait(pause_s)
            producer.emit(event())
            assert producer.flush(20)

        assert 4 == producer.statistics().acknowledged


@pytest.mark.parametrize("durability", ["memory", "spool"])
def test_nobody_waits_for_what_lingers(durability: Literal["memory", "spool"]) -> None:
    """Neither `flush` nor `close`, whether they come before the wait or during it."""
    log = MemoryLog()
    producer = AuditProducer(
        ProducerSettings(durability=durability, linger_s=600.0),
        open_transport=lambda: MemoryTransport(log),
    )
    for pause_s in (0.0, 0.02, 0.2):
        producer.emit(event())
        threading.Event().wait(pause_s)
        assert producer.flush(20)
    producer.emit(event())
    threading.Event().wait(0.2)

    assert producer.close(20)
    assert 4 == len([one for one in log.events() if one.event_type != "producer.close"])
