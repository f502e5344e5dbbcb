"""The border for JSON lines: strict, but for what JSON lacks."""

from __future__ import annotations

import json
import math

import pytest
from tests.samples import event

from fleetwake.schemas.errors import InvalidEventError
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.models import EventModel, parse_event, to_json


def line(**fields):
    """A line of JSON with what is required."""
    return json.dumps({"event_type": "tool.complete", "session_id": "s-1"} | fields)


def test_what_a_producer_stamps_may_be_left_out():
    """The event has its defaults then."""
    expected = AuditEvent(event_type="tool.complete", session_id="s-1")

    assert expected == parse_event(line())


def test_bytes_are_read_as_utf_8():
    """A line of a file."""
    assert "é" == parse_event(line(reason="é").encode()).reason


@pytest.mark.parametrize(
    ("given", "digest"),
    [
        ("7fffffffffffffff", 2**63 - 1),
        ("FFFFFFFFFFFFFFFF", -1),
        ("8000000000000000", -(2**63)),
        (-5, -5),
    ],
)
def test_a_digest_is_sixteen_hex_digits_or_an_integer(given, digest):
    """Signed, as in Avro."""
    assert digest == parse_event(line(arguments_digest=given)).arguments_digest


def test_digests_are_written_as_sixteen_hex_digits():
    """JSON readers would round them."""
    written = json.loads(to_json(event(text_digest=-1, outcome_digest=1)))

    assert ("f" * 16, "0" * 15 + "1") == (
        written["text_digest"],
        written["outcome_digest"],
    )


@pytest.mark.parametrize(
    ("given", "micros"),
    [
        (5, 5),
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1970-01-01T02:00:00.000001+02:00", 1),
        ("1970-01-01 00:00:00.1234567z", 123_456),
        ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
    ],
)
def test_a_time_is_microseconds_or_rfc_3339(given, micros):
    """With a zone: without one it means another hour on each machine."""
    assert micros == parse_event(line(occurred_at=given)).occurred_at


@pytest.mark.parametrize(
    ("given", "payload"),
    [
        ('{"a": 1}', '{"a": 1}'),
        ({"a": [1, None], "b": "\ud800"}, '{"a":[1,null],"b":"\\ud800"}'),
        ({"n": 2**70}, '{"n":1180591620717411303424}'),
        ({"n": math.nan, "i": -math.inf}, '{"n":"NaN","i":"-Infinity"}'),
        (False, "false"),
        (None, None),
    ],
)
def test_a_payload_is_text_or_any_json(given, payload):
    """It becomes valid JSON text."""
    assert payload == parse_event(line(payload=given)).payload


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "null"])
def test_a_number_that_json_lacks_is_null(number):
    """As the encoder makes it."""
    read = parse_event(
        line(cost_usd=0).replace('"cost_usd": 0', f'"cost_usd": {number}')
    )

    assert read.cost_usd is None


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "event"),
        ("{", "event"),
        ("[1]", "event"),
        ("[" * 100_000, "event"),
        (b"\xff\xfe\xfd", "event"),
        ("{}", "event_type"),
        (line(session_id=""), "session_id"),
        (line(session_id=None), "session_id"),
        (line(event_type="tool.completed"), "event_type"),
        (line(outcome="ok"), "outcome"),
        (line(severity=None), "severity"),
        (line(sequence="1"), "sequence"),
        (line(sequence=1.0), "sequence"),
        (line(sequence=True), "sequence"),
        (line(sequence=2**63), "sequence"),
        (line(text_repeats=2**31), "text_repeats"),
        (line(occurred_at=-1), "occurred_at"),
        (line(occurred_at="2026-01-01T00:00:00"), "occurred_at"),
        (line(occurred_at="2026-02-30T00:00:00Z"), "occurred_at"),
        (line(occurred_at="1969-12-31T23:59:59Z"), "occurred_at"),
        (line(occurred_at="yesterday"), "occurred_at"),
        (line(occurred_at=1.5), "occurred_at"),
        (line(text_digest="abc"), "text_digest"),
        (line(text_digest=2**63), "text_digest"),
        (line(duration_ms="5"), "duration_ms"),
        (line(attributes={"a": 1}), "attributes.a"),
        (line(attributes=[]), "attributes"),
        (line(agent_id=5), "agent_id"),
        (line(agent="x"), "agent"),
    ],
)
def test_what_is_no_event_is_refused_and_its_field_named(text, field):
    """Nothing is coerced, no name is guessed."""
    with pytest.raises(InvalidEventError) as caught:
        parse_event(text)

    assert field == caught.value.field


def test_an_error_does_not_repeat_the_value():
    """It may be content."""
    with pytest.raises(InvalidEventError) as caught:
        parse_event(line(duration_ms="swordfish"))

    assert "swordfish" not in str(caught.value)


def test_the_model_has_a_json_schema():
    """For who checks lines in another language."""
    schema = EventModel.model_json_schema()

    assert list(AuditEvent._fields) == list(schema["properties"])
    assert {"event_type", "session_id"} == set(schema["required"])
