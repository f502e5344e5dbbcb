"""Facts of sessions are those of one undisturbed pass, whatever is killed."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetwake.consumers.metrics import joined
from fleetwake.consumers.metrics.joined import Joined
from fleetwake.consumers.metrics.sessions import PartitionSessions
from fleetwake.consumers.metrics.settings import MetricsSettings
from fleetwake.consumers.runtime.service import EventBatch, PartitionStart, Record
from fleetwake.schemas.arrow import to_arrow
from fleetwake.schemas.codec import PackagedSchemas, decode_record, encode_record
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.records import Block, LoopAlert, SessionFacts, Verdict
from fleetwake.schemas.topics import ALERTS, EVENTS, VERDICTS

START_MS = 1_760_011_200_000
SCHEMAS = PackagedSchemas()
SETTINGS = MetricsSettings(max_sessions=10)
TYPES = [
    "turn.start",
    "turn.end",
    "tool.attempt",
    "tool.confirmation",
    "permission.decision",
    "tool.complete",
    "tool.failure",
    "tool.blocked",
    "model.request",
    "model.response",
    "model.error",
    "session.heartbeat",
    "session.end",
    "producer.close",
]
SESSION = st.sampled_from(["s", "t", "u"])
EVENT = st.builds(
    AuditEvent,
    event_type=st.sampled_from(TYPES),
    session_id=SESSION,
    producer_id=st.sampled_from(["p", "q"]),
    # Some twice, some out of order, some without.
    sequence=st.integers(0, 30),
    occurred_at=st.integers(0, 10**9).map(lambda us: START_MS * 1000 + us),
    tool_name=st.sampled_from([None, "grep", "rm"]),
    tool_call_id=st.sampled_from([None, "1", "2"]),
    arguments_digest=st.sampled_from([None, 1, 2]),
    outcome=st.sampled_from(
        ["success", "failure", "denied", "allowed", "requires_confirmation"]
    ),
    agent_id=st.sampled_from([None, "a", "b"]),
    input_tokens=st.sampled_from([None, 3]),
    cost_usd=st.sampled_from([None, 0.5]),
)
ALERT = st.builds(
    LoopAlert,
    alert_id=st.sampled_from(["x", "y"]),
    state=st.sampled_from(["open", "escalated", "resolved"]),
    level=st.sampled_from(["warning", "critical"]),
    session_id=SESSION,
    first_occurred_at=st.just(START_MS * 1000),
    **{
        name: st.just("r")
        for name in ("rule", "reason", "first_event_id", "last_event_id")
    },
    **{
        name: st.just(1)
        for name in ("count", "last_occurred_at", "source_partition", "source_offset")
    },
)
BLOCKS = st.lists(
    st.builds(Block, reason=st.just("r"), issuer=st.just("i")), max_size=1
)
VERDICT = st.builds(
    Verdict, session_id=SESSION, issued_at=st.just(1), blocks=BLOCKS.map(tuple)
)
SECONDS = st.one_of(st.integers(0, 3), st.sampled_from([400, 1000]))


class DiedError(Exception):
    """The process is gone."""


class Partition:
    """Three topics of one partition number, and the sessions topic beside them."""

    def __init__(self, log, alerts, verdicts):
        self.events = to_arrow([one for one, _ in log])
        times = [START_MS]
        for _, seconds in log:
            times.append(times[-1] + seconds * 1000)
        self.end_ms = times[-1]
        # Alerts and verdicts come when all the events are there.
        self.records = {
            EVENTS: [Record(n, ms, b"", b"") for n, ms in enumerate(times[1:])],
            ALERTS: [self.record(n, one) for n, one in enumerate(alerts)],
            VERDICTS: [self.record(n, one) for n, one in enumerate(verdicts)],
        }
        self.topic = []
        self.dies_after = None

    def record(self, offset, one):
        return Record(offset, self.end_ms, b"", encode_record(one))

    async def publish(self, records):
        if self.dies_after is not None:
            self.topic += records[: self.dies_after]
            raise DiedError
        self.topic += records

    async def read(self, topic, partition):
        for offset, one in enumerate(self.topic):
            yield Record(offset, self.end_ms, one.key, one.value)

    async def open(self):
        processor = PartitionSessions(
            PartitionStart(
                topic=EVENTS,
                topic_name="fleetwake.events",
                partition=0,
                log_start=0,
                log_end=len(self.records[EVENTS]),
                committed=None,
                publisher=self,
                reader=self,
            ),
            SETTINGS,
        )
        await processor.restore()
        return Joined(processor)

    def batch(self, topic, first, end):
        return EventBatch(
            topic=topic,
            partition=0,
            records=self.records[topic][first:end],
            events=self.events.slice(first, end - first) if topic == EVENTS else None,
            rows=range(end - first),
        )

    @property
    def published(self):
        """As a reader sees it: the last record of each session."""
        facts = [decode_record(SessionFacts, one.value, SCHEMAS) for one in self.topic]
        return {one.session_id: one for one in facts}


def plain_fold(log):
    """The truth of what is counted, one event after the other."""
    seen, found = {}, {}
    for one, _ in log:
        last = seen.setdefault((one.session_id, one.producer_id), 0)
        if 0 < one.sequence <= last:
            continue
        seen[one.session_id, one.producer_id] = one.sequence or last
        counts = found.setdefault(one.session_id, [0, 0, 0, 0, 0, 0.0])
        ended = one.event_type in ("tool.complete", "tool.failure")
        failed = ended and one.outcome == "failure"
        counts[0] += 1
        counts[1] += one.event_type == "turn.start"
        counts[2] += ended or one.event_type == "tool.blocked"
        counts[3] += failed or one.event_type == "model.error"
        counts[4] += one.input_tokens or 0
        counts[5] += one.cost_usd or 0
    return {session_id: tuple(counts) for session_id, counts in found.items()}


async def undisturbed(partition):
    processor = await partition.open()
    for topic, records in partition.records.items():
        if records:
            processor.process(partition.batch(topic, 0, len(records)))
    processor.tick(partition.end_ms)
    await processor.flush()
    return partition.published


async def disturbed(partition, steps):
    """Any batches in any order of topics; deaths in a flush or before the commit."""
    processor = await partition.open()
    ends = {topic: len(records) for topic, records in partition.records.items()}
    committed = dict.fromkeys(ends, 0)
    position = dict(committed)
    for topic, most, fate, published in steps:
        first, end = position[topic], min(ends[topic], position[topic] + most)
        if first < end:
            processor.process(partition.batch(topic, first, end))
            position[topic] = end
        if fate == "commit":
            await processor.flush()
            committed = dict(position)
        elif fate == "tick":
            processor.tick(partition.end_ms)
        elif fate.startswith("die"):
            if fate == "die in flush":
                partition.dies_after = published
                with contextlib.suppress(DiedError):
                    await processor.flush()
                partition.dies_after = None
            processor, position = await partition.open(), dict(committed)
    for topic, end in ends.items():
        if position[topic] < end:
            processor.process(partition.batch(topic, position[topic], end))
    processor.tick(partition.end_ms)
    await processor.flush()
    return partition.published


@pytest.fixture(autouse=True, scope="module")
def few():
    """So that of few events some are too many to wait."""
    with patch.multiple(joined, _MANY=9, _ENOUGH=4, _ENOUGH_OF_A_SESSION=3):
        yield


STEP = st.tuples(
    st.sampled_from([EVENTS, EVENTS, ALERTS, VERDICTS]),
    st.integers(0, 12),
    st.sampled_from(["go on", "commit", "tick", "die in flush", "die"]),
    st.integers(0, 3),
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(EVENT, SECONDS), min_size=1, max_size=25),
    st.lists(ALERT, max_size=4),
    st.lists(VERDICT, max_size=2),
    st.lists(STEP, max_size=20),
)
def test_facts_are_those_of_one_undisturbed_pass(log, alerts, verdicts, steps):
    """Restored from the topic alone; each event counts exactly once."""
    expected = asyncio.run(undisturbed(Partition(log, alerts, verdicts)))
    actual = asyncio.run(disturbed(Partition(log, alerts, verdicts), steps))
    counted = {
        one.session_id: (
            one.events,
            one.turns,
            one.calls,
            one.failures,
            one.input_tokens,
            one.cost_usd,
        )
        for one in actual.values()
        if one.events
    }

    assert plain_fold(log) == counted
    # An event that was seen before is in no number, and may be published or not.
    assert {key: replace(one, applied_through=0) for key, one in expected.items()} == {
        key: replace(one, applied_through=0) for key, one in actual.items()
    }
