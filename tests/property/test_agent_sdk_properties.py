"""Whatever stands in a record, it becomes an event that can be written."""

from __future__ import annotations

import json
from collections import Counter
from importlib.resources import files

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.samples import TEXT

from fleetwake.producer.adapters.agent_sdk import AgentSdkAdapter, restore
from fleetwake.producer.adapters.agent_sdk.tables import ENDS, TYPES
from fleetwake.producer.adapters.mapping import UnmappableError
from fleetwake.producer.enrich import enriched
from fleetwake.schemas.codec import encode

RECORDING = (
    files("fleetwake.consumers.demo")
    / "recordings/agent_sdk_0.9.2_tool_audit_records.jsonl"
)
RECORDS = [json.loads(line) for line in RECORDING.read_text().splitlines()]
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        TEXT,
        st.sampled_from(["\ud800", "a\udfff", "\udc00\ud800"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)
    ),
    max_leaves=6,
)
OUTCOMES = st.fixed_dictionaries(
    {"kind": st.one_of(st.sampled_from(sorted(TYPES)), JSON)},
    optional={
        "reason": JSON,
        "error": JSON,
        "description": JSON,
        "listen_context": JSON,
        "result": st.one_of(
            JSON,
            st.fixed_dictionaries(
                {"success": st.one_of(st.booleans(), JSON)},
                optional={"output": JSON, "data": JSON, "duration_ms": JSON},
            ),
        ),
    },
)
RECORD = st.builds(
    lambda record, fields, gone: {
        name: value
        for name, value in (record | fields).items()
        if name not in gone or name == "recorded_at"
    },
    st.sampled_from(RECORDS),
    st.fixed_dictionaries(
        {},
        optional={name: JSON for name in RECORDS[0] if name != "recorded_at"}
        | {"outcome": OUTCOMES, "kind": OUTCOMES, "thread_id": JSON},
    ),
    st.sets(st.sampled_from(sorted(RECORDS[0])), max_size=2),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(RECORD, max_size=6))
def test_any_record_is_an_event(records):
    """With a usable time nothing is refused; all comes back."""
    adapter = AgentSdkAdapter(stream="s", session_id="thread")
    for number, record in enumerate(records):
        before = json.dumps(record)
        (event,) = [enriched(*one) for one in adapter.map(record, ordinal=number)]

        assert event.session_id
        assert encode(event._replace(producer_id="p", sequence=1, recorded_at=1))
        assert before == json.dumps(restore([event])) == json.dumps(record)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(RECORDS[0])), JSON))
def test_only_a_time_is_refused(fields):
    """Nothing else is raised."""
    reasons = set()
    try:
        AgentSdkAdapter(stream="s", session_id="thread").map(fields, ordinal=0)
    except UnmappableError as error:
        reasons.add(error.reason.partition("_")[0])

    assert reasons <= {"timestamp"}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(sorted(TYPES)), st.booleans()),
        max_size=12,
    )
)
def test_a_call_ends_at_most_once(steps):
    """In whatever order, and however often, its records come."""
    adapter, ends = AgentSdkAdapter(stream="s", session_id="thread"), Counter[str]()
    for call, kind, success in steps:
        outcome = {"kind": kind, "result": {"success": success}}
        record = RECORDS[0] | {"tool_call_id": call, "outcome": outcome}
        ends[call] += adapter.map(record, ordinal=0)[0].event.event_type in ENDS

    assert set(ends.values()) <= {0, 1}
