"""The figures of a back-test."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from fleetwake.consumers.loops.backtest.recording import LEVELS
from fleetwake.consumers.loops.backtest.score import Score, score

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fleetwake.consumers.loops.backtest.recording import Entry, Recording
    from fleetwake.consumers.loops.backtest.replay import Episode, Moment

__all__ = ["Delay", "Load", "Report", "RuleFigures", "Scores", "Stops", "report"]


@dataclass(frozen=True, slots=True)
class Delay:
    """
    From the first of an episode to the alert, both counted.

    In calls of a session, or steps of a case.
    """

    median: float
    p95: int
    """The nearest rank."""


@dataclass(frozen=True, slots=True)
class RuleFigures:
    """What a rule did: alerts by the level they reached, and how long it took."""

    alerts: int
    critical: int
    block: int
    sessions: int
    """Or cases, with an alert of it."""
    true_positive: int
    """Labelled loops that it was the first to tell, in time."""
    false_positive: int
    """Labelled others that it was the first to be wrong about."""
    delay_to_warning: Delay | None
    delay_to_critical: Delay | None


@dataclass(frozen=True, slots=True)
class Load:
    """Alerts, and those that became critical, for 1,000 sessions."""

    sessions: int
    alerts: int
    critical: int
    alerts_per_1000: float
    critical_per_1000: float


@dataclass(frozen=True, slots=True)
class Stops:
    """
    Sessions that had been stopped when an alert first had a level.

    `calls_saved` and `tokens_saved` came after that. Few recordings tell tokens.
    """

    sessions: int
    calls_saved: int
    tokens_saved: int


@dataclass(frozen=True, slots=True)
class Scores:
    """
    Labelled cases and sessions, and how many of them were judged rightly.

    Each is one of true_positive, true_negative, false_positive and false_negative.
    A loop is a false negative also where it is told too late or too early; too_late and
    too_early count these. critical_on_negative are false positives, or of a case that
    may warn, with a critical alert.
    """

    cases: int
    true_positive: int
    true_negative: int
    false_positive: int
    false_negative: int
    too_late: int
    too_early: int
    critical_on_negative: int
    precision: float | None
    recall: float | None
    delay: Delay | None
    """Of the true positives."""


@dataclass(frozen=True, slots=True)
class Report:
    """
    All figures.

    Cases count as sessions, and their steps as calls. `healthy` is the load of the
    sessions known to be so, None where there is none. `stopped` is by level, `patterns`
    by that of the labels. `wrong` has the scores that are not right, `alerts` all that
    was told.
    """

    sessions: int
    events: int
    calls: int
    rules: dict[str, RuleFigures]
    load: Load
    healthy: Load | None
    stopped: dict[str, Stops]
    scores: Scores
    patterns: dict[str, Scores]
    wrong: list[Score]
    alerts: list[Episode]


def report(watched: Sequence[tuple[Recording, Sequence[Episode]]]) -> Report:
    """Count over recordings and the alerts of each."""
    episodes = [one for _, found in watched for one in found]
    calls = {entry.subject: entry.place for log, _ in watched for entry in log.entries}
    healthy = {
        subject
        for log, _ in watched
        for subject in calls.keys() & log.is_healthy.keys()
        if log.is_healthy[subject]
    }
    scores = [one for log, found in watched for one in _scores(log, found)]
    patterns = {one.expected.pattern for one in scores if one.expected.is_loop}
    return Report(
        sessions=len(calls),
        events=sum(len(log.entries) for log, _ in watched),
        calls=sum(calls.values()),
        rules={
            rule: _rule_figures(rule, episodes, scores)
            for rule in sorted({one.rule for one in episodes})
        },
        load=_load(len(calls), episodes),
        healthy=_load(len(healthy), [one for one in episodes if one.subject in healthy])
        if healthy
        else None,
        stopped={level: _stops(level, watched, calls) for level in LEVELS[2:]},
        scores=_counted(scores),
        patterns={
            pattern: _counted(
                [one for one in scores if one.expected.pattern == pattern]
            )
            for pattern in sorted(patterns)
        },
        wrong=[one for one in scores if not one.is_right],
        alerts=episodes,
    )


def _scores(recording: Recording, episodes: Iterable[Episode]) -> list[Score]:
    by_subject: dict[str, list[Episode]] = defaultdict(list)
    for one in episodes:
        by_subject[one.subject].append(one)
    present = {entry.subject for entry in recording.entries}
    return [
        score(subject, expected, by_subject[subject])
        for subject, expected in recording.expected.items()
        if recording.stepwise or subject in present
    ]


def _rule_figures(
    rule: str, episodes: Iterable[Episode], scores: Iterable[Score]
) -> RuleFigures:
    own = [one for one in episodes if one.rule == rule]
    verdicts = [one.verdict for one in scores if one.rule == rule]
    return RuleFigures(
        alerts=len(own),
        critical=sum("critical" in one.reached for one in own),
        block=sum("block" in one.reached for one in own),
        sessions=len({one.subject for one in own}),
        true_positive=verdicts.count("true_positive"),
        false_positive=verdicts.count("false_positive"),
        delay_to_warning=_delay(one.delay("warning") for one in own),
        delay_to_critical=_delay(one.delay("critical") for one in own),
    )


def _load(sessions: int, episodes: Sequence[Episode]) -> Load:
    critical = sum("critical" in one.reached for one in episodes)
    return Load(
        sessions=sessions,
        alerts=len(episodes),
        critical=critical,
        alerts_per_1000=_per_1000(len(episodes), sessions),
        critical_per_1000=_per_1000(critical, sessions),
    )


def _stops(
    level: str,
    watched: Iterable[tuple[Recording, Sequence[Episode]]],
    calls: Mapping[str, int],
) -> Stops:
    saved_calls = saved_tokens = sessions = 0
    for recording, episodes in watched:
        first: dict[str, Moment] = {}
        for one in episodes:
            if one.subject and level in one.reached:
                at = one.reached[level]
                first[one.subject] = min(at, first.get(one.subject, at))
        sessions += len(first)
        saved_calls += sum(calls[name] - at.place for name, at in first.items())
        saved_tokens += sum(
            _tokens(entry)
            for index, entry in enumerate(recording.entries)
            if entry.subject in first and index > first[entry.subject].index
        )
    return Stops(sessions, saved_calls, saved_tokens)


def _tokens(entry: Entry) -> int:
    return (entry.event.input_tokens or 0) + (entry.event.output_tokens or 0)


def _counted(scores: Sequence[Score]) -> Scores:
    verdicts = Counter(one.verdict for one in scores)
    found = verdicts["true_positive"]
    missed = verdicts["missed"] + verdicts["too_late"] + verdicts["too_early"]
    wrong = verdicts["false_positive"]
    return Scores(
        cases=len(scores),
        true_positive=found,
        true_negative=verdicts["true_negative"],
        false_positive=wrong,
        false_negative=missed,
        too_late=verdicts["too_late"],
        too_early=verdicts["too_early"],
        critical_on_negative=sum(one.is_critical_on_negative for one in scores),
        precision=_share(found, found + wrong),
        recall=_share(found, found + missed),
        delay=_delay(one.delay for one in scores if one.verdict == "true_positive"),
    )


def _delay(delays: Iterable[int | None]) -> Delay | None:
    known = sorted(one for one in delays if one is not None)
    if not known:
        return None
    return Delay(median(known), known[math.ceil(len(known) * 0.95) - 1])


def _per_1000(count: int, sessions: int) -> float:
    return round(1000 * count / sessions, 2) if sessions else 0.0


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
