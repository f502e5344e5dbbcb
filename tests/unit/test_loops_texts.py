"""What the assistant says and what fills its context: loops without a call."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from fleetwake.consumers.loops.limits import Limit
from fleetwake.consumers.loops.presets import PRESETS
from fleetwake.consumers.loops.rows import CONDENSED, MESSAGE, TURN, USER, Row
from fleetwake.consumers.loops.rules.condense_loop import CondenseLoop
from fleetwake.consumers.loops.rules.text_repetition import TextRepetition
from fleetwake.consumers.loops.rules.text_streak import TextStreak

NOTHING = Row._make([None] * len(Row._fields))
CALL = "call"


def row(kind, offset=0, **fields):
    fields = {"text_repeats": 1, "fingerprint_version": 1} | fields
    return NOTHING._replace(kind=kind, offset=offset, **fields)


def said(text, **fields):
    return row(MESSAGE, text_digest=text, **fields)


def watch(rule, limit=None, offset=0):
    return rule(offset, limit or PRESETS["default"][rule.name])


def told(rule, *script):
    """What the rule finds, as (state, level, count, offset of the first)."""
    found = []
    for offset, one in enumerate(script):
        if one == CALL:
            found += rule.called(SimpleNamespace(cut=offset))
        else:
            found += rule.heard(one._replace(offset=offset))
    return [(one.state, one.level.name, one.repeats, one.first.offset) for one in found]


def test_the_same_text_in_a_row_is_a_loop():
    """Warned of at three, critical at five, over when something else is said."""
    assert [
        ("open", "WARNING", 3, 1),
        ("escalated", "CRITICAL", 5, 1),
        ("resolved", "CRITICAL", 6, 1),
    ] == told(watch(TextStreak), said(1), *[said(2)] * 6, said(3))


@pytest.mark.parametrize(
    "between", [CALL, row(USER), row(TURN), said(2)], ids=["call", "user", "turn", "2"]
)
def test_a_text_with_something_between_is_none(between):
    """A call, an answer of the user, or another text."""
    assert [] == told(watch(TextStreak), said(1), said(1), between, said(1), said(1))


@pytest.mark.parametrize(
    "text",
    [
        said(1, text_repeats=0),
        said(None),
        row(CONDENSED, text_digest=1),
    ],
    ids=["blank", "unknown", "no message"],
)
def test_what_is_no_text_is_none_again(text):
    """Blank messages, those whose text is not known, and other events."""
    assert [] == told(watch(TextStreak), *[text] * 9)


def test_what_is_no_text_does_not_break_a_streak():
    """It says nothing either way."""
    blank = said(9, text_repeats=0)

    assert [("open", "WARNING", 3, 0)] == told(
        watch(TextStreak), said(1), blank, said(1), row(CONDENSED), said(1)
    )


def test_texts_of_two_versions_of_digests_are_not_compared():
    """Equal numbers mean nothing then."""
    texts = [said(1, fingerprint_version=at % 2) for at in range(9)]

    assert [] == told(watch(TextStreak), *texts)


def test_a_preview_of_a_text_never_is_critical():
    """It may be the beginning of another."""
    assert ["WARNING"] == [
        level
        for _, level, *_ in told(
            watch(TextStreak), *[said(1, digest_basis="preview") for _ in range(9)]
        )
    ]


def test_a_message_that_repeats_itself_is_warned_of_at_once():
    """Once, however many follow; it is over with the next one that does not."""
    chant = said(1, text_repeats=8)

    assert [
        ("open", "WARNING", 8, 1),
        ("resolved", "WARNING", 30, 1),
    ] == told(
        watch(TextRepetition),
        said(2, text_repeats=7),
        chant,
        said(3, text_repeats=30),
        said(4),
        said(5, text_repeats=None),
    )


@pytest.mark.parametrize("end", [CALL, row(USER), row(TURN)], ids=str)
def test_a_chant_ends_when_something_happens(end):
    """What comes later is another episode."""
    chant = said(1, text_repeats=9)

    assert [("open", 0), ("resolved", 0), ("open", 2)] == [
        (state, first)
        for state, _, _, first in told(watch(TextRepetition), chant, end, chant)
    ]


def test_condensing_again_and_again_is_a_loop():
    """Whatever the user says in between."""
    turns = [row(CONDENSED), row(USER), said(1)] * 10

    assert [("open", "WARNING", 5, 0), ("escalated", "CRITICAL", 10, 0)] == told(
        watch(CondenseLoop), *turns
    )


@pytest.mark.parametrize("work", [CALL, row(TURN)], ids=["call", "turn"])
def test_condensing_between_work_is_none(work):
    """That is what it is for."""
    assert [] == told(watch(CondenseLoop), *[row(CONDENSED), row(CONDENSED), work] * 9)


@pytest.mark.parametrize("rule", [TextStreak, CondenseLoop])
def test_limits_can_be_others(rule):
    """As the configuration says."""
    rows = [said(1), row(CONDENSED)] * 2

    assert [("open", "CRITICAL")] == [
        found[:2] for found in told(watch(rule, Limit(2, 2)), *rows)
    ]


@pytest.mark.parametrize("rule", [TextStreak, TextRepetition, CondenseLoop])
def test_a_rule_needs_the_log_from_the_last_call_on(rule):
    """Where no call was in the air, so that a replay sees whole calls."""
    watching = watch(rule, offset=3)
    before = watching.needed
    watching.called(SimpleNamespace(cut=7))
    told(watching, *[said(1, text_repeats=9), row(CONDENSED)] * 3)
    within = watching.needed
    watching.heard(row(TURN, 20))

    assert (3, 7, 20) == (before, within, watching.needed)
