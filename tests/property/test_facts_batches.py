"""Facts from whole batches are those of one event after the other."""

from __future__ import annotations

import random
from itertools import pairwise
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetwake.consumers.facts import SessionFold, batches, rows_of
from fleetwake.consumers.facts.rows import keyed
from fleetwake.consumers.metrics.joined import Joined
from fleetwake.consumers.runtime.service import EventBatch, Record
from fleetwake.schemas.arrow import to_arrow
from fleetwake.schemas.event import EVENT_TYPES, AuditEvent
from fleetwake.schemas.topics import EVENTS

START_MS = 1_760_011_200_000
ENDS = {
    "tool.attempt": ["tool.complete", "tool.complete", "tool.failure", "tool.blocked"],
    "model.request": ["model.response", "model.response", "model.error"],
    "delegation.start": ["delegation.end"],
}
KINDS = sorted(EVENT_TYPES)
ASKS = ["tool.confirmation", "permission.decision"]
OUTCOMES = ["success", "success", "failure", "denied", "allowed"]
NAMES = [None, "", "a", "b", "x" * 200 + "1", "x" * 200 + "2"]


def made(rng):
    """Events of some sessions, more or less as a source should tell them."""
    oddity = rng.choice([0, 0, 0.02, 0.2])
    unended = rng.choice([0, 0.1, 0.5, 0.97])
    sessions = rng.choice(["stu", "stu", "s"])
    # Turns, and marks that nobody needs, are seldom.
    others = rng.choice([[], ["turn.start"], ["turn.start", "turn.end"], KINDS])
    is_named = rng.random() < 0.8
    log, open_work, at_ms = [], {"s": [], "t": [], "u": []}, START_MS
    total = rng.randrange(1, 80)
    for nth in range(total):
        at_ms += rng.choice([0, 0, 1, 30_000, 200_000])
        session_id = rng.choice(sessions)
        work = open_work[session_id]
        is_odd = rng.random() < oddity
        work_id = f"id-{nth}" if is_named else None
        if is_odd:
            kind, work_id = rng.choice([*KINDS, *ASKS]), rng.choice(NAMES)
        elif others and rng.random() < 0.1:
            kind = rng.choice(others)
        elif work and (nth > total * 0.6 or rng.random() > unended):
            begun, work_id = work.pop(rng.randrange(len(work)))
            kind = rng.choice(ENDS[begun])
        else:
            kind = rng.choice([*ENDS, "tool.attempt", "tool.attempt"])
            work.append((kind, work_id))
        log.append((at_ms, event(rng, nth, session_id, kind, work_id, is_odd=is_odd)))
    return log


def event(rng, nth, session_id, kind, work_id, *, is_odd):
    return AuditEvent(
        event_type=kind,
        session_id=session_id,
        producer_id=rng.choice("pppq"),
        sequence=rng.randrange(nth + 1) if is_odd else nth + 1,
        occurred_at=START_MS * 1000 + rng.randrange(10**9),
        tool_name=rng.choice(NAMES if is_odd else ["g", "g", "h", None]),
        tool_call_id=work_id,
        span_id=work_id,
        arguments_digest=rng.choice([0, 1, 1, 1, None]),
        outcome=rng.choice(OUTCOMES),
        model=rng.choice(NAMES),
        agent_id=rng.choice([None, "a", "a", "b"]),
        agent_to=rng.choice([None, "b"]),
        error_kind=rng.choice([None, "timeout"]),
        error_type=rng.choice(NAMES),
        input_tokens=rng.choice([None, 3, -1, 2**62]),
        cost_usd=rng.choice([None, 0.1, 0.7, -1.0, 1e9]),
    )


def parts(log, ends):
    """The batches of a log that is cut at some offsets."""
    events = to_arrow([one for _, one in log])
    records = [Record(n, ms, b"", b"") for n, (ms, _) in enumerate(log)]
    edges = [0, *sorted({end % len(log) for end in ends} - {0}), len(log)]
    for first, end in pairwise(edges):
        yield EventBatch(
            topic=EVENTS,
            partition=0,
            records=records[first:end],
            events=events.slice(first, end - first),
            rows=range(end - first),
        )


def folded(log, ends, take):
    folds = {}

    def fold_of(session_id):
        return folds.setdefault(session_id, SessionFold.new(session_id, 0))

    for batch in parts(log, ends):
        take(batch, fold_of)
    return {session_id: fold.facts() for session_id, fold in folds.items()}


def at_once(batch, fold_of):
    batches.take_events(keyed(batch), fold_of)


class Part:
    """Folds what it is shown."""

    def __init__(self):
        self.folds = {}

    def process(self, batch):
        if (events := keyed(batch)) is not None:
            batches.take_events(events, self.fold_of)

    def fold_of(self, session_id):
        return self.folds.setdefault(session_id, SessionFold.new(session_id, 0))


def one_by_one(batch, fold_of):
    for row in rows_of(batch):
        fold_of(row.session_id).take(row)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**64), st.lists(st.integers(0, 80), max_size=3))
def test_whole_batches_leave_what_single_events_leave(seed, ends):
    """Copies, ids of several calls, and ends without a beginning included."""
    log = made(random.Random(seed))
    with patch.object(batches, "_FEW", 0):
        actual = folded(log, ends, at_once)

    expected = folded(log, [], one_by_one)
    assert expected == actual


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**64), st.lists(st.integers(0, 80), max_size=3))
def test_joined_batches_leave_what_single_events_leave(seed, ends):
    """Their texts are dictionaries, which name sessions that are left out too."""
    rng = random.Random(seed)
    log = [
        (ms, one._replace(session_id=rng.choice(["", "x" * 2000])))
        if rng.random() < 0.1
        else (ms, one)
        for ms, one in made(rng)
    ]
    joined = Joined(part := Part())
    with patch.object(batches, "_FEW", 0):
        for batch in parts(log, ends):
            joined.process(batch)
        joined.tick(0)

    expected = folded(log, [], one_by_one)
    assert expected == {name: one.facts() for name, one in part.folds.items()}


def test_what_is_too_much_is_forgotten_from_whole_batches_too():
    """A call that begins and ends leaves no more than 16 others open."""
    kinds = [("tool.attempt", nth) for nth in range(20)]
    kinds += [("tool.complete", nth) for nth in range(16, 20)]
    log = [
        (START_MS, AuditEvent(event_type=kind, session_id="s", tool_call_id=f"{nth}"))
        for kind, nth in kinds
    ]
    log = [(ms, one._replace(sequence=n)) for n, (ms, one) in enumerate(log, 1)]
    actual = folded(log, [], at_once)

    assert [f"{nth}" for nth in range(4, 16)] == [
        one.work_id for one in actual["s"].work
    ]
