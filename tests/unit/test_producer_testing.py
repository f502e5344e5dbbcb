"""The assertions that users' own tests are made of."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from tests import samples
from tests.producing import event

from fleetwake.producer.dead_letter import DeadLetter
from fleetwake.producer.testing import MemoryLog, memory_producer
from fleetwake.producer.transport import OutgoingRecord
from fleetwake.schemas.codec import SHA256_HEADER, encode

if TYPE_CHECKING:
    from fleetwake.schemas.event import AuditEvent


def log_of(*events: AuditEvent) -> MemoryLog:
    """A log with these events, as a faulty producer might have written them."""
    log = MemoryLog()
    for one in events:
        value = encode(one)
        digest = [(SHA256_HEADER, sha256(value).digest())]
        log.append(
            log.topic, 0, [OutgoingRecord(one.session_id.encode(), value, digest)]
        )
    return log


def test_an_event_is_found_by_any_fields() -> None:
    """And returned, for further questions."""
    producer, log = memory_producer()
    with producer:
        producer.emit(event(tool_name="look"))
        producer.emit(event(tool_name="find", outcome="failure"))

    assert "find" == log.assert_event(outcome="failure", session_id="s-1").tool_name
    log.assert_event(event_type="producer.close")


def test_what_is_not_found_is_told_by_what_comes_nearest() -> None:
    """The nearest first, with the fields that differ."""
    log = log_of(
        samples.event(tool_name="find", outcome="failure"),
        samples.event(tool_name="look"),
    )

    with pytest.raises(AssertionError) as caught:
        log.assert_event(tool_name="look", outcome="success")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("none of 2 events has {'tool_name': 'look'")
    assert "  tool.complete of s-1: {'outcome': 'unknown'}" == lines[1]


def test_a_misspelt_field_is_an_error() -> None:
    """Not an event that is not there."""
    with pytest.raises(ValueError, match="sesion_id"):
        MemoryLog().assert_event(sesion_id="s-1")


@pytest.mark.parametrize("sequences", [[1, 3], [1, 1], [2, 1], [2]])
def test_a_gap_or_a_duplicate_is_found(sequences: list[int]) -> None:
    """In any session of any producer."""
    good = [samples.event(sequence=number) for number in (1, 2, 3)]
    log_of(*good).assert_sequences()
    bad = [
        samples.event(producer_id="p-2", session_id="bad", sequence=number)
        for number in sequences
    ]

    with pytest.raises(AssertionError, match=r"'bad' of producer p-2 has .*\["):
        log_of(*good, *bad).assert_sequences()


@pytest.mark.parametrize(
    "field", ["payload", "session_id", "reason", "agent_id", "attributes"]
)
def test_a_secret_is_found_wherever_it_stands(field: str) -> None:
    """And not quoted."""
    text = 'hunter"2'
    value = {"key": text} if field == "attributes" else f"my {text}!"
    log = log_of(samples.event(), samples.event(**{field: value}))

    log.assert_no_secrets("other")
    with pytest.raises(AssertionError, match="text 1 of 2 is in record 1") as caught:
        log.assert_no_secrets("other", text)
    assert field == "session_id" or "hunter" not in str(caught.value)


@pytest.mark.parametrize("payload", ['{"a":"x\\"y"}', '{"a":"{\\"b\\":\\"x\\\\\\"y"}'])
def test_a_secret_is_found_in_json(payload: str) -> None:
    """Escaped as it is there."""
    with pytest.raises(AssertionError):
        log_of(samples.event(payload=payload)).assert_no_secrets('x"y')


def test_dead_letters_are_read_back() -> None:
    """With their reason, origin and key."""
    log = MemoryLog()
    headers = [
        ("fleetwake-reason", b"not_json"),
        ("fleetwake-error", b"line 3 is no JSON"),
        ("fleetwake-origin-line", b"3"),
    ]
    (topic,) = (name for name in log.partitions if name.endswith("dead-letters"))
    log.append(topic, 1, [OutgoingRecord(b"s-1", b"{", headers)])

    assert [
        DeadLetter(b"{", "not_json", "line 3 is no JSON", {"line": "3"}, "s-1")
    ] == log.dead_letters()
