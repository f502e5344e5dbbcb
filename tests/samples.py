"""Events, foreign writers' schemas and broken frames, for the tests of schemas."""

from __future__ import annotations

import json
import math
from collections import OrderedDict, UserDict
from io import BytesIO
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import fastavro
from hypothesis import strategies as st

from fleetwake.schemas.checks import MAX_TIME_US
from fleetwake.schemas.codec import EVENT_COLUMNS, PackagedSchemas, Schema
from fleetwake.schemas.event import (
    DIGEST_BASES,
    ERROR_KINDS,
    EVENT_TYPES,
    OUTCOMES,
    SEVERITIES,
    AuditEvent,
)
from fleetwake.schemas.text import well_formed

if TYPE_CHECKING:
    from random import Random

ANY_CHARACTER = st.characters(
    categories=["L", "M", "N", "P", "S", "Z", "Cc", "Cf", "Co", "Cn", "Cs"]
)
TEXT = st.text(ANY_CHARACTER, max_size=20)
VALUES = {
    "string": TEXT,
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "time": st.integers(1, MAX_TIME_US),
    "double": st.floats(),
    "map": st.dictionaries(TEXT, TEXT, max_size=4),
}
CLOSED = {
    "event_type": st.sampled_from(sorted(EVENT_TYPES)),
    "severity": st.sampled_from(SEVERITIES),
    "outcome": st.sampled_from(sorted(OUTCOMES)),
    "error_kind": st.sampled_from(sorted(ERROR_KINDS)),
    "digest_basis": st.sampled_from(sorted(DIGEST_BASES)),
}


class Text(str):
    """Not exactly a str."""

    __slots__ = ()


class Number(int):
    """Not exactly an int."""


ANYTHING = [
    None,
    "",
    "success",
    "a\ud800",
    "\ud83d\ude00",
    "x" * 600,
    Text("success"),
    Text("\udfff"),
    b"bytes",
    bytearray(b"bytes"),
    *(sign * 2**bits for bits in (0, 9, 31, 53, 62, 63, 64) for sign in (1, -1)),
    *(2**bits - 1 for bits in (0, 9, 31, 63, 64)),
    10**5000,
    Number(5),
    True,
    False,
    0.0,
    -0.0,
    3.7,
    math.nan,
    math.inf,
    5e-324,
    1 + 1j,
    [],
    ["a"],
    {},
    {"a": "b"},
    {"a": "\ud800", "a\ud800": ""},
    {"a": 1},
    {"a": None},
    {1: "a"},
    {"a": Text("b")},
    MappingProxyType({"a": "b"}),
    MappingProxyType(OrderedDict(a="b", c="d")),
    MappingProxyType(UserDict({"a": "b", "c": 1})),
    OrderedDict(a="b"),
    UserDict({"a": "b"}),
    object(),
    str,
]
"""What a careless adapter may put into a field."""


def event(**fields: Any) -> AuditEvent:
    """An event that may be written."""
    return AuditEvent(
        **{
            "event_id": "0190a1b2-0000-7000-8000-000000000001",
            "source": "native",
            "source_event_type": "tool.complete",
            "event_type": "tool.complete",
            "occurred_at": 1_790_000_000_000_000,
            "recorded_at": 1_790_000_000_000_001,
            "session_id": "s-1",
            "producer_id": "p-1",
            "sequence": 1,
        }
        | fields
    )


def events() -> st.SearchStrategy[AuditEvent]:
    """Events that may be written, each with some of the optional fields."""
    fields = {c.name: CLOSED.get(c.name, VALUES[c.kind]) for c in EVENT_COLUMNS}
    required = {
        "event_id": TEXT.filter(bool),
        "session_id": TEXT.filter(bool),
        "event_type": fields["event_type"],
        "occurred_at": fields["occurred_at"],
        "sequence": st.integers(1, 2**63 - 1),
        "attributes": st.one_of(
            fields["attributes"], fields["attributes"].map(MappingProxyType)
        ),
    }
    optional = {
        c.name: fields[c.name]
        for c in EVENT_COLUMNS
        if c.nullable or c.name in {"severity", "outcome"}
    }
    return st.fixed_dictionaries(required, optional=optional).map(
        lambda drawn: event(**drawn)
    )


def mended(value: AuditEvent) -> AuditEvent:
    """What a reader gets of an event that was written."""
    return AuditEvent._make(map(_mended, value))


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if hasattr(value, "items"):
        return {well_formed(k): well_formed(v) for k, v in value.items()}
    return value


# Foreign writers


class KnownSchemas(PackagedSchemas):
    """The packaged schemas, and those that the test adds; ids count from 1."""

    def __init__(self, *schemas: Schema) -> None:
        super().__init__()
        self._added = {schema.fingerprint: schema for schema in schemas}
        self._numbered = dict(enumerate(schemas, 1))

    def by_fingerprint(self, fingerprint: bytes, /) -> Schema | None:
        return self._added.get(fingerprint) or super().by_fingerprint(fingerprint)

    def by_id(self, schema_id: int, /) -> Schema | None:
        return self._numbered.get(schema_id)


def event_schema(*fields: dict[str, Any]) -> Schema:
    """A schema of events with these fields."""
    record = {"type": "record", "name": "AuditEvent", "namespace": "fleetwake"}
    return Schema.parse(json.dumps(record | {"fields": list(fields)}))


def datum(schema: Schema, values: dict[str, Any]) -> bytes:
    """The body as a writer of that schema makes it."""
    out = BytesIO()
    parsed = fastavro.parse_schema(json.loads(schema.text))
    fastavro.schemaless_writer(out, parsed, values)
    return out.getvalue()


NARROWER = {"long": ["long", "int"], "double": ["double", "long", "int"]}
TIME = {"type": "long", "logicalType": "timestamp-micros"}
MAP = {"type": "map", "values": "string"}
NOT_NULLABLE = {column.name for column in EVENT_COLUMNS if not column.nullable}


def foreign_schema(random: Random) -> Schema:
    """A version of the event apart from ours, that we must be able to read."""
    fields = []
    for column in EVENT_COLUMNS:
        kinds = {"time": ["long", TIME], "map": [MAP]} | NARROWER
        kind = random.choice(kinds.get(column.kind, [column.kind]))
        if random.random() < (0.6 if column.nullable else 0.03):
            kind = random.choice([["null", kind], [kind, "null"]])
        if random.random() < 0.8:
            fields.append({"name": column.name, "type": kind})
    for number in range(random.randrange(4)):
        kind = random.choice(["string", "int", "long", "double", "boolean", TIME, MAP])
        kind = random.choice([kind, ["null", kind], [kind, "null"]])
        new = {"name": f"new_{number}", "type": kind}
        fields.insert(random.randrange(len(fields) + 1), new)
    return event_schema(*fields)


def foreign_datum(random: Random, schema: Schema) -> dict[str, Any]:
    """Values for all fields of the schema; seldom one that no column can hold."""
    values = {}
    for field in json.loads(schema.text)["fields"]:
        kind, name = field["type"], field["name"]
        if isinstance(kind, list):
            if random.random() < (0.05 if name in NOT_NULLABLE else 0.3):
                values[name] = None
                continue
            kind = next(branch for branch in kind if branch != "null")
        values[name] = _value(random, "time" if kind == TIME else kind, name)
    return values


def _value(random: Random, kind: Any, name: str) -> Any:
    if kind == MAP:
        return {_text(random): _text(random) for _ in range(random.randrange(4))}
    if name in {"occurred_at", "recorded_at"}:
        return random.choice([0, MAX_TIME_US, random.randrange(2**50)])
    return random.choice(
        {
            "string": ["", "a", "é☃𝄞", "\0", "x" * 70, "\U0010ffff"],
            "boolean": [True, False],
            "double": [0.0, -1.5, 1e300, math.nan, math.inf],
            "int": [0, 1, -(2**31), 2**31 - 1],
            "long": [0, -1, 2**53 - 1, 2**40],
            "time": [0, 1, -1],
        }[kind]
    )


def _text(random: Random) -> str:
    return random.choice(["", "a", "b", "é☃𝄞", "x" * 70])


# Broken frames


def broken(random: Random, frame: bytes) -> bytes:
    """The frame with one thing wrong, which does not always show."""
    at = random.randrange(len(frame))
    head, tail = frame[:at], frame[at:]
    return random.choice(
        [
            head,
            frame + random.randbytes(random.randrange(1, 12)),
            head + bytes([frame[at] ^ 1 << random.randrange(8)]) + tail[1:],
            head + varint(random.choice(HOSTILE_LONGS)) + tail,
            head + varint(random.choice(HOSTILE_LONGS)) + tail[1:],
            head + tail[random.randrange(1, 4) :],
            random.randbytes(random.randrange(40)),
        ]
    )


HOSTILE_LONGS = [0, -1, -2, 1, 10**6, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63)]


def varint(number: int) -> bytes:
    """A long as Avro writes it."""
    zigzag = (number << 1 ^ number >> 63) & (2**64 - 1)
    out = bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes([*out, zigzag])
