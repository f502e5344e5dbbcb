"""ATOF: whose session, turn and agent a record is, in whatever order it comes."""

from __future__ import annotations

from typing import Any

import pytest
from tests.atof import (
    AGENT,
    ROOT_ID,
    T0,
    TOOL,
    adapter,
    event,
    events,
    mark,
    repairs,
    scope,
    tool,
)

# Sessions


def test_scopes_of_one_stack_are_sessions_of_their_own() -> None:
    """The implicit root above them is never told, and joins nothing."""
    other = "01a1fd5d-0000-7000-8000-00000000000a"
    found = events([scope(), scope("end"), scope(uuid=other)])

    assert [AGENT, AGENT, other] == [one.session_id for one in found]


def test_calls_outside_of_all_scopes_share_the_stacks_session() -> None:
    """There is nothing else that they have in common."""
    found = events([tool("start", parent_uuid=ROOT_ID), mark(parent_uuid=ROOT_ID)])

    assert [ROOT_ID, ROOT_ID] == [one.session_id for one in found]


def test_a_mark_in_nothing_belongs_to_the_stream() -> None:
    """Not to a session of one event."""
    assert "stem" == event(mark(parent_uuid=None)).session_id


def test_plain_ids_do_not_join_runs() -> None:
    """`agent-001` is in every example file, and again in the next run of a file."""
    run = [scope(uuid="agent-001", parent_uuid=None), mark(parent_uuid="agent-001")]
    later = [one | {"timestamp": T0 + 9} for one in run]
    end = scope("end", uuid="agent-001", timestamp=T0 + 1)
    one_file = events([*run, end, *later])
    other_file = events(run, stream="other")

    assert [f"file/agent-001@{T0}"] * 3 == [one.session_id for one in one_file[:3]]
    assert [f"file/agent-001@{T0 + 9}"] * 2 == [one.session_id for one in one_file[3:]]
    assert {one.session_id for one in one_file}.isdisjoint(
        one.session_id for one in other_file
    )
    assert 7 == len({one.event_id for one in one_file + other_file})


@pytest.mark.parametrize(
    "metadata",
    [
        {"session_id": "s", "other": 1},
        {"conversation_id": "s", "session_id": "t"},
        {"gen_ai.conversation.id": "s", "conversation_id": "t"},
        {"gen_ai_conversation_id": "s"},
    ],
)
def test_a_session_is_named_in_this_order(metadata: Any) -> None:
    """As Relay's exporter looks for it; a sink may have replaced the dots."""
    assert "s" == event(scope(metadata=metadata)).session_id


@pytest.mark.parametrize("value", [None, "", [], {}, True, 1.5, "x" * 2000, 10**30])
def test_what_is_no_session_id_names_none(value: Any) -> None:
    """The scope's own id is there."""
    assert AGENT == event(scope(metadata={"session_id": value})).session_id


def test_children_before_their_parent_are_keyed_by_the_root_that_relay_names() -> None:
    """A root without a session's name has the same one."""
    root = {"propagation_root_uuid": AGENT}
    found = events(
        [
            tool("start", parent_uuid="01a1fd5d-0000-7000-8000-0000000000ff", **root),
            tool("end", parent_uuid="01a1fd5d-0000-7000-8000-0000000000ff", **root),
            scope(**root),
        ]
    )

    assert [AGENT] * 3 == [one.session_id for one in found]


def test_an_end_is_of_the_session_of_its_start() -> None:
    """Whatever its own metadata say."""
    found = events([scope(), scope("end", metadata={"session_id": "late"})])

    assert [AGENT, AGENT] == [one.session_id for one in found]


def test_a_scope_with_a_session_of_its_own_names_the_one_above() -> None:
    """That is how a tree of sessions is found."""
    found = events(
        [scope(), scope(uuid=TOOL, parent_uuid=AGENT, metadata={"session_id": "sub"})]
    )

    assert ("sub", AGENT) == (found[1].session_id, found[1].parent_session_id)
    assert found[0].parent_session_id is None


def test_late_children_find_the_session_of_an_ended_root() -> None:
    """Relay delivers from another thread."""
    found = events(
        [scope(metadata={"session_id": "s"}), scope("end"), tool("start"), mark()]
    )

    assert {"s"} == {one.session_id for one in found}


# Turns and delegation


def test_a_nested_agent_is_a_delegation_within_the_turn() -> None:
    """It is no new turn of its parent."""
    inner = {"uuid": TOOL, "parent_uuid": AGENT, "name": "helper"}
    found = events(
        [
            scope(),
            scope(**inner),
            mark(parent_uuid=TOOL),
            scope("end", **inner, timestamp=T0 + 2_000),
            scope("end"),
        ]
    )

    assert [
        *("turn.start", "delegation.start", "mark"),
        *("delegation.end", "turn.end"),
    ] == [one.event_type for one in found]
    assert {AGENT} == {one.turn_id for one in found}
    assert ("planner", "helper") == (found[1].agent_from, found[1].agent_to)
    assert "helper" == found[2].agent_id
    assert 2.0 == found[3].duration_ms


def test_the_gateways_roles_say_what_is_a_session_and_a_turn() -> None:
    """Its mark inside of the session's scope is a second view."""
    turn = "01a1fd5d-0000-7000-8000-00000000000a"
    sub = "01a1fd5d-0000-7000-8000-00000000000b"

    def role(name: str) -> Any:
        return {"nemo_relay_scope_role": name, "session_id": "s"}

    found = events(
        [
            scope(name="codex", metadata=role("session")),
            mark("session.start", metadata={"session_id": "s"}),
            scope(
                category="custom",
                name="codex-turn",
                uuid=turn,
                parent_uuid=AGENT,
                metadata=role("turn"),
            ),
            scope(name="sub:1", uuid=sub, parent_uuid=turn, metadata=role("subagent")),
        ]
    )

    assert ["session.start", "custom", "turn.start", "delegation.start"] == [
        one.event_type for one in found
    ]
    assert [None, None, turn, turn] == [one.turn_id for one in found]
    assert "codex" == found[2].agent_id


def test_a_session_mark_without_a_scope_starts_the_session() -> None:
    """Some harnesses have no end of a session, and so no scope."""
    found = event(mark("session.start", metadata={"session_id": "s"}))

    assert ("session.start", "s") == (found.event_type, found.session_id)


# Order, repeats, memory


def test_a_repeated_record_is_the_same_event_and_counts_once() -> None:
    """A start, an end and a mark, at once and after their root has ended."""
    run = [
        *(scope(metadata={"session_id": "s"}), tool("start"), tool("end")),
        *(mark(), scope("end")),
    ]
    found = events([one for record in run for one in (record, record)] + run)
    first, again, later = found[:10:2], found[1:10:2], found[10:]

    assert [e.event_id for e in first] == [e.event_id for e in again]
    assert [e.event_id for e in first] == [e.event_id for e in later]
    assert {"custom"} == {e.event_type for e in again + later}
    assert {"s"} == {e.session_id for e in found}
    assert "custom" not in {e.event_type for e in first}


def test_a_second_end_of_a_scope_counts_no_more() -> None:
    """A consumer may make one up for a scope that seemed lost."""
    found = events([tool("start"), tool("end"), tool("end", timestamp=T0 + 5)])

    assert ["tool.attempt", "tool.complete", "custom"] == [e.event_type for e in found]
    assert 3 == len({e.event_id for e in found})


def test_an_end_before_its_start_has_no_duration() -> None:
    """The start comes late; both count once."""
    end, start = events([tool("end"), tool("start", timestamp=T0 - 1)])

    assert ("tool.complete", "tool.attempt") == (end.event_type, start.event_type)
    assert end.duration_ms is None
    assert {"start_missing"} == repairs(end)
    assert end.session_id == start.session_id


def test_a_negative_duration_is_none() -> None:
    """Clocks are not trusted."""
    end = events([tool("start"), tool("end", timestamp=T0 - 1)])[1]

    assert end.duration_ms is None
    assert {"negative_duration"} == repairs(end)


def test_open_scopes_are_bounded_and_evictions_counted() -> None:
    """The scope that is used stays."""
    one = adapter(max_scopes=4)
    one.map(scope(metadata={"session_id": "s"}), ordinal=0)
    for n in range(20):
        child = tool("start", uuid=f"01a1fd5d-0000-7000-8000-0000000001{n:02}")
        one.map(child, ordinal=n)

    assert 4 == one.open_scopes
    assert 17 == one.evicted
    assert "s" == one.map(mark(), ordinal=0)[0].event.session_id


def test_nothing_is_missed_of_a_root_that_has_ended() -> None:
    """Its open children were lost by its system: forgetting them is no eviction."""
    one = adapter(max_scopes=2)
    for record in [scope(), tool("start"), scope("end")]:
        one.map(record, ordinal=0)
    for n in range(2):
        other = scope(uuid=f"01a1fd5d-0000-7000-8000-0000000001{n:02}")
        one.map(other, ordinal=0)

    assert 0 == one.evicted
