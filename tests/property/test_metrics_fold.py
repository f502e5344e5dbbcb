"""Metrics equal a plain fold over the log, whatever is killed and whenever."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tests.metrics_fold import SECOND_US, Logged, fold

from fleetwake.consumers.metrics import joined, partition_windows
from fleetwake.consumers.metrics.exposition import Series
from fleetwake.consumers.metrics.joined import Joined
from fleetwake.consumers.metrics.partition_windows import PartitionWindows
from fleetwake.consumers.metrics.prices import Price
from fleetwake.consumers.metrics.windows import Limits
from fleetwake.consumers.query.windows import Windows
from fleetwake.consumers.runtime.service import EventBatch, PartitionStart, Record
from fleetwake.schemas.columnar import EVENT_SCHEMA
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.topics import EVENTS
from fleetwake.schemas.windows import GROUPINGS, buckets_of

START_US = 1_760_011_200 * SECOND_US
BLOCK = 7
LIMITS = Limits(
    {10: 60 * SECOND_US, 60: 600 * SECOND_US, 3600: 7200 * SECOND_US}, max_rows=2
)
PRICES = {"m": (3_700, 450)}
NAMES = st.sampled_from(
    [None, "", "a", "b", "other", "x" * 200 + "1", "x" * 200 + "2", 'q","\u202e\x00']
)
TOKENS = st.one_of(st.none(), st.integers(0, 9), st.sampled_from([-1, 10**12, 2**62]))
DURATIONS = st.one_of(
    st.none(),
    st.floats(0, 1e5),
    st.sampled_from([0.0, -1.0, float("nan"), float("inf"), 1e300, 1e-3]),
)
TYPES = st.sampled_from(
    [
        *("tool.attempt", "tool.complete", "tool.failure", "tool.blocked"),
        *("turn.start", "turn.end", "error", "loop.block", "loop.warning"),
        *("tool.confirmation", "session.end"),
        *("model.response", "model.error", "new.word"),
    ]
)

EVENTS_OF_A_FLEET = st.builds(
    AuditEvent,
    event_type=TYPES,
    event_id=st.one_of(
        st.uuids().map(str), st.sampled_from(["id", *(f"{n:036d}" for n in range(4))])
    ),
    session_id=st.sampled_from(["s-1", "s-2", "s-3"]),
    source=st.sampled_from(["native", "atof"]),
    team=st.sampled_from([None, "red"]),
    occurred_at=st.one_of(
        st.integers(-10, 200), st.sampled_from([-650, -4000, -8000, 9000, -(10**10)])
    ).map(lambda second: max(1, START_US + second * SECOND_US + 17)),
    agent_id=NAMES,
    tool_name=NAMES,
    outcome=st.sampled_from(["success", "failure", "timeout", "blocked", "denied"]),
    error_kind=st.sampled_from([None, "timeout"]),
    error_type=NAMES,
    duration_ms=DURATIONS,
    cost_usd=st.one_of(
        st.none(), st.floats(0, 1), st.sampled_from([-1.0, float("nan"), 1e9])
    ),
    provider=st.sampled_from([None, "p"]),
    model=st.sampled_from([None, "m", "n"]),
    input_tokens=TOKENS,
    output_tokens=TOKENS,
    cache_read_tokens=TOKENS,
    cache_write_tokens=TOKENS,
)


@st.composite
def logs(draw):
    """Events, the broker's clock going on, and copies of earlier ones among them."""
    drawn = draw(st.lists(EVENTS_OF_A_FLEET, min_size=1, max_size=40))
    copies = draw(
        st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=8)
    )
    for of, to in copies:
        drawn.insert(to % (len(drawn) + 1), drawn[of % len(drawn)])
    log, appended = [], 0
    for offset, one in enumerate(drawn):
        appended += draw(st.sampled_from([0, 0, 0, 1, 30]))
        log.append(Logged(offset, START_US + appended * SECOND_US, one))
    return log


class DiedError(Exception):
    """The process is gone."""


@dataclass
class Group:
    """What the consumer group has committed."""

    offset: int = 0
    replay_from: int = 0


class Partition:
    def __init__(self, log):
        rows = [one.event._asdict() | {"attributes": []} for one in log]
        self.events = pa.RecordBatch.from_pylist(rows, schema=EVENT_SCHEMA)
        self.records = [
            Record(one.offset, one.appended_us // 1000, b"", b"") for one in log
        ]
        self.topic = []
        self.dies_after = None
        self.group = Group()

    async def publish(self, records):
        if self.dies_after is not None:
            self.topic += records[: self.dies_after]
            raise DiedError
        self.topic += records

    def compact(self):
        """The broker keeps the last record of each key, whoever wrote it."""
        self.topic = list({one.key: one for one in self.topic}.values())

    async def read(self, topic, partition, *, offset=0, since_ms=None):
        if topic == EVENTS:
            for one in self.records[offset:]:
                yield one
            return
        for nth, one in enumerate(self.topic):
            yield Record(nth, 0, one.key, one.value)

    async def open(self):
        """A processor as the runner makes it, the replay behind it."""
        start = PartitionStart(
            topic=EVENTS,
            topic_name="fleetwake.events",
            partition=0,
            log_start=0,
            log_end=len(self.records),
            committed=self.group.offset or None,
            publisher=self,
            reader=self,
        )
        prices = {m: Price(i, o, i, i, False) for m, (i, o) in PRICES.items()}
        processor = PartitionWindows(start, LIMITS, prices, Series(5))
        await processor.restore()
        processor = Joined(processor)
        first, end = self.group.replay_from, self.group.offset
        middle = (first + end) // 2
        for part in ((first, middle), (middle, end)):
            if part[0] < part[1]:
                processor.process(self.batch(*part, replayed=True))
        return processor

    def batch(self, first, end, *, replayed=False):
        return EventBatch(
            topic=EVENTS,
            partition=0,
            records=self.records[first:end],
            events=self.events.slice(first, end - first),
            rows=range(end - first),
            replayed=replayed,
        )

    @property
    def published(self):
        """As a reader sees it."""
        windows = Windows()
        assert all(list(map(windows.add_record, (one.value for one in self.topic))))
        return {
            (
                row.grouping,
                row.window_s,
                row.window_start // (row.window_s * SECOND_US),
                tuple(getattr(row, n) for n in GROUPINGS[row.grouping].dimensions),
                row.block,
            ): row
            for row in windows.rows
        }


async def disturbed(log, draw):
    """
    Any batches, of which some wait for a flush and some are too many to wait.

    Deaths in a flush or before the commit; owners that come back; refused flushes.
    """
    partition = Partition(log)
    processor, frozen = await partition.open(), []
    position = deaths = 0
    fates = st.sampled_from(
        ["go on", "commit", "tick", "refuse", "die in flush", "die", "thaw", "compact"]
    )
    while partition.group.offset < len(log):
        end = min(len(log), position + draw(st.integers(1, len(log))))
        if end > position:
            processor.process(partition.batch(position, end))
            position = end
        fate = draw(fates)
        if fate in ("refuse", "die in flush"):
            await interrupted(partition, processor, draw)
        if fate in ("commit", "refuse"):
            partition.group = Group(position, await processor.flush())
        elif fate == "tick":
            processor.tick(0)
        elif fate == "thaw" and frozen:
            await frozen.pop().flush()
        elif fate == "compact":
            partition.compact()
        elif fate.startswith("die") and deaths < 6:
            deaths += 1
            frozen.append(processor)
            processor, position = await partition.open(), partition.group.offset
    event(f"deaths: {deaths}")
    for late in frozen if draw(st.booleans()) else ():
        await late.flush()
    partition.compact()
    return partition.published


async def interrupted(partition, processor, draw):
    """A flush of which only the first records reach the topic."""
    partition.dies_after = draw(st.integers(0, 9))
    with contextlib.suppress(DiedError):
        await processor.flush()
    partition.dies_after = None


@pytest.fixture(autouse=True, scope="module")
def small():
    """So that a log of forty events has many blocks, and many that wait."""
    with (
        patch.object(partition_windows, "BLOCK_RECORDS", BLOCK),
        patch.multiple(joined, _MANY=9, _ENOUGH=4, _ENOUGH_OF_A_SESSION=3),
    ):
        yield


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(logs(), st.data())
def test_rows_equal_a_plain_fold_over_the_log(log, data):
    """Late, skewed, copied and too many names included; each event counts once."""
    expected = fold(
        log,
        block_records=BLOCK,
        kept_us=dict(LIMITS.kept_us),
        max_rows=LIMITS.max_rows,
        prices=PRICES,
    )
    actual = asyncio.run(disturbed(log, data.draw))

    assert expected.keys() == actual.keys()
    for key, row in expected.items():
        published = actual[key]
        assert row.applied_through == published.applied_through
        assert dict(+row.sums) == {
            name: value
            for name in GROUPINGS[key[0]].sums
            if (value := getattr(published, name))
        }
        assert dict(row.buckets) == buckets_of(published.durations)
    totals = Windows(actual.values()).totals("team", by=("source",))
    for (source,), total in totals.items():
        found = [
            row.distinct["sessions"]
            for key, row in expected.items()
            if key[:2] == ("team", 10) and key[3][0] == source
        ]
        assert round(total.distinct("sessions")) == len(set().union(*found))
