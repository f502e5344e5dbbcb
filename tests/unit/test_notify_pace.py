"""The pace of a sink, its breaker, and the order of what waits for it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.payloads import alert

from fleetwake.consumers.notify.backlog import Backlog
from fleetwake.consumers.notify.notice import Notice, notice_id
from fleetwake.consumers.notify.pace import Breaker, TokenBucket, backoff_s


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def notice(alert_id: str, state: str = "open", **fields: Any) -> Notice:
    one = alert(alert_id=alert_id, state=state)
    given_fields: dict[str, Any] = {"offset": 0, "appended_ms": 0} | fields
    return Notice(
        notice_id=f"{notice_id(one, 's')}-{given_fields['offset']}",
        alert=one,
        partition=0,
        owner=lambda: None,  # type: ignore[arg-type]
        **given_fields,
    )


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    """Two at once, then one every half second."""
    clock = Clock()
    bucket = TokenBucket(2.0, 2, clock)

    assert [bucket.take(), bucket.take(), bucket.take()] == [0.0, 0.0, 0.5]
    clock.now += 0.5
    assert [bucket.take(), bucket.take()] == [0.0, 0.5]
    clock.now += 3600
    assert [bucket.take(), bucket.take(), bucket.take()] == [0.0, 0.0, 0.5]


@given(st.integers(1, 10_000))
@settings(max_examples=100, deadline=None)
def test_the_wait_doubles_within_its_bounds(attempts: int) -> None:
    """However many attempts there were."""
    wait = backoff_s(attempts, 1.0, 300.0)

    assert min(300.0, 2.0 ** min(attempts - 1, 30)) / 2 <= wait <= 300.0


def test_a_breaker_opens_after_five_failures_and_asks_once() -> None:
    """Then it waits longer each time; one success closes it."""
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(4):
        breaker.failed()
    assert (breaker.state, breaker.ready_at) == (0, 0.0)

    breaker.failed()
    assert breaker.state == 2
    assert 5.0 <= breaker.ready_at - clock.now <= 10.0

    clock.now = breaker.ready_at
    assert breaker.state == 1
    breaker.failed()
    assert breaker.state == 2
    assert 10.0 <= breaker.ready_at - clock.now <= 20.0

    breaker.succeeded()
    assert (breaker.state, breaker.ready_at) == (0, 0.0)


def test_a_sink_that_asks_for_time_gets_it() -> None:
    """Retry-After, from the first failure on."""
    clock = Clock()
    breaker = Breaker(clock)
    breaker.failed(30.0)

    assert (breaker.state, breaker.ready_at) == (0, 130.0)


def test_only_the_first_change_of_an_alert_is_due() -> None:
    """The end of an alert never goes before its beginning."""
    backlog = Backlog(100)
    first, end, other = notice("a"), notice("a", "resolved"), notice("b")
    for one in (first, end, other):
        backlog.add(one)
    first.due_at = 10.0

    assert backlog.due(5.0, 10) == [other]
    assert backlog.due(10.0, 10) == [first, other]
    assert backlog.due(10.0, 1) == [first]
    backlog.remove(first)
    assert backlog.due(5.0, 10) == [end, other]


def test_beyond_the_bound_the_oldest_goes() -> None:
    """But not one that is under way."""
    backlog = Backlog(2)
    under_way, second, third = notice("a"), notice("b"), notice("c")
    under_way.in_flight = True

    assert [backlog.add(one) for one in (under_way, second, third)] == [
        None,
        None,
        second,
    ]
    assert len(backlog) == 2


def test_a_notice_that_comes_again_is_the_one_that_waits() -> None:
    """A rebalance brings back what is under way: it is not told twice."""
    backlog = Backlog(10)
    waiting, again = notice("a", offset=1), notice("a", offset=1)
    again.owner = object  # type: ignore[assignment]
    waiting.in_flight = True
    backlog.add(waiting)
    backlog.add(again)

    assert len(backlog) == 1
    assert backlog.due(1.0, 10) == [waiting]
    assert waiting.owner is again.owner


def test_an_empty_backlog_is_never_due() -> None:
    """And has no age."""
    backlog = Backlog(2)

    assert (backlog.next_at(), backlog.oldest_ms(), backlog.due(1.0, 1)) == (
        math.inf,
        None,
        [],
    )


changes = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.booleans()), max_size=40
)


@given(changes)
@settings(max_examples=100, deadline=None)
def test_every_change_comes_out_once_and_in_order(
    plan: list[tuple[str, int, bool]],
) -> None:
    """Whatever is put off meanwhile."""
    backlog = Backlog(1_000)
    put = [notice(name, offset=n) for n, (name, _, _) in enumerate(plan)]
    out: list[Notice] = []
    for one, (_, later, take) in zip(put, plan, strict=True):
        backlog.add(one)
        one.due_at = float(later)
        if take and (due := backlog.due(3.0, 1)):
            backlog.remove(due[0])
            out += due
    while due := backlog.due(math.inf, 1):
        backlog.remove(due[0])
        out += due

    assert len(out) == len(put)
    assert len(backlog) == 0
    for name in "abc":
        told = [one.offset for one in out if one.alert.alert_id == name]
        assert told == sorted(told)


def test_the_id_of_a_notice_is_its_alert_state_level_and_sink() -> None:
    """The same everywhere and for ever; anything else would tell all again."""
    ids = {
        notice_id(alert(), "s"),
        notice_id(alert(state="escalated"), "s"),
        notice_id(alert(level="critical"), "s"),
        notice_id(alert(), "t"),
        notice_id(alert(alert_id="other"), "s"),
    }

    assert len(ids) == 5
    assert notice_id(alert(), "s") == notice_id(alert(count=9, reason="x"), "s")
    assert notice_id(alert(alert_id="a"), "s") == "9704e165-cdd5-5425-a935-1747ee582eb1"


@pytest.mark.parametrize("limit", [1, 3])
def test_one_alert_alone_cannot_grow_beyond_the_bound(limit: int) -> None:
    """Its changes count, and its oldest goes."""
    backlog = Backlog(limit)
    dropped = [backlog.add(notice("a", offset=n)) for n in range(10)]

    assert [one.offset for one in dropped if one] == list(range(10 - limit))
