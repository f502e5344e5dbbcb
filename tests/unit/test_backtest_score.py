"""When an alert is right, and how a back-test counts."""

from __future__ import annotations

import pytest

from fleetwake.consumers.loops.backtest.recording import Entry, Expected, Recording
from fleetwake.consumers.loops.backtest.replay import Episode, Moment
from fleetwake.consumers.loops.backtest.report import Delay, report
from fleetwake.consumers.loops.backtest.score import score
from fleetwake.schemas.event import AuditEvent

LOOP = Expected(is_loop=True, pattern="cycle", earliest=3, latest=5)
QUIET = Expected(is_loop=False, pattern="none")
LENIENT = Expected(is_loop=False, pattern="none", max_level="warning")


def at(place: int) -> Moment:
    """Places are one entry each."""
    return Moment(index=place - 1, place=place)


def episode(
    warning: int, critical: int | None = None, *, rule="rule", subject="s", began=1
) -> Episode:
    reached = {"warning": at(warning)}
    if critical is not None:
        reached["critical"] = at(critical)
    return Episode(rule, subject, at(began), reached)


@pytest.mark.parametrize(
    ("expected", "episodes", "verdict"),
    [
        (LOOP, [], "missed"),
        (LOOP, [episode(2)], "too_early"),
        (LOOP, [episode(3)], "true_positive"),
        (LOOP, [episode(5)], "true_positive"),
        (LOOP, [episode(6)], "too_late"),
        (LOOP, [episode(4), episode(2)], "too_early"),
        (LOOP, [episode(7, 7), episode(5)], "true_positive"),
        (QUIET, [], "true_negative"),
        (QUIET, [episode(9)], "false_positive"),
        (LENIENT, [episode(9)], "true_negative"),
        (LENIENT, [episode(2), episode(3, 7)], "false_positive"),
    ],
)
def test_the_first_alert_decides(expected, episodes, verdict):
    """Of any level for a loop; above what is allowed for what is none."""
    assert verdict == score("s", expected, episodes).verdict


@pytest.mark.parametrize(
    ("expected", "episodes", "is_critical"),
    [
        (LOOP, [episode(3, 3)], False),
        (QUIET, [episode(3)], False),
        (QUIET, [episode(3), episode(4, 8)], True),
        (LENIENT, [episode(3)], False),
        (LENIENT, [episode(3, 5)], True),
    ],
)
def test_critical_on_negative_is_told_apart(expected, episodes, is_critical):
    """It is the false alarm that would have stopped somebody."""
    assert is_critical == score("s", expected, episodes).is_critical_on_negative


def test_a_score_names_rule_place_and_delay():
    """Both ends of the delay are counted: the third identical call has 3."""
    found = score("s", LOOP, [episode(6), episode(4, rule="early", began=2)])

    assert ("early", 4, 3) == (found.rule, found.place, found.delay)


def log(calls: dict[str, int], expected=None, healthy=None, tokens=0) -> Recording:
    """One entry for each call of each session, sessions one after the other."""
    event = AuditEvent(input_tokens=tokens, output_tokens=1 if tokens else None)
    entries = [
        Entry(event, 0, subject, place)
        for subject, count in calls.items()
        for place in range(1, count + 1)
    ]
    return Recording(entries, expected or {}, healthy or {}, stepwise=False)


def test_labels_are_counted_and_shared():
    """Late and early are false negatives as well; patterns are those of loops."""
    labels = {
        "hit": LOOP,
        "late": LOOP,
        "early": LOOP._replace(pattern="streak"),
        "missed": LOOP,
        "quiet": QUIET,
        "alarm": QUIET,
    }
    told = [
        episode(4, subject="hit"),
        episode(6, subject="late"),
        episode(1, subject="early"),
        episode(4, 5, subject="alarm"),
    ]
    found = report([(log(dict.fromkeys(labels, 8), labels), told)])
    scores = found.scores

    assert (6, 1, 1, 1, 3, 1, 1, 1) == (
        scores.cases,
        scores.true_positive,
        scores.true_negative,
        scores.false_positive,
        scores.false_negative,
        scores.too_late,
        scores.too_early,
        scores.critical_on_negative,
    )
    assert (0.5, 0.25) == (scores.precision, scores.recall)
    assert {"cycle": 3, "streak": 1} == {
        name: one.cases for name, one in found.patterns.items()
    }
    assert ["late", "early", "missed", "alarm"] == [one.subject for one in found.wrong]


def test_labels_of_sessions_that_are_not_there_do_not_count():
    """A loop that nobody could see is not missed."""
    found = report([(log({"s": 3}, {"s": QUIET, "gone": LOOP}), [])])

    assert (1, 0) == (found.scores.cases, found.scores.false_negative)


def test_a_case_without_steps_counts():
    """Nothing was said where nothing was done."""
    empty = Recording([], {"s": QUIET}, {}, stepwise=True)

    assert 1 == report([(empty, [])]).scores.true_negative


def test_load_is_for_a_thousand_sessions():
    """Of all, and of those that are known to be healthy."""
    calls = {"a": 5, "b": 5, "c": 5, "d": 5}
    healthy = {"a": True, "b": True, "c": False}
    told = [episode(3, 5, subject="c"), episode(3, subject="a")]
    found = report([(log(calls, healthy=healthy), told)])

    assert (4, 500.0, 250.0) == (
        found.load.sessions,
        found.load.alerts_per_1000,
        found.load.critical_per_1000,
    )
    assert found.healthy is not None
    assert (2, 500.0, 0.0) == (
        found.healthy.sessions,
        found.healthy.alerts_per_1000,
        found.healthy.critical_per_1000,
    )


def test_a_stop_saves_what_comes_after_it():
    """From the first critical alert of a session on, in calls and in tokens."""
    told = [episode(3, 8), episode(4, 6), episode(2, subject="r")]
    found = report([(log({"s": 10, "r": 10}, tokens=9), told)]).stopped

    assert (1, 4, 40) == (
        found["critical"].sessions,
        found["critical"].calls_saved,
        found["critical"].tokens_saved,
    )
    assert 0 == found["block"].sessions


def test_rules_have_their_delays_and_their_verdicts():
    """Median and 95th percentile of the calls from an episode's first."""
    labels = {"s": LOOP, "r": QUIET}
    told = [episode(3, 5), episode(5, 9), episode(4, subject="r", began=4)]
    found = report([(log({"s": 9, "r": 9}, labels), told)]).rules["rule"]

    assert (3, 2, 0, 2) == (found.alerts, found.critical, found.block, found.sessions)
    assert (1, 1) == (found.true_positive, found.false_positive)
    assert Delay(3, 5) == found.delay_to_warning
    assert Delay(7, 9) == found.delay_to_critical


def test_nothing_is_counted_without_dividing_by_it():
    """An empty file is no error."""
    found = report([])

    assert (0, 0.0, None) == (
        found.sessions,
        found.load.alerts_per_1000,
        found.scores.precision,
    )
