"""The producer and its spool: what was accepted outlives outages and processes."""

from __future__ import annotations

import gc
import logging
import threading
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from tests.producing import event, first_sequences, until

from fleetwake.producer.dead_letter import DeadLetter
from fleetwake.producer.loop import THREAD_NAME
from fleetwake.producer.settings import KafkaSettings, ProducerSettings
from fleetwake.producer.spool import Spool, SpoolError, adopt
from fleetwake.producer.testing import MemoryLog, memory_producer
from fleetwake.schemas.topics import DEAD_LETTERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleetwake.producer import AuditProducer
    from fleetwake.producer.spool import Batch

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def no_threads_left() -> Iterator[None]:
    """Each test closes what it opens."""
    before = set(threading.enumerate())
    yield
    gc.collect()
    until(lambda: set(threading.enumerate()) <= before)


class Machine:
    """The spools of one machine, and the log that its producers write to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = MemoryLog(partitions=3)

    def producer(self, **settings: Any) -> AuditProducer:
        given = {"durability": "spool", "spool_dir": self.folder} | settings
        return memory_producer(ProducerSettings(**given), log=self.log, strict=False)[0]

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]


@pytest.fixture(autouse=True)
def each_start_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here, several lives of a process are one process."""
    monkeypatch.setattr("fleetwake.producer.adoption._LOOK_AGAIN_S", 0.0)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "spool")


def emit(producer: AuditProducer, count: int, sessions: int = 1, **fields: Any) -> None:
    for number in range(count):
        producer.emit(event(f"s-{number % sessions}", **fields))


def give_up(producer: AuditProducer) -> None:
    """Close while the log is away, and wait until all of it has ended."""
    assert not producer.close(0.5)
    # Its threads may need longer than `close` waits: they would deliver the rest
    # themselves to a log that is back so soon.
    until(lambda: THREAD_NAME not in {one.name for one in threading.enumerate()})


def spooled(producer: AuditProducer, count: int) -> None:
    until(lambda: producer.statistics().spooled == count)


def test_a_spool_that_is_delivered_leaves_nothing(machine: Machine) -> None:
    """All arrives once and in order, and no file stays."""
    producer = machine.producer()
    emit(producer, 500, sessions=5)

    assert producer.close(20)
    assert [list(range(1, 102))] * 5 == list(
        first_sequences(machine.log.events()).values()
    )
    assert 505 == len(machine.log.events())
    assert [] == machine.files()


def test_what_is_accepted_is_on_disk_while_the_log_is_away(machine: Machine) -> None:
    """Nothing is left in memory alone, and the log gets it when it is back."""
    machine.log.is_away = True
    producer = machine.producer(queue_max_events=50)
    for _ in range(20):
        emit(producer, 40, sessions=4)
        until(lambda: not producer.statistics().queued - producer.statistics().spooled)
    statistics = producer.statistics()

    assert (800, 800, {}) == (statistics.queued, statistics.spooled, statistics.dropped)
    assert statistics.oldest_age_s > 0
    machine.log.is_away = False
    assert producer.close(20)
    assert [list(range(1, 202))] * 4 == list(
        first_sequences(machine.log.events()).values()
    )


def test_a_delivery_that_falls_behind_reads_from_the_spool(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory holds a window only; the rest comes from the disk, once and in order."""
    monkeypatch.setattr("fleetwake.producer.outbox._WINDOW_BYTES", 20_000)
    monkeypatch.setattr("fleetwake.producer.outbox._READ_BYTES", 5_000)
    machine.log.is_away = True
    producer = machine.producer()
    for _ in range(10):
        emit(producer, 200, sessions=4)
        until(lambda: not producer.statistics().queued - producer.statistics().spooled)
    machine.log.is_away = False
    emit(producer, 200, sessions=4)
    assert producer.flush(20)

    assert 2_200 == len(machine.log.events())
    assert [list(range(1, 551))] * 4 == list(
        first_sequences(machine.log.events()).values()
    )
    assert producer.close(20)
    assert [] == machine.files()


def test_damage_under_a_living_producer_counts_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what the disk alone had is lost; what is in memory as well arrives."""
    monkeypatch.setattr("fleetwake.producer.outbox._WINDOW_BYTES", 20_000)
    read = Spool.read

    def damaged(self: Spool, after: int, *, max_bytes: int) -> list[Batch]:
        # A repair cannot know what is in memory.
        self._note_lost(self.events, 1)
        found = [read(self, after, max_bytes=max_bytes) for _ in range(2)][-1]
        # Of a batch of one record nothing is left, and such a batch is not given.
        left = [one._replace(records=one.records[1:]) for one in found[1:]]
        return [one for one in left if one.records]

    machine.log.is_away = True
    producer = machine.producer()
    for _ in range(5):
        emit(producer, 100)
        until(lambda: not producer.statistics().queued - producer.statistics().spooled)
    monkeypatch.setattr(Spool, "read", damaged)
    machine.log.is_away = False

    assert producer.flush(20)
    until(lambda: not producer.statistics().queued)
    now = producer.statistics()
    delivered = len(machine.log.events())
    assert 0 < delivered < 500
    assert (500, delivered, {"unreadable": 500 - delivered}, 0) == (
        now.accepted,
        now.acknowledged,
        now.dropped,
        now.spooled_bytes,
    )
    assert now.unreadable == 500 - delivered
    assert producer.close(20)


def test_a_copy_that_a_repair_has_kept_is_accounted_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is delivered twice, rather than not at all, and nothing is owed."""
    monkeypatch.setattr("fleetwake.producer.outbox._WINDOW_BYTES", 20_000)
    read = Spool.read

    def doubled(self: Spool, after: int, *, max_bytes: int) -> list[Batch]:
        found = read(self, after, max_bytes=max_bytes)
        return [one._replace(records=[*one.records] * 2) for one in found]

    monkeypatch.setattr(Spool, "read", doubled)
    machine.log.is_away = True
    producer = machine.producer(mark_on_close=False)
    for _ in range(5):
        emit(producer, 100)
        until(lambda: not producer.statistics().queued - producer.statistics().spooled)
    machine.log.is_away = False

    assert producer.close(20)
    now = producer.statistics()
    assert 500 < now.accepted == now.acknowledged == len(machine.log.events())
    assert (0, 0, {}) == (now.queued, now.queued_bytes, now.dropped)


def test_what_close_could_not_deliver_is_delivered_by_the_next_producer(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays in the spool with its close marks; the next start adopts it."""
    machine.log.is_away = True
    first = machine.producer()
    emit(first, 100, sessions=2)
    give_up(first)
    statistics = first.statistics()
    assert (102, 102, {}) == (
        statistics.queued,
        statistics.spooled,
        statistics.dropped,
    )
    assert "102 events stay in the spool" in caplog.text

    machine.log.is_away = False
    second = machine.producer()
    emit(second, 1)
    until(lambda: second.statistics().adopted == 102)
    assert second.close(20)

    of_first = [
        one for one in machine.log.events() if one.producer_id == first.producer_id
    ]
    assert {"s-0": list(range(1, 52)), "s-1": list(range(1, 52))} == (
        first_sequences(of_first)
    )
    assert ["producer.close"] * 2 == [
        one.event_type for one in of_first if one.sequence == 51
    ]
    assert 104 == len(machine.log.events())
    assert [] == machine.files()


def test_two_producers_of_one_machine_share_no_spool(machine: Machine) -> None:
    """A living producer's spool is its own."""
    machine.log.is_away = True
    first, second = machine.producer(), machine.producer()
    emit(first, 50)
    emit(second, 50)
    spooled(first, 50)
    spooled(second, 50)
    machine.log.is_away = False

    assert first.close(20)
    assert second.close(20)
    assert 102 == len(machine.log.events())
    assert (0, 0) == (first.statistics().adopted, second.statistics().adopted)


def test_a_full_spool_refuses_what_is_new_and_tells_it(machine: Machine) -> None:
    """drop_newest: counted, and told by gaps once there is room, never before."""
    machine.log.is_away = True
    producer = machine.producer(spool_max_bytes=MIB)
    for number in range(30):
        producer.emit(event(payload=f'"{"x" * 100_000}"'))
        until(lambda number=number: _settled_in_memory(producer, number + 1))
    dropped = producer.statistics().dropped["spool_full"]
    assert 10 < dropped < 30
    machine.log.is_away = False
    assert producer.flush(20)
    assert producer.close(20)

    events = machine.log.events()
    gaps = [one for one in events if one.event_type == "gap"]
    assert dropped == sum(int(one.attributes["dropped"]) for one in gaps)
    assert {"spool_full"} == {one.attributes["reason"] for one in gaps}
    kept = [one.sequence for one in events if one.event_type == "tool.complete"]
    assert list(range(1, 31 - dropped)) == kept
    assert "producer.close" == events[-1].event_type
    statistics = producer.statistics()
    assert statistics.accepted == statistics.acknowledged + dropped


def _settled_in_memory(producer: AuditProducer, accepted: int) -> bool:
    now = producer.statistics()
    return accepted <= now.accepted == now.spooled + sum(now.dropped.values())


@pytest.mark.parametrize("window", [10**7, 250_000, 1_000])
def test_a_full_spool_gives_up_what_is_old_where_asked_to(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    """drop_oldest: the newest stay, whatever of the old was in memory; a gap tells."""
    monkeypatch.setattr("fleetwake.producer.outbox._WINDOW_BYTES", window)
    machine.log.is_away = True
    producer = machine.producer(spool_max_bytes=MIB, on_full="drop_oldest")
    for number in range(30):
        producer.emit(event(payload=f'"{"x" * 100_000}"'))
        until(lambda number=number: _settled_in_memory(producer, number + 1))
    dropped = producer.statistics().dropped["spool_full"]
    machine.log.is_away = False
    assert producer.close(20)

    events = machine.log.events()
    kept = [one.sequence for one in events if one.event_type == "tool.complete"]
    assert list(range(dropped + 1, 31)) == kept
    gaps = [one for one in events if one.event_type == "gap"]
    assert dropped == sum(int(one.attributes["dropped"]) for one in gaps)


def test_a_full_spool_holds_up_who_wants_to_wait(machine: Machine) -> None:
    """Block: nothing is dropped while the deadline lasts."""
    machine.log.is_away = True
    producer = machine.producer(
        spool_max_bytes=MIB, on_full="block", block_timeout_s=60, queue_max_events=2
    )
    waiting = threading.Thread(
        target=emit, args=(producer, 30), kwargs={"payload": f'"{"x" * 100_000}"'}
    )
    waiting.start()
    until(lambda: producer.statistics().queued > producer.statistics().spooled > 5)
    machine.log.is_away = False
    waiting.join(30)

    assert producer.close(20)
    assert {} == producer.statistics().dropped
    assert list(range(1, 32)) == [one.sequence for one in machine.log.events()]


def test_a_full_spool_holds_up_nobody_for_ever(machine: Machine) -> None:
    """Block: what finds no room until the close is over is dropped and counted."""
    machine.log.is_away = True
    producer = machine.producer(
        spool_max_bytes=MIB, on_full="block", block_timeout_s=0.1, queue_max_events=5
    )
    emit(producer, 20, payload=f'"{"x" * 100_000}"')
    give_up(producer)
    now = producer.statistics()

    assert 0 < now.dropped["spool_full"]
    assert 0 < now.spooled == now.queued
    assert now.accepted == now.queued + sum(now.dropped.values())


@pytest.mark.parametrize(("on_full", "kept"), [("block", 21), ("drop_newest", 10)])
def test_a_small_spool_takes_in_a_part_of_what_is_encoded_together(
    machine: Machine, on_full: str, kept: int
) -> None:
    """A commit that is larger than the whole spool is not lost as a whole."""
    producer = machine.producer(spool_max_bytes=MIB, on_full=on_full)
    with producer._run._intake._lock:
        emit(producer, 20, payload=f'"{"x" * 52_000}"')

    assert producer.close(20)
    found = [one.sequence for one in machine.log.events()]
    assert list(range(1, kept + 1)) == found[:kept]


def test_a_letter_larger_than_the_spool_holds_up_nobody(machine: Machine) -> None:
    """Block: there is nothing to wait for in an empty spool."""
    producer = machine.producer(spool_max_bytes=MIB, on_full="block")
    producer.reject(DeadLetter(b"x" * MIB, "not_json", "large"))
    emit(producer, 1)

    assert producer.close(20)
    assert {"spool_full": 1} == producer.statistics().dropped
    assert [1, 2] == [one.sequence for one in machine.log.events()]


def test_who_waits_for_room_in_the_spool_reads_on(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Block: room for a large event comes from what only the disk has."""
    monkeypatch.setattr("fleetwake.producer.outbox._WINDOW_BYTES", 20_000)
    machine.log.is_away = True
    producer = machine.producer(
        spool_max_bytes=MIB, on_full="block", block_timeout_s=60, commit_s=0.001
    )
    for _ in range(70):
        emit(producer, 1, payload=f'"{"x" * 10_000}"')
        until(lambda: producer.statistics().spooled == producer.statistics().accepted)
    emit(producer, 1, attributes={f"x{nth}": "x" * 4_000 for nth in range(100)})
    until(lambda: not producer._run._intake._queue)
    machine.log.is_away = False

    assert producer.close(20)
    assert {} == producer.statistics().dropped
    assert list(range(1, 73)) == [one.sequence for one in machine.log.events()]


def test_without_a_place_for_a_spool_events_are_delivered_from_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A spool that cannot be made costs one log line and its guarantee."""
    (tmp_path / "file").touch()
    machine = Machine(tmp_path / "file" / "spool")
    producer = machine.producer()
    emit(producer, 300)

    assert producer.close(20)
    assert 301 == len(machine.log.events())
    assert producer.statistics().errors["spool"] >= 1
    assert 1 == len([one for one in caplog.records if one.levelno >= logging.WARNING])


def test_a_disk_that_fails_for_a_while_loses_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory takes what the disk does not; when it is well again, the disk does."""
    monkeypatch.setattr("fleetwake.producer.outbox._AGAIN_S", 0.01)
    append = Spool.append
    is_full = False

    def flaky(self: Spool, records: Any) -> Any:
        if is_full:
            raise SpoolError(self.path, "no space left")
        return append(self, records)

    monkeypatch.setattr(Spool, "append", flaky)
    machine.log.is_away = True
    producer = machine.producer()
    emit(producer, 50)
    spooled(producer, 50)
    is_full = True
    emit(producer, 50)
    until(lambda: producer.statistics().errors.get("spool"))
    is_full = False
    until(lambda: emit(producer, 1) or producer.statistics().spooled > 50)
    machine.log.is_away = False

    assert producer.close(20)
    statistics = producer.statistics()
    assert {} == statistics.dropped
    assert list(range(1, statistics.accepted + 1)) == [
        one.sequence for one in machine.log.events()
    ]


@pytest.mark.parametrize("method", ["create", "append"])
def test_a_spool_that_fails_in_an_unforeseen_way_costs_nothing_else(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Who waits for room in the queue does not wait for ever."""

    def broken(*_: Any, **__: Any) -> Any:
        raise AttributeError("s3cret")

    monkeypatch.setattr(Spool, method, broken)
    producer = machine.producer(
        on_full="block", queue_max_events=10, block_timeout_s=60
    )
    emit(producer, 300)

    assert producer.close(20)
    statistics = producer.statistics()
    assert (301, {}) == (statistics.acknowledged, statistics.dropped)
    assert "spool: AttributeError" == statistics.last_error
    assert [] == machine.files()


def test_what_is_too_old_is_dropped_and_told(machine: Machine) -> None:
    """An adopted spool from before spool_max_age_s is not delivered; a gap says so."""
    machine.log.is_away = True
    first = machine.producer(mark_on_close=False)
    emit(first, 10)
    assert not first.close(1.0)
    machine.log.is_away = False

    second = machine.producer(spool_max_age_s=1e-6)
    emit(second, 1, sessions=1)
    until(lambda: second.statistics().errors.get("adopted_lost") == 10)
    assert second.close(20)

    gaps = [one for one in machine.log.events() if one.event_type == "gap"]
    (gap,) = [one for one in gaps if one.attributes["producer_id"] == first.producer_id]
    assert ("1", "10", "expired") == (
        gap.attributes["from_sequence"],
        gap.attributes["to_sequence"],
        gap.attributes["reason"],
    )
    assert [] == machine.files()


def test_a_refused_record_of_an_adopted_spool_is_told(machine: Machine) -> None:
    """The others of that spool arrive; the gap names the ended producer."""
    machine.log.is_away = True
    first = machine.producer(mark_on_close=False)
    emit(first, 5)
    first.emit(event("s-0", payload='"poison"'))
    emit(first, 5)
    give_up(first)
    machine.log.is_away = False
    machine.log.refuses = lambda record: b"poison" in record.value

    second = machine.producer()
    emit(second, 1)
    until(lambda: second.statistics().adopted == 10)
    assert second.close(20)

    gaps = [one for one in machine.log.events() if one.event_type == "gap"]
    assert [(first.producer_id, "6")] == [
        (one.attributes["producer_id"], one.attributes["from_sequence"]) for one in gaps
    ]
    assert [] == machine.files()


def test_adoption_that_is_interrupted_goes_on_with_the_next(machine: Machine) -> None:
    """Whoever ends in the middle leaves the rest to whoever comes."""
    machine.log.is_away = True
    first = machine.producer(mark_on_close=False)
    emit(first, 100)
    give_up(first)
    second = machine.producer(mark_on_close=False)
    emit(second, 1)
    spooled(second, 1)
    give_up(second)
    machine.log.is_away = False

    third = machine.producer(mark_on_close=False)
    emit(third, 1)
    until(lambda: third.statistics().adopted == 101)
    assert third.close(20)

    assert 102 == len(machine.log.events())
    assert [] == machine.files()


def test_a_letter_without_a_topic_does_not_hold_up_other_spools(
    machine: Machine,
) -> None:
    """An adopted dead letter waits; what other ended producers left does not."""
    topic = KafkaSettings().topic(DEAD_LETTERS)
    machine.log.partitions.pop(topic)
    machine.log.is_away = True
    for _ in range(3):
        ended = machine.producer(mark_on_close=False)
        ended.reject(DeadLetter(b"{", "not_json", "ends"))
        emit(ended, 10)
        spooled(ended, 11)
        give_up(ended)
    machine.log.is_away = False

    producer = machine.producer(mark_on_close=False)
    emit(producer, 1)
    until(lambda: producer.statistics().adopted == 30)
    assert producer.close(20)
    machine.log.partitions[topic] = 1
    last = machine.producer(mark_on_close=False)
    emit(last, 1)
    until(lambda: last.statistics().adopted == 3)
    assert last.close(20)

    assert 3 == len(machine.log.dead_letters())
    assert [] == machine.files()


def test_a_memory_producer_leaves_no_file_and_adopts_nothing(machine: Machine) -> None:
    """Durability is a choice."""
    machine.log.is_away = True
    first = machine.producer(mark_on_close=False)
    emit(first, 5)
    assert not first.close(1.0)
    files = machine.files()
    machine.log.is_away = False

    second = machine.producer(durability="memory")
    emit(second, 5)
    assert second.close(20)

    assert 6 == len(machine.log.events())
    assert files == machine.files()


def test_a_producer_per_request_leaves_nothing(machine: Machine) -> None:
    """Threads, file descriptors and files: as many as before."""
    before = psutil.Process().num_fds()
    for number in range(50):
        producer = machine.producer()
        producer.emit(event(f"s-{number}"))
        assert producer.close(20)
        producer = machine.producer()
        producer.emit(event(f"s-{number}"))
        del producer
    gc.collect()
    until(lambda: len(machine.log.events()) == 200)
    until(lambda: machine.files() == [])
    until(lambda: "fleetwake-producer" not in [t.name for t in threading.enumerate()])
    until(lambda: psutil.Process().num_fds() <= before)


def test_the_spool_of_one_kafka_is_not_sent_to_another(machine: Machine) -> None:
    """Spools stand in a folder per cluster and prefix."""
    machine.log.is_away = True
    producer = machine.producer(mark_on_close=False)
    emit(producer, 5)
    assert not producer.close(1.0)

    (folder,) = machine.folder.iterdir()
    assert folder.name.startswith("not-kafka-")
    assert [5] == [spool.events for spool in adopt(folder)]
