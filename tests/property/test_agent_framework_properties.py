"""Whatever stands in a record, it becomes events that can be written, or is refused."""

from __future__ import annotations

import json
from importlib.resources import files

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.samples import TEXT

from fleetwake.producer.adapters.agent_framework import AgentFrameworkAdapter, restore
from fleetwake.producer.adapters.agent_framework.run_ids import session_of
from fleetwake.producer.adapters.mapping import UnmappableError
from fleetwake.producer.enrich import enriched
from fleetwake.schemas.codec import encode

RECORDINGS = files("fleetwake.consumers.demo") / "recordings"
RECORDS = [
    json.loads(line)
    for name in ("trace_events", "0.5_audit_trace")
    for line in (RECORDINGS / f"agent_framework_{name}.jsonl").read_text().splitlines()
    if line
]
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
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


def paths(value, at=()):
    """Every place in a record."""
    yield at
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for name, item in items:
        yield from paths(item, (*at, name))


def replaced(value, path, new):
    """The record with one place changed."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@st.composite
def damaged(draw):
    """A recorded record with up to three places changed."""
    record = draw(st.sampled_from(RECORDS))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.sampled_from([path for path in paths(record) if path]))
        record = replaced(record, at, draw(JSON))
    return record


def check(records):
    """What holds for every stream."""
    adapter = AgentFrameworkAdapter(stream="s", session_id="of the file")
    ids = []
    for number, record in enumerate(records):
        before = json.dumps(record)
        try:
            found = adapter.map(record, ordinal=number)
        except UnmappableError:
            continue
        events = [enriched(*one) for one in found]
        for event in events:
            assert event.session_id
            assert encode(event._replace(producer_id="p", sequence=1, recorded_at=1))
        assert before == json.dumps(record)
        assert before == json.dumps(restore(events))
        ids += [event.event_id for event in events]
    return ids


@settings(max_examples=60, deadline=None)
@given(st.lists(damaged(), max_size=6))
def test_any_stream_is_mapped_or_refused(records):
    """Nothing raises; what was taken comes back; the same stream, the same ids."""
    assert check(records) == check(records)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted({k for r in RECORDS for k in r})), JSON))
def test_any_object_with_our_names_is_mapped_or_refused(fields):
    """However they are put together."""
    check([{"timestamp": "2026-04-29T10:00:00Z"} | fields])


@settings(max_examples=200)
@given(TEXT.filter(bool), st.integers(0, 9999), st.lists(TEXT, min_size=1, max_size=4))
def test_a_session_is_found_whatever_agents_are_called(session, number, agents):
    """At the first place that looks like it, but not at the very beginning."""
    run_id = ".".join([session, f"p{number}", *agents, ""])
    found = session_of(run_id)

    assert found
    assert session.startswith(found)
