"""What a writer refuses and mends, and what each broken frame is told."""

from __future__ import annotations

import enum
import json
import math
from hashlib import sha256

import pytest
from tests.samples import KnownSchemas, datum, event, event_schema

from fleetwake.schemas.codec import (
    MAX_VALUE_BYTES,
    EventEncoder,
    PackagedSchemas,
    Schema,
    confluent_header,
    decode,
    decode_record,
    encode,
    encode_record,
    schema_of,
    single_object_header,
    well_formed,
)
from fleetwake.schemas.errors import (
    DigestMismatchError,
    InvalidEventError,
    MalformedBodyError,
    OversizedFrameError,
    TrailingBytesError,
    TruncatedFrameError,
    UnknownFramingError,
    UnknownSchemaError,
    UnsupportedSchemaError,
)
from fleetwake.schemas.event import REQUIRED_FIELDS, AuditEvent
from fleetwake.schemas.records import Block, Delivery, LoopAlert, SessionFacts, Verdict

PACKAGED = PackagedSchemas()
OURS = single_object_header(schema_of(AuditEvent))
FRAME = encode(event())


# Framings


def test_the_single_object_header_is_the_marker_and_the_fingerprint():
    """As the Avro specification has it, little-endian."""
    assert b"\xc3\x01" + schema_of(AuditEvent).fingerprint == FRAME[:10]


def test_the_confluent_header_is_a_zero_and_the_id():
    """In four big-endian bytes."""
    assert confluent_header(258) == b"\x00\x00\x00\x01\x02"


def test_both_framings_are_read():
    """Side by side in one topic."""
    lookup = KnownSchemas(schema_of(AuditEvent))
    framed = EventEncoder(confluent_header(1))(event())

    assert event() == decode(framed, lookup) == decode(FRAME, lookup)


# Broken frames


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (b"", TruncatedFrameError),
        (b"\xc3", TruncatedFrameError),
        (FRAME[:9], TruncatedFrameError),
        (b"\x00\x00\x00\x00", TruncatedFrameError),
        (b"\xc3\x02" + FRAME[2:], UnknownFramingError),
        (b"Obj\x01", UnknownFramingError),
        (b"{}", UnknownFramingError),
        (b"\xc3\x01" + bytes(8), UnknownSchemaError),
        (confluent_header(7) + b"\x00", UnknownSchemaError),
        (FRAME[:10], MalformedBodyError),
        (FRAME[:-1], MalformedBodyError),
        (FRAME + b"\x00", TrailingBytesError),
        (b"\x00" * (MAX_VALUE_BYTES + 1), OversizedFrameError),
        (single_object_header(schema_of(Verdict)) + b"\x00", UnsupportedSchemaError),
    ],
)
def test_each_broken_frame_has_its_own_error(value, error):
    """Typed, so that a dead letter says what was wrong."""
    with pytest.raises(error):
        decode(value, PACKAGED)


def test_an_unknown_schema_is_named_as_the_lookup_must_ask_for_it():
    """By fingerprint or by id."""
    with pytest.raises(UnknownSchemaError) as by_fingerprint:
        decode(b"\xc3\x01\x01\x02\x03\x04\x05\x06\x07\xff", PACKAGED)
    with pytest.raises(UnknownSchemaError) as by_id:
        decode(confluent_header(258), PACKAGED)

    assert by_fingerprint.value.reference == "fingerprint:01020304050607ff"
    assert by_id.value.reference == "id:258"


def test_a_digest_covers_the_whole_value():
    """A bit flip that decodes is found."""
    flipped = FRAME[:15] + bytes([FRAME[15] ^ 1]) + FRAME[16:]

    assert event() == decode(FRAME, PACKAGED, sha256=sha256(FRAME).digest())
    assert event() != decode(flipped, PACKAGED)
    with pytest.raises(DigestMismatchError):
        decode(flipped, PACKAGED, sha256=sha256(FRAME).digest())


def test_no_error_repeats_content():
    """Errors go to logs and headers of dead letters."""
    secret = encode(event(reason="swordfish"))

    for end in range(11, len(secret)):
        with pytest.raises(MalformedBodyError) as caught:
            decode(secret[:end], PACKAGED)
        assert "swordfish" not in str(caught.value)


# Numbers that no column can hold


@pytest.mark.parametrize(
    ("field", "kind", "value"),
    [
        ("occurred_at", "long", -1),
        ("occurred_at", "long", 2**62),
        ("recorded_at", "long", 253_402_300_800_000_000),
        ("text_repeats", ["null", "long"], 2**31),
        ("fingerprint_version", ["null", "long"], -(2**40)),
    ],
)
def test_a_number_that_its_column_cannot_hold_is_malformed(field, kind, value):
    """Arrow, Python and SQL would each fail on it in their own way."""
    fields = json.loads(schema_of(AuditEvent).text)["fields"]
    wider = [one | {"type": kind} if one["name"] == field else one for one in fields]
    body = datum(event_schema(*wider), event()._asdict() | {field: value})

    with pytest.raises(MalformedBodyError, match=field):
        decode(OURS + body, PACKAGED)


# Evolution


def test_an_older_event_has_the_defaults_of_the_fields_it_lacks():
    """A reader of this version reads every earlier one."""
    schema = event_schema(
        {"name": "session_id", "type": "string"},
        {"name": "sequence", "type": "int"},
    )
    body = datum(schema, {"session_id": "s-9", "sequence": 5})

    assert AuditEvent(session_id="s-9", sequence=5) == decode(
        single_object_header(schema) + body, KnownSchemas(schema)
    )


def test_fields_of_a_newer_event_are_dropped():
    """A reader of this version reads every later one."""
    fields = json.loads(schema_of(AuditEvent).text)["fields"]
    schema = event_schema(
        {"name": "mood", "type": ["null", "string"]},
        *fields,
        {"name": "weight", "type": "double"},
        {"name": "labels", "type": {"type": "map", "values": "string"}},
    )
    body = datum(
        schema,
        event()._asdict() | {"mood": "calm", "weight": 1.0, "labels": {"a": "b"}},
    )

    assert event() == decode(single_object_header(schema) + body, KnownSchemas(schema))


def test_a_null_where_we_have_none_is_malformed():
    """It cannot become an empty text: that would be another event."""
    schema = event_schema({"name": "session_id", "type": ["null", "string"]})
    body = datum(schema, {"session_id": None})

    with pytest.raises(MalformedBodyError):
        decode(single_object_header(schema) + body, KnownSchemas(schema))


RECORD = {"type": "record", "name": "AuditEvent", "namespace": "fleetwake"}
FIELD = {"name": "session_id", "type": "string"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        '"string"',
        "[" * 100_000,
        json.dumps(RECORD),
        json.dumps(RECORD | {"fields": []}),
        json.dumps(RECORD | {"fields": [FIELD, FIELD]}),
        json.dumps(RECORD | {"fields": [FIELD | {"name": "a-b"}]}),
        json.dumps(RECORD | {"fields": [FIELD], "name": "Other"}),
        json.dumps(RECORD | {"fields": [FIELD], "namespace": "elsewhere"}),
        json.dumps(RECORD | {"fields": [FIELD | {"default": 5}]}),
        json.dumps(RECORD | {"fields": [FIELD], "doc": "x" * 300_000}),
        json.dumps(
            RECORD | {"fields": [{"name": f"f{n}", "type": "int"} for n in range(2000)]}
        ),
        *(
            json.dumps(RECORD | {"fields": [{"name": "session_id", "type": kind}]})
            for kind in [
                "null",
                "bytes",
                "float",
                "AuditEvent",
                "long",
                ["string"],
                ["string", "long"],
                ["null", "string", "long"],
                ["null", ["null", "string"]],
                {"type": "fixed", "name": "f", "size": 2**31},
                {"type": "enum", "name": "e", "symbols": ["a"]},
                {"type": "string", "logicalType": "uuid"},
                {"type": "long", "logicalType": "timestamp-millis"},
                {"type": "map", "values": "long"},
                {"type": "array", "items": "null"},
                {"type": "array", "items": RECORD | {"name": "R", "fields": [FIELD]}},
                RECORD | {"name": "R", "fields": [FIELD]},
                {},
                None,
                5,
            ]
        ),
    ],
)
def test_a_hostile_schema_is_refused_before_a_byte_is_read(text):
    """A schema from the network may promise 20 million nulls in five bytes."""
    schema = Schema("from a registry", text, b"12345678")

    with pytest.raises(UnsupportedSchemaError):
        decode(single_object_header(schema) + b"\x02", KnownSchemas(schema))


# Writers


@pytest.mark.parametrize("field", REQUIRED_FIELDS)
def test_an_event_without_a_required_field_is_refused(field):
    """Its default is there for evolution only."""
    with pytest.raises(InvalidEventError) as caught:
        encode(event(**{field: AuditEvent._field_defaults[field]}))

    assert field == caught.value.field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event_type", "tool.completed"),
        ("outcome", "ok"),
        ("severity", "fatal"),
        ("error_kind", "oops"),
        ("digest_basis", "half"),
        ("sequence", -1),
        ("sequence", True),
        ("sequence", 1.0),
        ("sequence", 2**63),
        ("occurred_at", -5),
        ("occurred_at", 253_402_300_800_000_000),
        ("recorded_at", 1.5),
        ("recorded_at", None),
        ("agent_id", 5),
        ("agent_id", b"bytes"),
        ("event_id", None),
        ("input_tokens", 3.7),
        ("input_tokens", True),
        ("input_tokens", 2**70),
        ("text_repeats", 2**31),
        ("duration_ms", True),
        ("duration_ms", "5"),
        ("duration_ms", 10**400),
        ("attributes", None),
        ("attributes", {"a": 1}),
        ("attributes", {1: "a"}),
        ("attributes", {"a": None}),
        ("payload", {"a": 1}),
    ],
)
def test_what_does_not_fit_is_refused_and_its_field_named(field, value):
    """Avro libraries write 3.7 as 3, and True as 1."""
    with pytest.raises(InvalidEventError) as caught:
        encode(event(**{field: value}))

    assert field == caught.value.field


def test_not_a_number_and_infinities_become_null():
    """JSON has none, and one of them spoils every sum."""
    written = event(duration_ms=math.nan, cost_usd=-math.inf)

    assert event() == decode(encode(written), PACKAGED)


def test_an_integer_in_a_column_of_doubles_is_its_value():
    """5 ms are 5.0 ms."""
    assert event(duration_ms=5.0) == decode(encode(event(duration_ms=5)), PACKAGED)


class Word(enum.StrEnum):
    """A text that is not exactly a str."""

    OK = "success"


def test_a_text_of_another_class_is_written():
    """An enum whose members are texts, say."""
    assert event(outcome="success") == decode(encode(event(outcome=Word.OK)), PACKAGED)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\ud800b", "a\ufffdb"),
        ("\udfff", "\ufffd"),
        ("\ud83d\ude00", "\N{GRINNING FACE}"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ufeffé\0", "\ufeffé\0"),
    ],
)
def test_lone_surrogates_become_replacement_characters(text, expected):
    """Wherever they stand; a pair is the character that it stands for."""
    written = event(session_id=f"s{text}", payload=text, attributes={text: text})
    read = decode(encode(written), PACKAGED)

    assert expected == well_formed(text)
    assert (f"s{expected}", expected, {expected: expected}) == (
        read.session_id,
        read.payload,
        read.attributes,
    )


# Other records


def test_a_verdict_keeps_its_blocks():
    """A record in a list is a dataclass again."""
    verdict = Verdict(
        session_id="s-1",
        issued_at=5,
        blocks=(Block(reason="looping", issuer="identical_call", until=9),),
    )

    assert verdict == decode_record(Verdict, encode_record(verdict), PACKAGED)


@pytest.mark.parametrize(
    "record",
    [
        SessionFacts(session_id="s", first_occurred_at=1, last_occurred_at=2**62),
        SessionFacts(
            session_id="s", first_occurred_at=1, last_occurred_at=1, cost_usd=math.nan
        ),
        Delivery(
            delivery_id="d", alert_id="a", sink="s", outcome="o", attempted_at=True
        ),
        Verdict(session_id="s", issued_at=1, blocks=(Block(reason=5, issuer="i"),)),
    ],
)
def test_a_record_that_does_not_fit_is_refused(record):
    """As an event would be."""
    with pytest.raises(InvalidEventError):
        encode_record(record)


def test_a_frame_of_another_record_is_refused():
    """An alert is not a verdict, whatever its bytes would make."""
    verdict = encode_record(Verdict(session_id="s-1", issued_at=5))

    with pytest.raises(UnsupportedSchemaError):
        decode_record(LoopAlert, verdict, PACKAGED)


def test_a_list_that_promises_more_than_it_holds_is_malformed():
    """It ends where the body ends, not at the count."""
    frame = encode_record(Verdict(session_id="s-1", issued_at=5))

    with pytest.raises(MalformedBodyError):
        decode_record(Verdict, frame[:-1] + b"\xfe\xff\xff\xff\x0f", PACKAGED)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "record", "name": "Block", "fields": []},
        {"type": "record", "name": "Verdict", "fields": [FIELD]},
        {"type": "record", "name": "Block", "fields": [FIELD | {"type": "null"}]},
        "null",
    ],
)
def test_a_hostile_list_is_refused_before_a_byte_is_read(block):
    """Items that take no bytes would make a bomb of a count."""
    kind = {"type": "array", "items": block}
    fields = [{"name": "blocks", "type": kind, "default": []}]
    text = json.dumps(RECORD | {"name": "Verdict", "fields": fields})
    schema = Schema("from a registry", text, b"12345678")
    bomb = single_object_header(schema) + b"\xfe\xff\xff\xff\x0f\x00"

    with pytest.raises(UnsupportedSchemaError):
        decode_record(Verdict, bomb, KnownSchemas(schema))
