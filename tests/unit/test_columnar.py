"""What a batch is, and that nothing slips past the guard around pyruhvro."""

from __future__ import annotations

import json
from hashlib import sha256

import pyarrow as pa
import pytest
from tests.samples import KnownSchemas, datum, event, event_schema, varint

from fleetwake.schemas import guarded
from fleetwake.schemas.arrow import to_arrow
from fleetwake.schemas.codec import (
    MAX_VALUE_BYTES,
    EventEncoder,
    PackagedSchemas,
    Schema,
    confluent_header,
    decode,
    encode,
    schema_of,
    single_object_header,
)
from fleetwake.schemas.columnar import EVENT_SCHEMA, decode_batch
from fleetwake.schemas.errors import (
    DigestMismatchError,
    MalformedBodyError,
    OversizedFrameError,
    TombstoneError,
    TrailingBytesError,
    TruncatedFrameError,
    UnknownFramingError,
    UnknownSchemaError,
    UnsupportedSchemaError,
)
from fleetwake.schemas.event import AuditEvent

PACKAGED = PackagedSchemas()
OURS = single_object_header(schema_of(AuditEvent))
FRAME = encode(event())


@pytest.fixture(params=["pyruhvro", "fastavro"], autouse=True)
def _way(request, monkeypatch):
    """Each test runs both ways."""
    if request.param == "fastavro":
        monkeypatch.setattr(guarded, "IS_INSTALLED", False)
    elif not guarded.IS_INSTALLED:
        pytest.skip("needs the extra `fast`")


def frames(count):
    """Frames of events that differ."""
    return [
        encode(event(sequence=n + 1, attributes={"n": str(n), "m": "x"}))
        for n in range(count)
    ]


def errors(decoded):
    """The rows that are invalid, and how."""
    return [(row, type(error)) for row, error in decoded.invalid]


def test_the_columns_are_the_fields_of_the_event():
    """Strings, UTC microseconds and a map of strings, in the order of the schema."""
    kinds = {str(kind) for kind in EVENT_SCHEMA.types}

    assert list(AuditEvent._fields) == EVENT_SCHEMA.names
    assert pa.timestamp("us", tz="UTC") == EVENT_SCHEMA.field("occurred_at").type
    assert pa.map_(pa.string(), pa.string()) == EVENT_SCHEMA.field("attributes").type
    assert kinds == {
        "string",
        "int32",
        "int64",
        "double",
        "timestamp[us, tz=UTC]",
        "map<string, string>",
    }


@pytest.mark.parametrize("values", [[], [None, b"", b"{}"]])
def test_a_batch_of_no_events_has_all_columns_and_no_rows(values):
    """A service needs no special case for it."""
    decoded = decode_batch(values, PACKAGED)

    assert (
        decoded.events.num_rows,
        decoded.events.schema,
        decoded.rows,
    ) == (0, EVENT_SCHEMA, [])
    assert len(values) == len(decoded.invalid)


def test_each_row_names_its_value_and_each_other_its_error():
    """Rows and errors stand in the order of the values."""
    good = frames(3)
    values = [
        good[0],
        None,
        b"",
        good[1],
        b"{}",
        FRAME[:-1],
        FRAME + b"\0",
        b"\xc3\x01" + bytes(8),
        b"\0" * (MAX_VALUE_BYTES + 1),
        good[2],
        FRAME,
    ]
    digests = [None] * 10 + [bytes(32)]
    decoded = decode_batch(values, PACKAGED, digests=digests)

    assert decoded.rows == [0, 3, 9]
    assert to_arrow([decode(one, PACKAGED) for one in good]).equals(decoded.events)
    assert [
        (1, TombstoneError),
        (2, TruncatedFrameError),
        (4, UnknownFramingError),
        (5, MalformedBodyError),
        (6, TrailingBytesError),
        (7, UnknownSchemaError),
        (8, OversizedFrameError),
        (10, DigestMismatchError),
    ] == errors(decoded)


def test_framings_and_versions_may_be_mixed():
    """Producers are upgraded one after the other."""
    older = event_schema(
        {"name": "session_id", "type": "string"},
        {"name": "sequence", "type": "int"},
        {"name": "duration_ms", "type": "int"},
    )
    newer = event_schema(
        *json.loads(schema_of(AuditEvent).text)["fields"],
        {"name": "mood", "type": ["null", "string"]},
    )
    lookup = KnownSchemas(schema_of(AuditEvent), older, newer)
    old = datum(older, {"session_id": "s", "sequence": 3, "duration_ms": 7})
    new = datum(newer, event(sequence=4)._asdict() | {"mood": "calm"})
    values = [
        confluent_header(2) + old,
        FRAME,
        confluent_header(3) + new,
        single_object_header(older) + old,
        EventEncoder(confluent_header(1))(event(sequence=5)),
        single_object_header(newer) + new,
    ]
    decoded = decode_batch(values, lookup, digests=[sha256(v).digest() for v in values])

    assert decoded.invalid == []
    assert decoded.events["sequence"].to_pylist() == [3, 1, 4, 3, 5, 4]
    assert decoded.events["duration_ms"].to_pylist() == [
        7.0,
        None,
        None,
        7.0,
        None,
        None,
    ]
    assert to_arrow([decode(v, lookup) for v in values]).equals(decoded.events)


def test_one_bad_record_spoils_no_other():
    """Wherever it stands among thousands."""
    values = frames(500)
    for place in (0, 17, 250, 499):
        values[place] = values[place][:-2]
    decoded = decode_batch(values, PACKAGED)

    assert [row for row, _ in decoded.invalid] == [0, 17, 250, 499]
    assert [n + 1 for n in decoded.rows] == decoded.events["sequence"].to_pylist()


# What pyruhvro takes, and `decode` does not


def wider(field, kind, value):
    """A frame that says to be ours, with a number that is too large for the column."""
    fields = json.loads(schema_of(AuditEvent).text)["fields"]
    schema = event_schema(
        *(one | {"type": kind} if one["name"] == field else one for one in fields)
    )
    return OURS + datum(schema, event()._asdict() | {field: value})


@pytest.mark.parametrize(
    "value",
    [
        encode(event(reason="swordfish")).replace(b"swordfish", b"sword\xffish"),
        encode(event(reason="swordfish")).replace(b"swordfish", b"sword\xed\xa0\x80h"),
        encode(event(attributes={"fish": "a"})).replace(b"fish", b"f\xc0\xafs"),
        wider("occurred_at", "long", 2**62),
        wider("recorded_at", "long", -1),
        wider("text_repeats", ["null", "long"], 2**32 + 1),
        wider("fingerprint_version", ["null", "long"], -(2**31) - 1),
        FRAME + b"\0",
        FRAME + FRAME[10:],
        FRAME[:-1],
        FRAME[:-1] + b"\x04",
        OURS,
    ],
)
def test_what_decode_refuses_is_refused_in_a_batch(value):
    """Bad UTF-8, numbers that its reader would cut, wrong lengths."""
    with pytest.raises((MalformedBodyError, TrailingBytesError)) as caught:
        decode(value, PACKAGED)
    decoded = decode_batch([FRAME, value, FRAME], PACKAGED)

    assert decoded.rows == [0, 2]
    assert [(1, str(caught.value))] == [(at, str(e)) for at, e in decoded.invalid]


def test_of_a_key_that_a_map_holds_twice_the_last_wins():
    """As in every dict; the other records are no slower for it."""
    twice = encode(event(attributes={"fish": "a", "dish": "b"})).replace(
        b"fish", b"dish"
    )
    decoded = decode_batch([FRAME, twice], PACKAGED)

    assert decoded.events["attributes"].to_pylist() == [[], [("dish", "b")]]


def test_a_map_in_several_blocks_is_one_map():
    """Some writers cut maps, and say how long each block is."""
    schema = event_schema(
        {"name": "attributes", "type": {"type": "map", "values": "string"}}
    )
    entry = [b"\x02" + key + b"\x02" + key for key in (b"a", b"b", b"c")]
    block = b"".join(entry[:2])
    body = b"\x03" + varint(len(block)) + block + b"\x02" + entry[2] + b"\x00"
    decoded = decode_batch([single_object_header(schema) + body], KnownSchemas(schema))

    assert decoded.events["attributes"].to_pylist() == [
        [("a", "a"), ("b", "b"), ("c", "c")]
    ]


def test_a_number_in_more_bytes_than_it_needs_is_that_number():
    """Avro does not forbid it."""
    schema = event_schema({"name": "sequence", "type": "long"})
    padded = b"\x8a" + b"\x80" * 5 + b"\x00"
    decoded = decode_batch(
        [single_object_header(schema) + padded], KnownSchemas(schema)
    )

    assert decoded.events["sequence"].to_pylist() == [5]


def test_not_a_number_and_infinities_are_null():
    """From writers that are not ours, too."""
    schema = event_schema({"name": "cost_usd", "type": "double"})
    header = single_object_header(schema)
    values = [
        header + datum(schema, {"cost_usd": cost})
        for cost in (float("nan"), 1.5, float("inf"), -float("inf"))
    ]
    decoded = decode_batch(values, KnownSchemas(schema))

    assert decoded.events["cost_usd"].to_pylist() == [None, 1.5, None, None]


def test_a_hostile_schema_is_every_record_s_error():
    """The batch goes on."""
    text = json.dumps({"type": "record", "name": "fleetwake.AuditEvent", "fields": []})
    schema = Schema("from a registry", text, b"12345678")
    decoded = decode_batch(
        [single_object_header(schema) + b"\x02", FRAME], KnownSchemas(schema)
    )

    assert [(0, UnsupportedSchemaError)] == errors(decoded)
    assert decoded.rows == [1]
