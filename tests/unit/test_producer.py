"""The producer on a log in memory: what agents can rely on."""

from __future__ import annotations

import gc
import json
import logging
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from tests.producing import event, first_sequences, until

from fleetwake.producer.client import AuditProducer
from fleetwake.producer.settings import ProducerSettings
from fleetwake.producer.testing import MemoryLog, MemoryTransport, memory_producer
from fleetwake.schemas.codec import schema_of, single_object_header
from fleetwake.schemas.errors import FleetwakeError, InvalidEventError
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.topics import MAX_RECORD_BYTES, SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def no_threads_left() -> Iterator[None]:
    """Each test closes what it opens."""
    before = set(threading.enumerate())
    yield
    gc.collect()
    until(lambda: set(threading.enumerate()) <= before)


def types(log: MemoryLog, session_id: str = "s-1") -> list[str]:
    return [one.event_type for one in log.events(session_id)]


def test_emit_stamps_what_is_empty_and_keeps_what_is_not() -> None:
    """producer_id, sequence, recorded_at always; the rest where it is empty."""
    settings = ProducerSettings(host="h", environment="test")
    producer, log = memory_producer(settings, source="mine")
    begin = time.time_ns() // 1000
    with producer:
        producer.emit(event())
        producer.emit(
            event(
                event_id="given",
                source="theirs",
                source_event_type="tool_done",
                occurred_at=17,
                recorded_at=17,
                host="there",
                environment="production",
                producer_id="nobody",
                sequence=99,
            )
        )
    first, second, _ = log.events()

    assert ("mine", "tool.complete") == (first.source, first.source_event_type)
    assert ("h", "test") == (first.host, first.environment)
    assert begin <= first.recorded_at == first.occurred_at <= time.time_ns() // 1000
    assert "7" == first.event_id[14]
    assert ("given", "theirs", "tool_done", 17, "there", "production") == (
        second.event_id,
        second.source,
        second.source_event_type,
        second.occurred_at,
        second.host,
        second.environment,
    )
    assert begin <= second.recorded_at
    assert [(producer.producer_id, 1), (producer.producer_id, 2)] == [
        (one.producer_id, one.sequence) for one in (first, second)
    ]


def test_a_clean_run_ends_with_a_close_mark_per_session() -> None:
    """What was the last event of a run can be known."""
    producer, log = memory_producer()
    with producer:
        producer.emit(event("a"))
        producer.emit(event("b"))

    assert ["tool.complete", "producer.close"] == types(log, "a")
    assert {"a": [1, 2], "b": [1, 2]} == first_sequences(log.events())


def test_records_are_keyed_by_session_and_carry_their_digest() -> None:
    """The wire: key, single-object framing, SHA-256 (which events() checks)."""
    producer, log = memory_producer()
    with producer:
        producer.emit(event("schön"))

    record = log.records()[0]
    assert "schön".encode() == record.key
    assert record.value.startswith(single_object_header(schema_of(AuditEvent)))
    assert 2 == len(log.events())


def test_text_that_no_codec_can_hold_does_not_split_a_session() -> None:
    """The key of a session with a lone surrogate is the session_id of its records."""
    producer, log = memory_producer()
    with producer:
        producer.emit(event("s\ud800"))

    assert {"s\ufffd".encode()} == {record.key for record in log.records()}
    assert {"s\ufffd"} == {one.session_id for one in log.events()}


def test_the_schema_is_published_before_the_events() -> None:
    """A reader that is older than we are finds our schema in the schemas topic."""
    producer, log = memory_producer()
    with producer:
        producer.emit(event())

    schema = schema_of(AuditEvent)
    topic = log.topic.replace("events", SCHEMAS.name)
    (record,) = log.records(topic)
    assert (schema.fingerprint.hex().encode(), schema.text.encode()) == record[:2]


def test_events_do_not_wait_for_a_schemas_topic_that_is_missing() -> None:
    """Without a schemas topic the events flow, and one log line says so."""
    log = MemoryLog()
    log.partitions.pop(log.topic.replace("events", SCHEMAS.name))
    producer, _ = memory_producer(log=log)
    with producer:
        producer.emit(event())
        assert producer.flush()
        errors = producer.statistics().errors

    assert {"schemas_topic": 1} == errors


def test_a_schemas_topic_that_comes_later_gets_the_schema(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What could not be published at first is tried again in the background."""
    monkeypatch.setattr("fleetwake.producer.framing._ANNOUNCE_AGAIN_S", 0.01)
    log = MemoryLog()
    topic = log.topic.replace("events", SCHEMAS.name)
    log.partitions.pop(topic)
    producer, _ = memory_producer(log=log)
    with producer:
        producer.emit(event())
        assert producer.flush()
        log.partitions[topic] = 1
        until(lambda: log.records(topic))


def test_many_threads_one_session_one_order() -> None:
    """The order of emit is the order of sequence is the order in the log."""
    producer, log = memory_producer()

    def emit(thread: int) -> None:
        for number in range(500):
            producer.emit(
                event(f"s-{number % 3}", turn_id=str(thread), duration_ms=float(number))
            )

    threads = [threading.Thread(target=emit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert producer.close(30)

    events = [one for one in log.events() if one.event_type != "producer.close"]
    assert 4000 == len(events)
    for sequences in first_sequences(log.events()).values():
        assert list(range(1, len(sequences) + 1)) == sequences
    for thread in range(8):
        for session in range(3):
            of_thread = [
                one.duration_ms
                for one in events
                if (one.turn_id, one.session_id) == (str(thread), f"s-{session}")
            ]
            assert sorted(of_thread) == of_thread


def test_first_emits_of_many_threads_at_once() -> None:
    """Nobody's wake-up is lost while another thread starts the worker."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(20):
            producer, log = memory_producer()
            threads = [
                threading.Thread(target=producer.emit, args=(event(),))
                for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert producer.close(20)
            assert list(range(1, 10)) == [one.sequence for one in log.events()]
    finally:
        sys.setswitchinterval(interval)


def test_it_starts_before_the_log_is_there() -> None:
    """No broker at start: events wait and are then delivered in order."""
    log = MemoryLog()
    log.is_away = True
    producer, _ = memory_producer(log=log)
    for _ in range(100):
        producer.emit(event())

    assert not producer.flush(0.05)
    statistics = producer.statistics()
    assert (100, False) == (statistics.queued, statistics.connected)
    assert statistics.oldest_age_s > 0
    assert statistics.errors["delivery"] >= 1

    log.is_away = False
    assert producer.flush(20)
    assert list(range(1, 101)) == [one.sequence for one in log.events()]
    assert producer.close()


def test_an_outage_in_mid_flow_loses_nothing() -> None:
    """Away and back, with sends under way: all arrive, in order, nothing twice."""
    producer, log = memory_producer()
    with producer:
        for number in range(600):
            log.is_away = 200 <= number < 400
            producer.emit(event(f"s-{number % 5}"))
            if number % 100 == 0:
                time.sleep(0.01)
        assert producer.flush(20)

    assert 605 == len(log.events())
    for sequences in first_sequences(log.events()).values():
        assert list(range(1, 122)) == sequences


def test_a_lost_answer_makes_duplicates_of_the_same_event_id_only() -> None:
    """Sent again after an unknown outcome: the same ids, in the same order."""
    log = MemoryLog(partitions=1)
    log.loses_answers = 3
    producer, _ = memory_producer(log=log)
    with producer:
        for _ in range(50):
            producer.emit(event())
        assert producer.flush(20)

    events = log.events()
    assert len(events) > 51
    assert list(range(1, 52)) == first_sequences(events)["s-1"]
    assert 51 == len({one.event_id for one in events})


def test_a_refused_record_is_dropped_alone_and_told() -> None:
    """One poison record: counted, named by a gap, and the rest goes on in order."""
    log = MemoryLog(partitions=1)
    log.refuses = lambda record: b"poison" in record.value
    producer, _ = memory_producer(log=log)
    with producer:
        for number in range(100):
            producer.emit(event(payload='"poison"' if number == 41 else None))
        assert producer.flush(20)
        statistics = producer.statistics()

    assert {"refused": 1} == statistics.dropped
    *events, gap, mark = log.events()
    assert [*range(1, 42), *range(43, 101)] == [one.sequence for one in events]
    assert ("gap", "42", "42", "refused") == (
        gap.event_type,
        gap.attributes["from_sequence"],
        gap.attributes["to_sequence"],
        gap.attributes["reason"],
    )
    assert "producer.close" == mark.event_type


def test_a_log_that_refuses_everything_does_not_hang_the_close() -> None:
    """All is dropped as refused, gaps and marks too; close returns."""
    log = MemoryLog(partitions=1)
    log.refuses = lambda _: True
    producer, _ = memory_producer(log=log)
    producer.emit(event())
    producer.emit(event())

    assert producer.close(20)
    statistics = producer.statistics()
    assert {"refused"} == set(statistics.dropped)
    assert (0, 0) == (statistics.acknowledged, statistics.queued)


def test_an_event_without_its_required_fields_never_stops_the_others() -> None:
    """What the codec refuses is counted, told as a gap, and passed over."""
    producer, log = memory_producer(strict=False)
    with producer:
        producer.emit(event())
        producer.emit(event(duration_ms="long"))
        producer.emit(event(severity="loud"))
        producer.emit(event())
        assert producer.flush()
        statistics = producer.statistics()

    assert {"not_encodable": 2} == statistics.dropped
    assert 2 == statistics.errors["not_encodable"]
    assert [1, 4] == [
        one.sequence for one in log.events() if one.event_type == "tool.complete"
    ]
    assert "gap" in types(log)


def test_a_payload_that_is_too_large_is_cut_and_stays_json() -> None:
    """The event survives; its payload says how much was cut."""
    producer, log = memory_producer()
    chars = 2 * MAX_RECORD_BYTES
    wide = "\N{PILE OF POO}" * (MAX_RECORD_BYTES // 2)
    with producer:
        producer.emit(event(payload="x" * chars))
        producer.emit(event(payload=wide, payload_chars=7))

    first, second, _ = log.events()
    assert {"fleetwake_cut": {"chars": chars}} == json.loads(first.payload or "")
    assert chars == first.payload_chars
    assert {"fleetwake_cut": {"chars": len(wide)}} == json.loads(second.payload or "")
    assert 7 == second.payload_chars


def test_what_is_too_large_without_its_payload_is_dropped() -> None:
    """A tool name of 2 MB is nobody's tool."""
    producer, _ = memory_producer(strict=False)
    with producer:
        producer.emit(event(tool_name="x" * (2 * MAX_RECORD_BYTES)))
        assert producer.flush()

        assert {"too_large": 1} == producer.statistics().dropped


class Hostile:
    """Anything that can go wrong in a caller's object does."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def keys(self) -> Any:
        raise KeyError("keys")

    def __str__(self) -> str:
        raise ValueError("str")

    __repr__ = __str__


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        "text",
        Hostile(),
        Hostile,
        event(""),
        event(None),
        event(attributes=Hostile()),
        event(attributes=None),
        event(Hostile()),
        event(tool_name=Hostile()),
        event(payload=Hostile()),
        event(cost_usd=Hostile()),
        event(sequence="x", occurred_at="y", cost_usd=10**400),
        event(input_tokens=2**70),
    ],
    ids=range(14),
)
def test_emit_never_raises(wrong: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever an agent passes, it is counted, logged once, and the agent goes on."""
    producer, log = memory_producer(strict=False)
    with producer:
        producer.emit(wrong)
        producer.emit(wrong)
        producer.emit(event())
        assert producer.flush()
        statistics = producer.statistics()

    assert 2 == statistics.invalid + statistics.dropped.get("not_encodable", 0)
    assert "tool.complete" in types(log)
    assert 1 == len([one for one in caplog.records if one.levelno >= logging.WARNING])


def test_a_redactor_that_wants_to_end_the_process_does_not() -> None:
    """Its event is not sent; the next ones are."""

    def give_up(seen: AuditEvent) -> AuditEvent:
        if seen.tool_name == "bad":
            sys.exit("no more")
        return seen

    log = MemoryLog()
    producer = AuditProducer(
        ProducerSettings(durability="memory", mark_on_close=False),
        redactors=[give_up],
        open_transport=lambda: MemoryTransport(log),
    )
    producer.emit(event(tool_name="bad"))
    producer.emit(event(tool_name="good"))

    assert producer.close(20)
    assert {"gap", "tool.complete"} == set(types(log))
    # Which of them is first depends on when the loss is seen; what is in between
    # `emit` and the gap has its sequence already.
    assert [2, 3] == [one.sequence for one in log.events("s-1")]
    assert {"not_encodable": 1} == producer.statistics().dropped


def test_strict_raises_in_the_callers_thread() -> None:
    """For tests: what would be dropped raises, and gets no sequence."""
    producer, log = memory_producer(strict=True)
    with producer:
        with pytest.raises(InvalidEventError, match="duration_ms"):
            producer.emit(event(duration_ms="long"))
        with pytest.raises(InvalidEventError, match="session_id"):
            producer.emit(event(""))
        producer.emit(event())

    assert [1, 2] == [one.sequence for one in log.events()]
    with pytest.raises(FleetwakeError, match="closed"):
        producer.emit(event())


def test_no_log_line_holds_content(caplog: pytest.LogCaptureFixture) -> None:
    """Errors name the field, never what stands in it."""
    producer, _ = memory_producer(strict=False)
    with producer:
        producer.emit(event(payload=b"s3cret"))
        producer.emit(event(cost_usd="s3cret", tool_name="s3cret"))

    assert caplog.records
    assert "s3cret" not in caplog.text


def test_drop_newest_keeps_the_oldest_and_tells_the_gap() -> None:
    """The default: a full queue refuses what is new, and says so later."""
    log = MemoryLog()
    log.is_away = True
    settings = ProducerSettings(queue_max_events=10)
    producer, _ = memory_producer(settings, log=log)
    for _ in range(15):
        producer.emit(event())
    log.is_away = False
    with producer:
        assert producer.flush(20)

    *kept, gap, _ = log.events()
    assert list(range(1, 11)) == [one.sequence for one in kept]
    assert ("11", "15", "5") == tuple(
        gap.attributes[name] for name in ("from_sequence", "to_sequence", "dropped")
    )


def test_drop_oldest_keeps_the_newest_and_tells_the_gap() -> None:
    """drop_oldest: the newest events win, also over those already encoded."""
    log = MemoryLog()
    log.is_away = True
    settings = ProducerSettings(queue_max_events=10, on_full="drop_oldest")
    producer, _ = memory_producer(settings, log=log)
    for _ in range(30):
        producer.emit(event())
        until(lambda: producer.statistics().queued <= 10)
    log.is_away = False
    with producer:
        assert producer.flush(20)

    *kept, gap, _ = log.events()
    assert list(range(21, 31)) == [one.sequence for one in kept]
    assert ("1", "20", "20") == tuple(
        gap.attributes[name] for name in ("from_sequence", "to_sequence", "dropped")
    )


def test_close_keeps_its_deadline_while_the_log_is_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Close returns in time, says False, and counts what was not delivered."""
    log = MemoryLog()
    producer, _ = memory_producer(log=log)
    producer.emit(event())
    assert producer.flush()
    log.is_away = True
    producer.emit(event())
    producer.emit(event())

    begin = time.monotonic()
    assert not producer.close(0.3)

    assert time.monotonic() - begin < 1
    assert {"closed": 2} == producer.statistics().dropped
    assert not producer.close(0.3)
    assert 1 == len([one for one in caplog.records if "not delivered" in one.message])


def test_flush_keeps_its_deadline_while_the_log_is_away() -> None:
    """Flush returns in time and says False."""
    log = MemoryLog()
    log.is_away = True
    producer, _ = memory_producer(log=log)
    producer.emit(event())

    begin = time.monotonic()
    assert not producer.flush(0.1)

    assert time.monotonic() - begin < 1
    producer.close(0.1)


def test_a_producer_that_never_emitted_costs_nothing() -> None:
    """No thread, no connection, an immediate close."""
    producer, log = memory_producer()
    threads = threading.active_count()

    assert producer.flush(0)
    assert producer.close(0)
    assert (0, threads) == (log.connections, threading.active_count())


def test_close_can_be_called_again_and_by_many() -> None:
    """Close is idempotent and thread-safe."""
    producer, log = memory_producer()
    producer.emit(event())
    answers: list[bool] = []
    threads = [
        threading.Thread(target=lambda: answers.append(producer.close()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [True] * 4 == answers
    assert producer.close()
    assert producer.flush()
    assert ["tool.complete", "producer.close"] == types(log)


def test_emit_after_close_is_counted() -> None:
    """Used after close: no error, no event, a count."""
    producer, log = memory_producer(strict=False)
    producer.emit(event())
    producer.close()
    producer.emit(event())

    assert {"closed": 1} == producer.statistics().dropped
    assert 2 == len(log.events())


def test_a_producer_that_is_forgotten_delivers_and_ends() -> None:
    """One producer per request, never closed: nothing is lost, no thread stays."""
    log = MemoryLog()
    for number in range(20):
        producer, _ = memory_producer(log=log)
        producer.emit(event(f"s-{number}"))
    gone = weakref.ref(producer)
    del producer
    gc.collect()

    assert gone() is None
    until(lambda: len(log.events()) == 40)


def test_a_forgotten_producer_gives_up_when_the_log_stays_away() -> None:
    """Forgotten producers do not pile up while the broker is away."""
    log = MemoryLog()
    log.is_away = True
    producer, _ = memory_producer(ProducerSettings(exit_timeout_s=0.1), log=log)
    producer.emit(event())
    del producer
    gc.collect()

    until(
        lambda: "fleetwake-producer" not in [one.name for one in threading.enumerate()]
    )


def test_more_partitions_keep_what_was_queued() -> None:
    """The topic grows while events wait: all arrive, each session in order."""
    log = MemoryLog(partitions=2)
    producer, _ = memory_producer(log=log)
    with producer:
        for number in range(300):
            if number == 150:
                log.is_away, log.partitions[log.topic] = True, 5
            producer.emit(event(f"s-{number % 10}"))
        log.is_away = False
        assert producer.flush(20)

    assert 310 == len(log.events())
    assert {f"s-{number}": 31 for number in range(10)} == {
        session: len(sequences)
        for session, sequences in first_sequences(log.events()).items()
    }


def test_an_outage_is_logged_once_and_its_end_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line per outage, and one when events flow again."""
    caplog.set_level(logging.INFO, "fleetwake.producer")
    log = MemoryLog()
    producer, _ = memory_producer(log=log)
    with producer:
        producer.emit(event())
        assert producer.flush()
        for _ in range(2):
            log.loses_answers = 2
            producer.emit(event())
            assert producer.flush(20)

    lines = [one.message.split(":")[0] for one in caplog.records]
    assert ["delivery", "Delivering again", "delivery", "Delivering again"] == lines


def test_statistics_add_up() -> None:
    """Accepted is acknowledged, queued or dropped."""
    producer, _ = memory_producer()
    with producer:
        for _ in range(100):
            producer.emit(event())
        assert producer.flush()
        statistics = producer.statistics()

    assert (100, 100, 0) == (
        statistics.accepted,
        statistics.acknowledged,
        statistics.queued,
    )
    assert (0, 0.0, True, None) == (
        statistics.queued_bytes,
        statistics.oldest_age_s,
        statistics.connected,
        statistics.last_error,
    )
