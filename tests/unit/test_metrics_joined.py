"""Events of many batches as of one."""

from __future__ import annotations

import pyarrow as pa
import pytest

from fleetwake.consumers.metrics import joined as module
from fleetwake.consumers.metrics.joined import Joined
from fleetwake.consumers.runtime.service import EventBatch, Record
from fleetwake.schemas.arrow import to_arrow
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.topics import ALERTS, EVENTS, SESSIONS, SIGNALS


class Part:
    """What it was shown, in order."""

    resume_from = None

    def __init__(self):
        self.heard = []

    def process(self, batch):
        if batch.topic != EVENTS:
            self.heard.append(batch.topic)
            return
        offset, _ = batch.positions()
        self.heard.append(offset.tolist())
        self.last = batch

    def tick(self, now_ms):
        self.heard.append(now_ms)
        return True

    async def flush(self):
        self.heard.append("flush")
        return {EVENTS: 7}


def of(*sessions, first=0, replayed=False, unreadable=0, value=b""):
    """Make a batch of an event for each session, and of records that are none."""
    events = [
        AuditEvent(event_id=f"e{nth}", event_type="turn.start", session_id=one)
        for nth, one in enumerate(sessions, first)
    ]
    count = len(sessions) + unreadable
    return EventBatch(
        topic=EVENTS,
        partition=3,
        records=[Record(first + n, 1000 + first + n, b"", value) for n in range(count)],
        events=to_arrow(events),
        rows=range(len(sessions)),
        replayed=replayed,
    )


def other(topic):
    return EventBatch(
        topic=topic,
        partition=3,
        records=[Record(0, 0, b"", b"")],
        events=None,
        rows=(),
    )


@pytest.fixture
def part():
    return Part()


@pytest.fixture
def joined(part):
    return Joined(part)


async def test_a_flush_shows_all_that_waits_as_one_batch(joined, part):
    """Offsets, times and columns are those of the single ones."""
    joined.process(of("a", "b"))
    joined.process(of("a", first=2))
    needed = await joined.flush()

    assert [[0, 1, 2], "flush"] == part.heard
    assert needed == {EVENTS: 7}
    assert ["a", "b", "a"] == part.last.events.column("session_id").to_pylist()
    assert ["e0", "e1", "e2"] == part.last.events.column("event_id").to_pylist()
    assert [1000, 1001, 1002] == part.last.positions()[1].tolist()
    assert part.last.partition == 3


def test_silence_is_told_after_the_events_before_it(joined, part):
    """Nobody is judged without what was heard of him."""
    joined.process(of("a"))

    assert joined.tick(9)
    assert [[0], 9] == part.heard
    assert joined.tick(10)
    assert [[0], 9, 10] == part.heard


def test_alerts_are_heard_after_the_events_before_them(joined, part):
    """Signals and our own sessions say nothing of these, and do not hurry them."""
    joined.process(of("a"))
    for topic in (SIGNALS, SESSIONS, ALERTS):
        joined.process(other(topic))

    assert [SIGNALS, SESSIONS, [0], ALERTS] == part.heard


def test_many_events_of_few_sessions_do_not_wait(joined, part):
    """More of them would not be faster, and take memory."""
    joined.process(of(*["a"] * 9_999))
    before = list(part.heard)
    joined.process(of("a", first=9_999))

    assert before == []
    assert [list(range(10_000))] == part.heard


def test_events_of_large_records_do_not_wait(joined, part, monkeypatch):
    """Their names may be as long; what was shown does not count any more."""
    monkeypatch.setattr(module, "_MANY_BYTES", 10)
    heard = []
    for first in range(4):
        joined.process(of("a", first=first, value=b"5byte"))
        heard.append(len(part.heard))

    assert heard == [0, 1, 1, 2]
    assert [[0, 1], [2, 3]] == part.heard


def test_what_waits_holds_nothing_of_the_batch_that_it_came_in():
    """Payloads would stay in memory: what Rust has made is freed as a whole."""

    def places(batch):
        found = set()
        for column in batch.columns:
            if isinstance(column, pa.DictionaryArray):
                found |= {one.address for one in column.dictionary.buffers() if one}
            found |= {one.address for one in column.buffers() if one}
        return found

    events = to_arrow(
        [AuditEvent(event_id="e", session_id="s", tool_name=one) for one in ("t", None)]
    )

    assert not places(events) & places(module._slim(events))


def test_what_is_replayed_is_shown_as_it_comes(joined, part):
    """It is not mixed with what is live."""
    joined.process(of("a", replayed=True))

    assert [[0]] == part.heard
    assert part.last.replayed


def test_records_that_are_no_events_move_the_end_of_the_log(joined, part):
    """What is committed is beyond them, be there events with them or not."""
    joined.process(of("a", unreadable=2))
    joined.tick(0)
    with_events = part.last.next_offset
    joined.process(of(first=3, unreadable=1))
    joined.tick(0)

    assert with_events == 3
    assert part.last.next_offset == 4
    assert part.last.records[-1].timestamp_ms == 1003
