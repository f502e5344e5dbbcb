"""Metrics equal a plain fold over the log, whatever is killed and whenever."""

from __future__ import annotations

import asyncio
import contextlib

import pyarrow as pa
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from fleetwake.consumers.metrics.aggregate import (
    BLOCK_TYPES,
    CALL_TYPES,
    ERROR_TYPES,
    FAILURE_TYPES,
)
from fleetwake.consumers.metrics.metrics import Metrics
from fleetwake.consumers.metrics.settings import MetricsSettings
from fleetwake.consumers.runtime.service import EventBatch, PartitionStart, Record
from fleetwake.schemas.codec import PackagedSchemas, decode_record
from fleetwake.schemas.columnar import EVENT_SCHEMA
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.records import MetricWindow
from fleetwake.schemas.topics import EVENTS

MINUTE_US = 60_000_000
START_US = 29_333_520 * MINUTE_US
KEPT = 60
SETTINGS = MetricsSettings(retention_h=1, max_rows_per_window=3, max_series=10)
SCHEMAS = PackagedSchemas()
TOKENS = st.one_of(st.none(), st.integers(0, 9), st.sampled_from([-1, 2**62]))

EVENTS_OF_A_FLEET = st.builds(
    AuditEvent,
    event_type=st.sampled_from(
        [*sorted(CALL_TYPES), "tool.attempt", "turn.end", "error", "loop.block"]
    ),
    occurred_at=st.one_of(
        st.integers(0, 3), st.integers(0, KEPT + 5), st.sampled_from([-10, 500])
    ).map(lambda minute: START_US + minute * MINUTE_US + 17),
    agent_id=st.sampled_from([None, "a", "b"]),
    tool_name=st.sampled_from([None, "grep", "other"]),
    outcome=st.sampled_from(["success", "failure", "timeout", "blocked", "denied"]),
    input_tokens=TOKENS,
    output_tokens=TOKENS,
    cache_read_tokens=TOKENS,
    cache_write_tokens=TOKENS,
)
LOGS = st.lists(st.tuples(EVENTS_OF_A_FLEET, st.integers(0, 3)), min_size=1).map(
    lambda pairs: [
        # The broker's clock goes on; minutes since START_US.
        (one, sum(minutes for _, minutes in pairs[: n + 1]))
        for n, (one, _) in enumerate(pairs)
    ]
)


def fold(log):
    """The truth: one event after the other, in a dictionary."""
    rows, windows, latest = {}, {}, 0
    for offset, (one, appended) in enumerate(log):
        ahead = START_US + (appended + 5) * MINUTE_US
        window = min(one.occurred_at, ahead) // MINUTE_US
        latest = max(latest, window)
        if window < latest - KEPT:
            continue
        pairs = windows.setdefault(window, set())
        pair = one.agent_id, one.tool_name
        if pair not in pairs and len(pairs) >= SETTINGS.max_rows_per_window:
            pair = "other", "other"
        pairs.add(pair)
        row = rows.setdefault((window, *pair), dict.fromkeys(MEASURES, 0))
        row["events"] += 1
        row["calls"] += one.event_type in CALL_TYPES
        row["failures"] += one.event_type in ERROR_TYPES or (
            one.event_type in FAILURE_TYPES and one.outcome in ("failure", "timeout")
        )
        row["blocks"] += one.event_type in BLOCK_TYPES and (
            one.outcome in ("blocked", "denied")
        )
        for name in MEASURES[4:]:
            claimed = getattr(one, name)
            row[name] += claimed if claimed and 0 < claimed <= 10**12 else 0
        row["applied_through"] = offset
    return {key: tuple(row.values()) for key, row in rows.items()}


MEASURES = (
    "events",
    "calls",
    "failures",
    "blocks",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
)


class DiedError(Exception):
    """The process is gone."""


class Partition:
    def __init__(self, log):
        rows = [one._asdict() | {"attributes": []} for one, _ in log]
        self.events = pa.RecordBatch.from_pylist(rows, schema=EVENT_SCHEMA)
        self.records = [
            Record(n, (START_US + appended * MINUTE_US) // 1000, b"", b"")
            for n, (_, appended) in enumerate(log)
        ]
        self.topic = []
        self.dies_after = None

    async def publish(self, records):
        if self.dies_after is not None:
            self.topic += records[: self.dies_after]
            raise DiedError
        self.topic += records

    async def read(self, topic, partition):
        for offset, one in enumerate(self.topic):
            yield Record(offset, 0, one.key, one.value)

    async def open(self):
        return await Metrics(SETTINGS).open(
            PartitionStart(
                topic=EVENTS,
                topic_name="fleetwake.events",
                partition=0,
                log_start=0,
                log_end=len(self.records),
                committed=None,
                publisher=self,
                reader=self,
            )
        )

    def batch(self, first, end):
        return EventBatch(
            topic=EVENTS,
            partition=0,
            records=self.records[first:end],
            events=self.events.slice(first, end - first),
            rows=range(end - first),
        )

    @property
    def published(self):
        """As a reader sees it: per key the record that holds most."""
        rows = {}
        for record in self.topic:
            row = decode_record(MetricWindow, record.value, SCHEMAS)
            key = row.window_start // MINUTE_US, row.agent_id, row.tool_name
            if key not in rows or rows[key].applied_through < row.applied_through:
                rows[key] = row
        return {
            key: (*(getattr(row, name) for name in MEASURES), row.applied_through)
            for key, row in rows.items()
        }


async def disturbed(log, draw):
    """Any batches; deaths in a flush or before the commit; owners that come back."""
    partition = Partition(log)
    processor, frozen = await partition.open(), []
    position = committed = deaths = 0
    fates = st.sampled_from(["go on", "commit", "die in flush", "die", "thaw"])
    while committed < len(log):
        end = min(len(log), position + draw(st.integers(1, len(log))))
        if end > position:
            processor.process(partition.batch(position, end))
            position = end
        fate = draw(fates)
        if fate == "commit":
            await processor.flush()
            committed = position
        elif fate == "thaw" and frozen:
            await frozen.pop().flush()
        elif fate.startswith("die") and deaths < 6:
            deaths += 1
            if fate == "die in flush":
                partition.dies_after = draw(st.integers(0, 5))
                with contextlib.suppress(DiedError):
                    await processor.flush()
                partition.dies_after = None
            frozen.append(processor)
            processor, position = await partition.open(), committed
    event(f"deaths: {deaths}")
    return partition.published


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(LOGS, st.data())
def test_rows_equal_a_plain_fold_over_the_log(log, data):
    """Late, skewed and too many names included; each event counts exactly once."""
    expected = fold(log)
    actual = asyncio.run(disturbed(log, data.draw))
    event(f"rows: {min(len(expected), 9)}")

    assert expected == actual
