"""ATOF: whatever a stream holds, and in whatever order it comes."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.samples import TEXT

from fleetwake.producer.adapters.atof import AtofAdapter, recognises, restore
from fleetwake.producer.adapters.atof.http import read_http
from fleetwake.producer.adapters.mapping import UnmappableError
from fleetwake.producer.dead_letter import DeadLetter
from fleetwake.producer.enrich import enriched
from fleetwake.schemas.codec import encode
from fleetwake.schemas.text import well_formed

T0 = 1_790_000_000_000_000

ANY_JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        TEXT,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)
    ),
    max_leaves=6,
)
KNOWN_NAMES = st.sampled_from(
    [
        *("session_id", "conversation_id", "gen_ai.conversation.id", "user_id"),
        *("otel.status_code", "otel.status_description", "exception.type", "error"),
        *("nemo_relay_scope_role", "agent_kind", "nemo_relay.log.severity"),
        *("rejected", "rejection_reason", "usage", "token_usage", "content", "kind"),
        *("prompt_tokens", "cost", "model_name", "tool_call_id", "subtype", "message"),
        *("annotated_response", "choices", "text", "type", "headers"),
    ]
)
KNOWN_WORDS = st.sampled_from(
    ["OK", "ERROR", "session", "turn", "subagent", "thinking", "warn", "s"]
)
OBJECT = st.recursive(
    st.dictionaries(KNOWN_NAMES, st.one_of(ANY_JSON, KNOWN_WORDS), max_size=4),
    lambda inner: st.dictionaries(KNOWN_NAMES, inner, max_size=3),
    max_leaves=4,
)
ID = st.one_of(
    st.sampled_from(["a", "b", "c", "01a1fd5d-0000-7000-8000-000000000001"]), TEXT
)
FIELDS = {
    "kind": st.sampled_from(["scope", "mark"]),
    "uuid": ID,
    "parent_uuid": ID,
    "propagation_root_uuid": ID,
    "timestamp": st.one_of(
        st.integers(1, 2**52), st.sampled_from(["2026-11-21T09:08:43.351995118Z"])
    ),
    "name": TEXT,
    "scope_category": st.sampled_from(["start", "end"]),
    "category": st.sampled_from(["agent", "tool", "llm", "guardrail", "custom", "x"]),
    "metadata": OBJECT,
    "data": OBJECT,
    "category_profile": OBJECT,
    "attributes": st.lists(TEXT, max_size=3),
    "atof_version": TEXT,
}


@st.composite
def hostile_records(draw: st.DrawFn) -> dict[str, Any]:
    """Records of the right shape, in which any field may be anything or missing."""
    record = {name: draw(values) for name, values in FIELDS.items()}
    for name in draw(st.sets(st.sampled_from(list(FIELDS)), max_size=3)):
        if draw(st.booleans()):
            record[name] = draw(ANY_JSON)
        else:
            del record[name]
    return record | draw(st.dictionaries(TEXT, ANY_JSON, max_size=2))


@settings(max_examples=60, deadline=None)
@given(st.lists(hostile_records(), max_size=8))
def test_a_record_becomes_one_event_that_can_be_written_or_says_why(
    records: list[dict[str, Any]],
) -> None:
    """Nothing else happens, whatever the types of its fields."""
    adapter = AtofAdapter(stream="stream", session_id="session", max_scopes=3)
    refused = mapped = 0
    for number, record in enumerate(records, start=1):
        before = json.dumps(record)
        try:
            ((event, content),) = adapter.map(record, ordinal=number)
        except UnmappableError:
            refused += 1
        else:
            mapped += 1
            full = enriched(event, content)
            stamps = {"producer_id": "p", "sequence": number, "recorded_at": 1}

            assert recognises(record)
            assert encode(full._replace(**stamps))
            assert restore([full]) == json.loads(before)
        assert before == json.dumps(record)
    assert len(records) == refused + mapped


def uuid(number: int) -> str:
    return f"01a1fd5d-0000-7000-8000-{number:012}"


@st.composite
def runs(draw: st.DrawFn) -> list[list[dict[str, Any]]]:
    """Trees of scopes, each told from its root to its last end; their records."""
    trees: list[list[dict[str, Any]]] = []
    serial = 0
    for number in range(draw(st.integers(1, 3))):
        named = draw(st.booleans())
        metadata = {"session_id": f"s-{number}"} if named else None
        root, open_scopes, records = None, [], []
        for step in draw(st.lists(st.sampled_from("otmc"), min_size=1, max_size=14)):
            if step == "c" and len(open_scopes) > 1:
                records.append(open_scopes.pop() | {"scope_category": "end"})
                continue
            serial += 1
            one = {
                "kind": "mark" if step == "m" and root else "scope",
                "uuid": uuid(serial),
                "parent_uuid": open_scopes[-1]["uuid"] if root else uuid(0),
                "name": f"n-{step}",
                "metadata": None if root else metadata,
                "category": "tool" if step == "t" and root else "agent",
                "scope_category": "start",
            }
            root = root or one
            one |= {"propagation_root_uuid": root["uuid"]}
            records.append(one)
            if one["kind"] == "scope":
                open_scopes.append(one)
        ends = [one | {"scope_category": "end"} for one in reversed(open_scopes)]
        trees.append(records + ends)
    return trees


def stamped(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one | {"timestamp": T0 + at} for at, one in enumerate(records)]


def session_of(tree: list[dict[str, Any]]) -> str:
    return (tree[0]["metadata"] or {}).get("session_id") or tree[0]["uuid"]


def counts(events: list[Any]) -> Counter[tuple[str, str | None]]:
    return Counter((e.event_type, e.tool_name) for e in events)


@settings(max_examples=60, deadline=None)
@given(runs(), st.randoms(use_true_random=False))
def test_interleaved_runs_stay_apart_and_repeats_count_once(
    trees: list[list[dict[str, Any]]], random: Any
) -> None:
    """Each event is of its root's session; calls and their ends count once."""
    expected = {one["uuid"]: session_of(tree) for tree in trees for one in tree}
    order = [tree for tree in trees for _ in tree]
    random.shuffle(order)
    sources = {id(tree): iter(tree) for tree in trees}
    told = stamped([next(sources[id(tree)]) for tree in order])
    sent = list(told)
    for one in told:
        sent.insert(random.randint(sent.index(one) + 1, len(sent)), one)
    adapter = AtofAdapter(stream="stream", session_id="session")
    events = [adapter.map(one, ordinal=n)[0].event for n, one in enumerate(sent)]
    once = [event for event in events if event.event_type != "custom"]
    clean = AtofAdapter(stream="stream", session_id="session")
    undoubled = [clean.map(one, ordinal=n)[0].event for n, one in enumerate(told)]

    assert expected == {event.span_id: event.session_id for event in events}
    assert counts(undoubled) == counts(once)
    assert {e.event_id for e in undoubled} == {e.event_id for e in events}
    assert len(undoubled) == len({e.event_id for e in undoubled})
    assert 0 == adapter.open_scopes == adapter.evicted


@settings(max_examples=60, deadline=None)
@given(runs(), st.randoms(use_true_random=False))
def test_out_of_order_the_root_that_relay_names_keeps_a_run_together(
    trees: list[list[dict[str, Any]]], random: Any
) -> None:
    """Where no session is named, any order gives the same sessions and calls."""
    told = stamped([one | {"metadata": None} for tree in trees for one in tree])
    roots = {one["uuid"]: tree[0]["uuid"] for tree in trees for one in tree}
    random.shuffle(told)
    adapter = AtofAdapter(stream="stream", session_id="session")
    events = [adapter.map(one, ordinal=n)[0].event for n, one in enumerate(told)]
    tools = Counter(e.event_type for e in events if e.tool_name)
    calls = sum(one["category"] == "tool" and one["kind"] == "scope" for one in told)

    assert roots == {event.span_id: event.session_id for event in events}
    assert calls == tools["tool.attempt"] + tools["tool.complete"]
    assert tools["tool.attempt"] == tools["tool.complete"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=30), st.just(b'{"kind": "mark"}'))),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_an_upload_is_the_same_however_it_is_cut(
    lines: list[bytes], cuts: list[int]
) -> None:
    """Every line that is not blank is a record or a dead letter with its bytes."""
    body = b"\n".join(lines)
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    chunks = [body[a:b] for a, b in pairwise(edges)]
    whole, cut = list(read_http(body)), list(read_http(chunks))
    written = [line for line in body.split(b"\n") if line.strip()]

    assert whole == cut
    assert len(written) == len(whole)
    for line, found in zip(written, whole, strict=True):
        if isinstance(found, DeadLetter):
            assert line == found.value
        else:
            assert found.fields == json.loads(well_formed(line.decode("utf-8-sig")))
