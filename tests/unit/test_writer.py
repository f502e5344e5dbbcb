"""What the fast writer takes, and what it leaves to fastavro."""

from __future__ import annotations

import gc
import math
import random
from types import MappingProxyType

import pytest
from tests.samples import datum, event

from fleetwake.schemas import writer
from fleetwake.schemas.checks import MAX_TIME_US, own_schema
from fleetwake.schemas.codec import schema_of
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.layout import columns
from fleetwake.schemas.writer import event_body

TAKEN = [
    {},
    {"duration_ms": -0.0, "cost_usd": 5e-324},
    {"duration_ms": 1.7976931348623157e308},
    {"sequence": 2**63 - 1, "occurred_at": 1, "recorded_at": MAX_TIME_US},
    {"text_repeats": 2**31 - 1, "fingerprint_version": -(2**31)},
    {"agent_id": "", "session_id": "\0é☃\U0010ffff"},
    {"attributes": {"": "", "é": "x" * 600}},
    {"attributes": MappingProxyType({str(n): "v" for n in range(600)})},
    *({"arguments_digest": sign * 2**bits} for bits in range(63) for sign in (1, -1)),
    *({"input_tokens": number} for number in (-(2**63), -1, 0, 511, 512)),
    *({"payload": "x" * length} for length in (0, 63, 64, 511, 512, 8191, 8192)),
]


@pytest.mark.parametrize("fields", TAKEN)
def test_it_writes_what_fastavro_writes(fields):
    """To the byte, at each length and size where the encoding changes."""
    written = event(**fields)

    assert datum(schema_of(AuditEvent), written._asdict()) == event_body(written)


class Text(str):
    """A text whose encode() could say anything."""

    __slots__ = ()


@pytest.mark.parametrize(
    "fields",
    [
        {"duration_ms": math.nan},
        {"cost_usd": math.inf},
        {"duration_ms": 2**1024},
        {"text_repeats": 2**31},
        {"fingerprint_version": -(2**31) - 1},
        {"input_tokens": 2**63},
        {"sequence": 2**63},
        {"sequence": True},
        {"outcome": "ok"},
        {"event_id": ""},
        {"agent_id": Text("a")},
        {"agent_id": "\ud800"},
        {"attributes": {"a": "\udfff"}},
        {"attributes": {"a": 1}},
        {"attributes": {"a": Text("b")}},
        {"attributes": None},
    ],
)
def test_it_leaves_what_it_is_not_sure_of(fields):
    """To be mended or refused where that is told in one place."""
    assert event_body(event(**fields)) is None


class Shapeless(type):
    """Types that cannot be told apart."""

    __hash__ = None


class Nothing(metaclass=Shapeless):
    """No value of any column."""


def test_a_type_without_a_hash_is_left_too():
    """Whatever an agent puts where a number should stand."""
    assert event_body(event(input_tokens=Nothing())) is None


def test_it_keeps_as_much_however_many_shapes_events_have():
    """One table a column, and a bounded number of plans."""
    names = [one.name for one in columns(own_schema("AuditEvent")) if one.nullable]
    names = [name for name in names if name.endswith(("_id", "_name", "_type"))]
    rng = random.Random(3)
    for nth in range(3 * writer._KEPT_PLANS):
        shape = {name: f"{nth % 9}" for name in names if rng.random() < 0.5}
        assert event_body(event(**shape))
    tables = [one for one in gc.get_objects() if type(one) is writer._Texts]

    assert len(tables) <= len(AuditEvent._fields)
    assert len(writer._PLANS) <= writer._KEPT_PLANS
