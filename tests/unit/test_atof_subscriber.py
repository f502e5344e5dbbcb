"""A live NeMo runtime: its events are published and it never feels it."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fleetwake.producer.adapters.atof import AtofSubscriber, restore
from fleetwake.producer.testing import memory_producer

RECORDINGS = Path(__file__).parents[1] / "recordings"
AGENT = "01a1fd5d-0000-7000-8000-000000000001"
SCOPE: dict[str, Any] = {
    "kind": "scope",
    "atof_version": "0.1",
    "parent_uuid": None,
    "uuid": AGENT,
    "timestamp": "2026-11-21T09:08:43.351995118+00:00",
    "name": "planner",
    "data": {"q": 1},
    "data_schema": None,
    "metadata": None,
    "category": "agent",
    "category_profile": None,
    "scope_category": "start",
    "attributes": ["parallel"],
}
MARK: dict[str, Any] = {
    name: value
    for name, value in SCOPE.items()
    if name not in {"scope_category", "attributes"}
} | {"kind": "mark", "uuid": "m", "parent_uuid": AGENT, "category": None}


class Letters:
    """A producer that only notes what is refused."""

    def __init__(self) -> None:
        self.letters: list[Any] = []

    def emit(self, *_: object) -> None:
        raise AssertionError("nothing of this can be an event")

    def reject(self, letter: Any) -> None:
        self.letters.append(letter)


def published(*given: Any) -> list[Any]:
    producer, log = memory_producer()
    subscriber = AtofSubscriber(producer)
    for one in given:
        subscriber(one)
    assert producer.close()
    return [one for one in log.events() if one.event_type != "producer.close"]


@pytest.mark.parametrize("record", [SCOPE, MARK], ids=["scope", "mark"])
def test_an_event_object_is_taken_as_its_exporter_writes_it(record: Any) -> None:
    """NeMo Flow 0.2.0 has getters only, Relay a to_dict; dicts are taken, too."""
    getters = SimpleNamespace(**record, annotated_request="another view")
    with_dict = SimpleNamespace(kind="?", to_dict=lambda: record)
    from_getters, from_dict, from_record = (
        published(one)[0] for one in (getters, with_dict, record)
    )

    assert record == restore([from_getters])
    assert from_getters.event_id == from_dict.event_id == from_record.event_id
    assert from_getters.payload == from_record.payload


def test_events_of_a_scope_are_one_session_in_order() -> None:
    """The order of the topic is that of the runtime."""
    start, mark, end = published(SCOPE, MARK, SCOPE | {"scope_category": "end"})

    assert [AGENT] * 3 == [start.session_id, mark.session_id, end.session_id]
    assert [1, 2, 3] == [start.sequence, mark.sequence, end.sequence]
    assert ["turn.start", "mark", "turn.end"] == [
        one.event_type for one in (start, mark, end)
    ]


def test_a_credential_in_a_request_is_in_no_record() -> None:
    """NeMo Flow tells the request's headers, and the digest needs none of them."""
    recording = RECORDINGS / "nemo_flow_0.2.0_atof_llm_annotated.jsonl"
    secret, lines = b"sk-secret", recording.read_bytes().splitlines()
    producer, log = memory_producer()
    subscriber = AtofSubscriber(producer)
    for line in lines:
        subscriber(json.loads(line))
    subscriber(SCOPE | {"timestamp": "?", "data": "authorization: Bearer sk-secret"})
    assert producer.close()
    written = [
        part
        for topic in (None, *log.partitions)
        for one in log.records(topic)
        for part in (one.value, one.key)
    ]

    assert any(secret in line for line in lines)
    assert len(lines) < len(written)
    assert not [one for one in written if secret in (one or b"")]


CIRCLE: dict[str, Any] = {}
CIRCLE["usage"] = CIRCLE


@pytest.mark.parametrize(
    "data",
    ["x" * 5_000_000, float("nan"), 10**5_000, CIRCLE, object(), {1: {2}}, "\ud800"],
    ids=["5 MB", "nan", "5,000 digits", "circle", "object", "no keys", "surrogate"],
)
@pytest.mark.parametrize("category", ["llm", "tool"])
def test_data_that_no_json_has_are_taken(data: Any, category: str) -> None:
    """The runtime's own can be nothing else, but a dict comes from anywhere."""
    start = SCOPE | {"data": data, "metadata": data, "category": category}
    found = published(start, start | {"scope_category": "end"})

    assert 2 == len(found)
    assert all(json.loads(one.payload) for one in found)


class Hostile:
    """Not even its type can be asked for."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (SCOPE | {"timestamp": "2026-11-21T09:08:43"}, "timestamp_without_zone"),
        (SimpleNamespace(**SCOPE | {"uuid": None}), "uuid_unusable"),
        (Hostile(), "unreadable"),
        (None, "kind_unusable"),
        (SimpleNamespace(to_dict=lambda: 1 / 0), "unreadable"),
        (SimpleNamespace(to_dict=lambda: "text"), "unreadable"),
    ],
    ids=["naive time", "no uuid", "hostile", "none", "to_dict raises", "no dict"],
)
def test_what_cannot_be_mapped_is_a_dead_letter(given: Any, reason: str) -> None:
    """Nothing is raised into the runtime, which would print it and go on."""
    producer: Any = Letters()

    AtofSubscriber(producer, session_id="s")(given)

    (letter,) = producer.letters
    assert (reason, "s") == (letter.reason, letter.key)
    assert {"source": "atof"} == letter.origin
    assert letter.value


def test_a_producer_that_refuses_all_breaks_no_runtime() -> None:
    """Neither an event nor a dead letter."""

    class Refusing(Letters):
        def reject(self, letter: Any) -> None:
            raise RuntimeError("no")

    producer: Any = Refusing()
    AtofSubscriber(producer)(SCOPE)
    AtofSubscriber(producer)(None)


def test_threads_may_share_a_subscriber() -> None:
    """A runtime's dispatchers and tools have threads of their own."""
    producer, log = memory_producer()
    subscriber = AtofSubscriber(producer)
    subscriber(SCOPE)

    def work(thread: int) -> None:
        for n in range(50):
            subscriber(MARK | {"uuid": f"{thread}-{n}"})

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert producer.close()
    marks = [one for one in log.events() if one.event_type == "mark"]

    assert 200 == len({one.event_id for one in marks})
    assert {AGENT} == {one.session_id for one in marks}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_child_is_not_held_up() -> None:
    """Another thread may be in the subscriber at that instant."""
    producer, log = memory_producer()
    subscriber = AtofSubscriber(producer)
    with subscriber._lock:
        child = os.fork()
        if not child:
            taken = threading.Thread(target=subscriber, args=(SCOPE,), daemon=True)
            taken.start()
            taken.join(10)
            os._exit(taken.is_alive())
    _, status = os.waitpid(child, 0)

    assert 0 == os.waitstatus_to_exitcode(status)
    assert log.events() == []
    producer.close()
