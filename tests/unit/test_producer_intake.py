"""Stamps, bounds and accounts, without a thread."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.producing import event, until

from fleetwake.producer.check import check
from fleetwake.producer.entry import Entry, Flush, loss
from fleetwake.producer.intake import Intake
from fleetwake.producer.settings import ProducerSettings
from fleetwake.schemas.errors import InvalidEventError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


def intake(**settings: Any) -> Intake:
    return Intake("p", ProducerSettings(**settings))


def put(target: Intake, *sessions: str) -> None:
    for session in sessions:
        target.put(check(event(session)))


def take(target: Intake, count: int = 100) -> list[Entry]:
    taken = target.take(count)
    return [one for one in taken if isinstance(one, Entry)]


def acknowledge(target: Intake, entries: list[Entry]) -> None:
    size = sum(one.size for one in entries)
    target.acknowledge(len(entries), size, spooled=False)


def drop(target: Intake, entries: list[Entry], reason: str) -> None:
    for one in entries:
        target.drop([loss(one)], one.size, reason)


def spool(target: Intake, entries: list[Entry]) -> None:
    target.release(len(entries), sum(one.size for one in entries))


def stamps(entries: list[Entry]) -> list[tuple[str, str, int]]:
    return [
        (entry.event.session_id, entry.producer_id, entry.sequence) for entry in entries
    ]


def test_each_session_counts_from_one() -> None:
    """The sequence is 1, 2, 3 ... per session."""
    tested = intake()
    put(tested, "a", "b", "a", "a", "b")

    assert [
        ("a", "p", 1),
        ("b", "p", 1),
        ("a", "p", 2),
        ("a", "p", 3),
        ("b", "p", 2),
    ] == stamps(take(tested, 10))


def test_a_session_that_comes_back_after_eviction_begins_a_new_run() -> None:
    """No (producer_id, session, sequence) is given twice, however few are kept."""
    tested = intake(max_sessions=2)
    put(tested, "a", "b", "c", "a", "b", "d", "a", "a")

    given = stamps(take(tested, 100))

    assert len(set(given)) == len(given)
    assert ("a", "p.1", 1) in given


def test_an_evicted_session_gets_its_close_mark() -> None:
    """The run of an evicted session ends cleanly, so its tail is known."""
    tested = intake(max_sessions=1)
    put(tested, "a", "b")

    entries = take(tested, 10)

    assert [("a", "p", 1), ("b", "p", 1), ("a", "p", 2)] == stamps(entries)
    assert "producer.close" == entries[2].event.event_type


def test_evictions_while_the_queue_is_full_do_not_fill_memory() -> None:
    """A producer with endless new sessions and no broker stays bounded."""
    tested = intake(max_sessions=5, queue_max_events=10)
    put(tested, *map(str, range(1000)))

    assert tested.queued <= 20


@pytest.mark.parametrize(
    "limits", [{"queue_max_events": 3}, {"queue_max_bytes": 2_100}], ids=str
)
def test_drop_newest_keeps_what_is_there(limits: dict[str, int]) -> None:
    """A full queue drops the new event; its sequence shows that it was lost."""
    tested = intake(**limits)
    put(tested, *"aaaa")

    assert [1, 2, 3] == [entry.sequence for entry in take(tested, 10)]
    assert {"queue_full": 1} == tested.dropped


def test_one_event_larger_than_the_queue_is_taken_when_it_is_empty() -> None:
    """A bound in bytes does not make an event impossible."""
    tested = intake(queue_max_bytes=100)
    put(tested, "a", "a")

    assert 1 == tested.queued
    assert 1 == tested.dropped["queue_full"]


def test_a_drop_is_followed_by_a_gap_when_there_is_room() -> None:
    """A gap event names the run, the sequences and the reason."""
    tested = intake(queue_max_events=2)
    put(tested, "a", "a", "b", "b", "b")
    entries = take(tested, 10)

    assert 2 == tested.queued
    acknowledge(tested, entries)
    (gap,) = take(tested, 10)

    assert "gap" == gap.event.event_type
    assert ("b", "p", 4) == (gap.event.session_id, gap.producer_id, gap.sequence)
    assert {
        "producer_id": "p",
        "from_sequence": "1",
        "to_sequence": "3",
        "dropped": "3",
        "reason": "queue_full",
    } == gap.attributes


def test_a_gap_that_is_dropped_for_room_is_told_again() -> None:
    """What a dropped gap named is not forgotten."""
    tested = intake(queue_max_events=2)
    put(tested, "a", "a", "a")
    acknowledge(tested, take(tested, 10))
    (gap,) = take(tested, 10)

    drop(tested, [gap], "queue_full")
    (again,) = take(tested, 10)

    assert ("3", "4", "2") == tuple(
        again.attributes[name] for name in ("from_sequence", "to_sequence", "dropped")
    )


def test_a_gap_that_is_refused_is_not_told_again() -> None:
    """A broker that refuses gaps does not get them for ever."""
    tested = intake(queue_max_events=2)
    put(tested, "a", "a", "a")
    acknowledge(tested, take(tested, 10))

    drop(tested, take(tested, 10), "refused")

    assert [] == take(tested, 10)
    assert 0 == tested.queued


def test_accounts_add_up() -> None:
    """Accepted is acknowledged, queued or dropped, at any time."""
    tested = intake(queue_max_events=5)
    put(tested, *"abcabcabc")
    first = take(tested, 2)
    acknowledge(tested, first)
    drop(tested, take(tested, 1), "refused")

    counts = tested.counts()

    assert counts["accepted"] == (
        counts["acknowledged"] + counts["queued"] + sum(counts["dropped"].values())
    )
    assert 2 == counts["acknowledged"]


def test_block_waits_for_room() -> None:
    """With on_full=block, emit waits until there is room."""
    tested = intake(queue_max_events=1, on_full="block", block_timeout_s=20)
    put(tested, "a")
    waiting = threading.Thread(target=put, args=(tested, "a"))
    waiting.start()

    acknowledge(tested, take(tested, 1))
    waiting.join(10)

    assert not waiting.is_alive()
    assert {} == tested.dropped


def test_block_gives_up_at_its_deadline() -> None:
    """With on_full=block, emit waits block_timeout_s and no longer."""
    tested = intake(queue_max_events=1, on_full="block", block_timeout_s=0.05)
    put(tested, "a")

    begin = time.monotonic()
    put(tested, "a")
    took = time.monotonic() - begin

    assert 0.05 <= took < 5
    assert {"queue_full": 1} == tested.dropped


def test_block_keeps_room_for_those_who_wait() -> None:
    """Who came first is not dropped because others are faster."""
    tested = intake(queue_max_events=1, on_full="block", block_timeout_s=0.5)
    put(tested, "a")
    waiting = threading.Thread(target=put, args=(tested, "b"))
    waiting.start()
    until(lambda: tested._room.is_awaited)
    with tested._lock:
        acknowledge(tested, take(tested))
        put(tested, "c")
    waiting.join(10)

    assert [("b", "p", 1)] == stamps(take(tested))
    assert {"queue_full": 1} == tested.dropped


def test_block_keeps_bytes_for_a_large_event_that_waits() -> None:
    """Small ones that come later do not take them, or it would wait for ever."""
    large, small = (
        check(event("a", attributes={"x": "x" * size})) for size in (5_000, 1_500)
    )
    tested = intake(queue_max_bytes=10_000, on_full="block", block_timeout_s=60)
    for _ in range(4):
        tested.put(small)
    waiting = threading.Thread(target=tested.put, args=(large,))
    waiting.start()
    until(lambda: tested._room.is_awaited)
    with tested._lock:
        acknowledge(tested, take(tested, 1))
    tested._room._timeout_s = 0.05
    tested.put(small)
    acknowledge(tested, take(tested, 3))
    waiting.join(10)

    assert not waiting.is_alive()
    assert large.size in [one.size for one in take(tested)]
    assert {"queue_full": 1} == tested.dropped


def test_block_does_not_let_a_signal_handler_wait_for_what_it_interrupts() -> None:
    """What it has interrupted cannot go on before it: room for both is not needed."""
    tested = intake(queue_max_events=1, on_full="block", block_timeout_s=60)
    looks: list[bool] = []

    def interrupted(*_: object) -> bool:
        if not looks:
            looks.append(True)
            put(tested, "b")
        return True

    with tested._lock:
        assert tested._room.wait(1, interrupted)

    assert [("b", "p", 1)] == stamps(take(tested))


@pytest.mark.parametrize("in_room", [True, False])
def test_block_keeps_no_room_for_who_was_cut_off(
    monkeypatch: pytest.MonkeyPatch, *, in_room: bool
) -> None:
    """Ctrl-C in the middle of an emit: those who wait behind it look again."""

    def cut_off(*_: object) -> int:
        raise Interrupted

    tested = intake(queue_max_events=1, on_full="block", block_timeout_s=60)
    freed: list[bool] = []
    monkeypatch.setattr(tested._room, "free", lambda: freed.append(True))
    if in_room:
        put(tested, "a")
        monkeypatch.setattr(tested, "_fits_behind", cut_off)
    else:
        monkeypatch.setattr(tested, "_accept", cut_off)

    with pytest.raises(Interrupted):
        put(tested, "b")

    assert [True] == freed
    assert not tested._room.is_awaited


@pytest.mark.parametrize("how", ["abandon", "end", "close"])
def test_block_ends_with_the_queue(how: str) -> None:
    """Nobody waits for room that will never be."""
    tested = intake(queue_max_events=1, on_full="block", block_timeout_s=60)
    put(tested, "a")
    waiting = threading.Thread(target=put, args=(tested, "a"))
    waiting.start()
    until(lambda: tested._room.is_awaited)

    getattr(tested, how)()
    waiting.join(10)

    assert not waiting.is_alive()
    assert 1 <= tested.dropped["closed"]
    assert tested.accepted == tested.queued + sum(tested.dropped.values())


def test_block_may_wait_without_an_end() -> None:
    """A block_timeout_s of inf is no error."""
    tested = intake(queue_max_events=1, on_full="block", block_timeout_s=float("inf"))
    put(tested, "a")
    waiting = threading.Thread(target=put, args=(tested, "a"))
    waiting.start()
    until(lambda: tested._room.is_awaited)

    acknowledge(tested, take(tested, 1))
    waiting.join(10)

    assert [("a", "p", 2)] == stamps(take(tested))


def test_a_flush_stands_in_the_queue_behind_what_was_accepted_before_it() -> None:
    """Events that come after a flush do not hold it up; see the outbox."""
    tested = intake()
    put(tested, "a")
    flushed = tested.flush()
    put(tested, "a")

    kinds = [type(one) for one in tested.take(10)]

    assert [Entry, Flush, Entry] == kinds
    assert not flushed.done()


def test_a_flush_of_nothing_is_over() -> None:
    """Where all is settled, there is nothing to wait for."""
    tested = intake()
    put(tested, "a")
    acknowledge(tested, take(tested))

    assert tested.flush().result(0)


def test_close_ends_each_run_with_a_mark_after_all_else() -> None:
    """Close marks come last, one per session, and end the close when they arrive."""
    tested = intake()
    put(tested, "a", "b", "a")
    end = tested.close()
    acknowledge(tested, take(tested, 10))
    marks = take(tested, 10)

    assert [("b", "p", 2), ("a", "p", 3)] == stamps(marks)
    assert {"producer.close"} == {mark.event.event_type for mark in marks}
    assert not end.done()
    acknowledge(tested, marks)

    assert end.result(0)


def test_marks_can_be_switched_off() -> None:
    """mark_on_close=False costs no event per session."""
    tested = intake(mark_on_close=False)
    put(tested, "a")
    end = tested.close()
    acknowledge(tested, take(tested, 10))

    assert end.result(0)
    assert [] == take(tested, 10)


def test_what_is_abandoned_is_counted_and_never_counted_twice() -> None:
    """Late acknowledgements of an abandoned queue change nothing."""
    tested = intake()
    put(tested, "a", "b", "c")
    entries = take(tested, 2)
    end = tested.close()

    assert 3 == tested.abandon()
    acknowledge(tested, entries)

    assert not end.result(0)
    assert {"closed": 3} == tested.dropped
    assert (0, 0) == (tested.acknowledged, tested.queued)


def test_put_ends_one_wait() -> None:
    """One wake-up per sleep, however many events come."""
    tested = intake()
    assert [] == take(tested)
    put(tested, "a", "a", "a")

    assert [True, False] == [tested.wait(0.01) for _ in range(2)]


def test_what_is_spooled_makes_room() -> None:
    """The bounds are those of memory: what is on disk does not count."""
    tested = intake(queue_max_events=2)
    put(tested, "a", "a")
    spool(tested, take(tested))
    put(tested, "a", "a", "a")

    assert {"queue_full": 1} == tested.dropped
    assert (5, 4, 2) == (tested.accepted, tested.queued, tested.spooled)


def test_gaps_wait_while_the_spool_is_full() -> None:
    """A gap event that would be lost as well is not made before there is room."""
    tested = intake()
    put(tested, "a", "a")
    first, second = take(tested)
    spool(tested, [first])
    drop(tested, [second], "spool_full")

    assert [] == take(tested)
    tested.acknowledge(1, first.size, spooled=True)

    assert ["gap"] == [one.event.event_type for one in take(tested)]


def test_the_end_of_a_run_that_is_not_delivered_is_marked_too() -> None:
    """Gaps and marks go to the spool with the rest, for whoever adopts it."""
    tested = intake(queue_max_events=2)
    put(tested, "a", "b", "b")
    spool(tested, take(tested))
    end = tested.close()
    tested.end()

    kinds = [(one.event.event_type, one.event.session_id) for one in take(tested)]

    assert ("gap", "b") == kinds[0]
    assert {("producer.close", "a"), ("producer.close", "b")} == set(kinds[1:])
    assert not end.done()


def test_what_is_in_the_spool_is_not_abandoned() -> None:
    """It is left to the next process: not delivered, not dropped."""
    tested = intake(mark_on_close=False)
    put(tested, "a", "a", "a")
    first, *_ = take(tested)
    spool(tested, [first])
    tested.close()

    assert 2 == tested.abandon()
    assert ({"closed": 2}, 1, 1) == (tested.dropped, tested.queued, tested.spooled)


def test_one_take_is_bounded_by_bytes() -> None:
    """A commit of large events is not larger than a commit of many."""
    tested = intake()
    for _ in range(5):
        tested.put(check(event(payload="x" * 600_000)))

    assert [2, 2, 1] == [len(take(tested)) for _ in range(3)]


def test_an_emit_within_an_emit_does_not_deadlock() -> None:
    """A signal handler or a finalizer may emit in the middle of emit."""
    tested = intake()

    with tested._lock:
        put(tested, "a")

    assert 1 == tested.queued


class Interrupted(BaseException):
    """As KeyboardInterrupt, which would end the tests."""


class Interrupting:
    """The clock of the intake: a signal comes while it is asked."""

    def __init__(self, arrive: Callable[[], object]) -> None:
        self._arrive = [arrive]

    def time_ns(self) -> int:
        if self._arrive:
            self._arrive.pop()()
        return time.time_ns()


def test_an_emit_of_a_signal_handler_has_a_sequence_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the middle of an emit for the same new session: none twice, all in order."""
    tested = intake()
    clock = Interrupting(lambda: put(tested, "a", "a"))
    monkeypatch.setattr("fleetwake.producer.intake.time", clock)

    put(tested, "a")

    assert [("a", "p", 1), ("a", "p", 2), ("a", "p", 3)] == stamps(take(tested))


def test_a_run_that_a_signal_handler_has_evicted_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The close mark stays the last of its run."""
    tested = intake(max_sessions=1)
    clock = Interrupting(lambda: put(tested, "b"))
    monkeypatch.setattr("fleetwake.producer.intake.time", clock)

    put(tested, "a")

    given = stamps(take(tested))
    assert [("b", "p", 1), ("a", "p", 1), ("a", "p.1", 1), ("b", "p", 2)] == given


@pytest.mark.parametrize("limit", [100, 1])
@pytest.mark.parametrize("place", range(25))
def test_an_exception_of_a_signal_handler_leaves_the_accounts_right(
    limit: int, place: int
) -> None:
    """Wherever emit is cut off, the event was accepted wholly or not at all."""
    tested = intake(queue_max_events=limit)
    put(tested, "a")
    calls = iter(range(place))

    def interrupt(frame: FrameType, kind: str, _: object) -> None:
        # Where CPython runs signal handlers: in a function's begin, after a C call.
        ours = frame.f_globals["__name__"].startswith("fleetwake.producer")
        if ours and kind in {"call", "c_return"} and next(calls, None) is None:
            sys.setprofile(None)
            raise Interrupted

    checked = check(event("a"))
    sys.setprofile(interrupt)
    try:
        tested.put(checked)
    except Interrupted:
        pass
    finally:
        sys.setprofile(None)
    put(tested, "a")

    assert tested.accepted == tested.queued + sum(tested.dropped.values())
    entries = take(tested)
    assert len(entries) == tested.held
    assert list(range(1, len(entries) + 1)) == [one.sequence for one in entries]
    end = tested.close()
    while entries:
        acknowledge(tested, entries)
        entries = take(tested)
    assert end.result(0)


def test_nothing_comes_behind_the_close_marks() -> None:
    """What is emitted then is counted; a gap or a sequence would belie the mark."""
    tested = intake()
    put(tested, "a")
    end = tested.close()
    put(tested, "a")
    acknowledge(tested, take(tested))
    gap = take(tested)
    acknowledge(tested, gap)
    marks = take(tested)
    put(tested, "a", "b")
    acknowledge(tested, marks)

    assert ["gap"] == [one.event.event_type for one in gap]
    assert [("a", "p", 4)] == stamps(marks)
    assert [] == take(tested)
    assert end.result(0)
    assert {"closed": 3} == tested.dropped


def test_a_queue_that_is_over_stays_empty() -> None:
    """New sessions after the end leave no close marks in it."""
    tested = intake(max_sessions=1)
    put(tested, "a")
    tested.close()
    tested.abandon()

    put(tested, "b", "c", "d")

    assert 0 == tested.queued
    assert {"closed": 4} == tested.dropped


def test_the_bell_does_not_pile_up() -> None:
    """Under load nobody waits for it, and it is rung for each batch."""
    tested = intake()
    for _ in range(100):
        tested.ring()

    assert [True, False] == [tested.wait(0.01) for _ in range(2)]


def test_what_is_not_stored_yet_has_an_age() -> None:
    """As long as it is in the writer's hands or waits for them."""
    tested = intake()
    assert 0.0 == tested.counts()["unstored_age_s"]
    put(tested, "a", "a")
    entries = take(tested, 1)
    until(lambda: tested.counts()["unstored_age_s"] > 0.001)
    first = tested.counts()["unstored_age_s"]
    spool(tested, entries)
    spool(tested, take(tested))

    assert first > 0
    assert 0.0 == tested.counts()["unstored_age_s"]


def test_it_tells_when_it_is_half_full() -> None:
    """Then it is high time to store what is there."""
    tested = intake(queue_max_events=4)
    put(tested, "a")
    before = tested.is_half_full()
    put(tested, "a")

    assert (False, True) == (before, tested.is_half_full())


@pytest.mark.parametrize(
    "wrong",
    [
        "not an event",
        None,
        ("tuple",),
        event(""),
        event(event_type="tool.unheard_of"),
        event(event_type=None),
        event(event_type=["tool.complete"]),
        event(b"bytes"),
        event(tool_name=17),
        event(payload=17),
        event(attributes={"a": 1}),
        event(attributes={1: "a"}),
    ],
    ids=lambda wrong: repr(wrong)[:60],
)
def test_check_refuses(wrong: Any) -> None:
    """What cannot be an event never gets a sequence."""
    with pytest.raises(InvalidEventError):
        check(wrong)


def test_check_refuses_what_is_no_content() -> None:
    """Else its event would be lost later, where the agent's tests do not see it."""
    with pytest.raises(InvalidEventError):
        check(event(), "text")  # type: ignore[arg-type]


def test_check_copies_the_attributes() -> None:
    """An agent may go on changing its dict after emit."""
    attributes = {"a": "1"}
    checked = check(event(attributes=attributes))
    attributes["a"] = "2"

    assert {"a": "1"} == checked.attributes
