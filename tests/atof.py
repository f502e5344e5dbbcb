"""Records of ATOF, and what the adapter makes of them, for its tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetwake.producer.adapters.atof import AtofAdapter
from fleetwake.producer.adapters.mapping import REPAIRED

if TYPE_CHECKING:
    from fleetwake.producer.adapters.mapping import Mapped
    from fleetwake.schemas.event import AuditEvent

ROOT_ID = "01a1fd5d-0000-7000-8000-000000000000"
AGENT = "01a1fd5d-0000-7000-8000-000000000001"
TOOL = "01a1fd5d-0000-7000-8000-000000000002"
T0 = 1_790_000_000_000_000


def adapter(**options: Any) -> AtofAdapter:
    return AtofAdapter(**{"stream": "file", "session_id": "stem"} | options)


def mapped(records: list[dict[str, Any]], **options: Any) -> list[Mapped]:
    one = adapter(**options)
    found = [one.map(record, ordinal=n) for n, record in enumerate(records)]
    assert all(len(events) == 1 for events in found)
    return [events[0] for events in found]


def events(records: list[dict[str, Any]], **options: Any) -> list[AuditEvent]:
    return [one.event for one in mapped(records, **options)]


def event(record: dict[str, Any]) -> AuditEvent:
    (one,) = events([record])
    return one


def scope(phase: str = "start", category: str = "agent", **fields: Any) -> Any:
    return {
        "kind": "scope",
        "atof_version": "0.1",
        "parent_uuid": ROOT_ID,
        "uuid": AGENT,
        "timestamp": T0,
        "name": "planner",
        "scope_category": phase,
        "attributes": [],
        "category": category,
    } | fields


def tool(phase: str, **fields: Any) -> Any:
    own = {"parent_uuid": AGENT, "uuid": TOOL, "name": "search"}
    return scope(phase, "tool", **own | fields)


def mark(name: str = "note", **fields: Any) -> Any:
    return {
        "kind": "mark",
        "atof_version": "0.1",
        "parent_uuid": AGENT,
        "uuid": "01a1fd5d-0000-7000-8000-000000000009",
        "timestamp": T0,
        "name": name,
    } | fields


def repairs(one: AuditEvent) -> set[str]:
    return set(filter(None, one.attributes.get(REPAIRED, "").split(",")))
