"""Whether what the service said of a subject is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetwake.consumers.loops.backtest.recording import Expected
    from fleetwake.consumers.loops.backtest.replay import Episode

__all__ = ["Score", "Verdict", "score"]

Verdict: TypeAlias = Literal[
    "true_positive",
    "true_negative",
    "false_positive",
    "missed",
    "too_late",
    "too_early",
]
"""A loop that is missed, or told too late or too early, is a false negative."""


class Score(NamedTuple):
    """
    The verdict on one subject, by its first alert.

    `place` and `rule` are of that alert, None where there is none; of no loop, of the
    first alert that is above what is allowed, if one is. `delay` is in places from the
    first of its episode to the alert, both counted.
    """

    subject: str
    expected: Expected
    verdict: Verdict
    is_critical_on_negative: bool
    rule: str | None
    place: int | None
    delay: int | None

    @property
    def is_right(self) -> bool:
        """Neither wrong nor late nor early."""
        return self.verdict in {"true_positive", "true_negative"}


def score(subject: str, expected: Expected, episodes: Iterable[Episode]) -> Score:
    """Judge the episodes of one subject."""
    wrong = {"none": "warning", "warning": "critical", "critical": "block"}
    looked_for = "warning" if expected.is_loop else wrong[expected.max_level]
    found = [one for one in episodes if looked_for in one.reached]
    first = min(found, key=lambda one: one.reached[looked_for].index, default=None)
    told = None if first is None else first.reached[looked_for]
    return Score(
        subject=subject,
        expected=expected,
        verdict=_verdict(expected, None if told is None else told.place),
        is_critical_on_negative=not expected.is_loop
        and expected.max_level != "critical"
        and any("critical" in one.reached for one in found),
        rule=None if first is None else first.rule,
        place=None if told is None else told.place,
        delay=None if first is None else first.delay(looked_for),
    )


def _verdict(expected: Expected, place: int | None) -> Verdict:
    if not expected.is_loop:
        return "true_negative" if place is None else "false_positive"
    if place is None:
        return "missed"
    if place < expected.earliest:
        return "too_early"
    if expected.latest is not None and place > expected.latest:
        return "too_late"
    return "true_positive"
