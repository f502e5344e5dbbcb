"""Dead letters go by the way of events, and never stand in their way."""

from __future__ import annotations

from typing import Any

import pytest
from tests.producing import event, until

from fleetwake.producer.dead_letter import DeadLetter
from fleetwake.producer.settings import KafkaSettings, ProducerSettings
from fleetwake.producer.testing import MemoryLog, memory_producer
from fleetwake.schemas.errors import FleetwakeError, InvalidEventError
from fleetwake.schemas.topics import DEAD_LETTERS

LETTER = DeadLetter(
    b'{"half', "not_json", "ends at character 6", {"file": "a.jsonl", "line": "7"}, "s"
)
TOPIC = KafkaSettings().topic(DEAD_LETTERS)


@pytest.fixture(params=["spool", "memory"])
def settings(request: pytest.FixtureRequest) -> ProducerSettings:
    return ProducerSettings(durability=request.param)


def test_a_dead_letter_arrives_with_its_reason_and_origin(
    settings: ProducerSettings,
) -> None:
    """Its bytes, its key, and in headers why and from where."""
    producer, log = memory_producer(settings)
    with producer:
        producer.reject(LETTER)
        assert producer.flush(20)

    (record,) = log.records(TOPIC)
    assert (b"s", b'{"half') == record[:2]
    assert {
        "fleetwake-reason": b"not_json",
        "fleetwake-error": b"ends at character 6",
        "fleetwake-origin-file": b"a.jsonl",
        "fleetwake-origin-line": b"7",
    } == dict(record.headers)
    assert (1, 1) == (
        producer.statistics().accepted,
        producer.statistics().acknowledged,
    )


def test_a_missing_topic_does_not_hold_up_events(
    settings: ProducerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events flow; dead letters wait for their topic, and come when it is there."""
    monkeypatch.setattr("fleetwake.producer.delivery._LETTERS_AGAIN_S", 0.05)
    log = MemoryLog()
    partitions = log.partitions.pop(TOPIC)
    producer, _ = memory_producer(settings, log=log)
    with producer:
        for _ in range(10):
            producer.reject(LETTER)
            producer.emit(event())
        until(lambda: len(log.events()) == 10)
        assert not producer.flush(0.1)
        until(lambda: producer.statistics().errors.get("dead_letters"))
        log.partitions[TOPIC] = partitions
        assert producer.flush(20)

    assert 10 == len(log.records(TOPIC))
    assert {} == producer.statistics().dropped


def test_letters_for_a_missing_topic_are_bounded(
    settings: ProducerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is beyond the bound is dropped and counted; events go on."""
    monkeypatch.setattr("fleetwake.producer.lanes._MAX_LETTERS_BYTES", 1_000)
    log = MemoryLog()
    log.partitions.pop(TOPIC)
    producer, _ = memory_producer(settings, log=log)
    for _ in range(50):
        producer.reject(LETTER)
        producer.emit(event())
    until(lambda: len(log.events()) == 50)
    until(lambda: producer.statistics().dropped.get("letters_full", 0) > 30)
    assert not producer.close(0.3)

    statistics = producer.statistics()
    kept = statistics.spooled if settings.durability == "spool" else 0
    assert statistics.accepted == (
        statistics.acknowledged + sum(statistics.dropped.values()) + kept
    )


def test_a_refused_letter_is_dropped_alone(settings: ProducerSettings) -> None:
    """One that the broker refuses costs neither other letters nor events."""
    log = MemoryLog()
    log.refuses = lambda record: b"poison" in record.value
    producer, _ = memory_producer(settings, log=log)
    with producer:
        for number in range(20):
            poison = number in {3, 17}
            producer.reject(LETTER._replace(value=b"poison" if poison else b"x"))
            producer.emit(event())
        assert producer.flush(20)

    assert {"refused": 2} == producer.statistics().dropped
    assert 18 == len({id(one) for one in log.records(TOPIC)})
    assert 21 == len(log.events())


def test_a_secret_in_a_letter_does_not_leave(settings: ProducerSettings) -> None:
    """Dead letters are redacted as events are."""
    producer, log = memory_producer(settings)
    with producer:
        producer.reject(LETTER._replace(value=b'{"password": "hunter2hunter2"'))
        assert producer.flush(20)

    log.assert_no_secrets("hunter2hunter2")
    assert 1 == len(log.records(TOPIC))


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        b"bytes",
        LETTER._replace(value="text"),
        LETTER._replace(reason=7),
        LETTER._replace(origin={"line": 7}),
        LETTER._replace(origin=None),
        LETTER._replace(key=None),
    ],
    ids=range(7),
)
def test_reject_never_raises(wrong: Any) -> None:
    """What is no dead letter is counted; strict raises."""
    producer, _ = memory_producer(strict=False)
    with producer:
        producer.reject(wrong)

        assert 1 == producer.statistics().invalid
    strict, _ = memory_producer()
    with strict, pytest.raises((InvalidEventError, TypeError)):
        strict.reject(wrong)


def test_a_closed_producer_takes_no_letters() -> None:
    """Counted, as events are."""
    producer, _ = memory_producer(strict=False)
    producer.close()
    producer.reject(LETTER)

    assert {"closed": 1} == producer.statistics().dropped
    strict, _ = memory_producer()
    strict.close()
    with pytest.raises(FleetwakeError, match="closed"):
        strict.reject(LETTER)
