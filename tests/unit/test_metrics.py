"""What is counted, where it is published and how it is gone on with."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pytest
from prometheus_client import REGISTRY

from fleetwake.consumers.metrics import service
from fleetwake.consumers.metrics.metrics import Metrics
from fleetwake.consumers.metrics.processor import row_key
from fleetwake.consumers.metrics.settings import MetricsSettings
from fleetwake.consumers.runtime.service import EventBatch, PartitionStart, Record
from fleetwake.schemas.codec import PackagedSchemas, decode_record, encode_record
from fleetwake.schemas.columnar import EVENT_SCHEMA
from fleetwake.schemas.errors import FleetwakeError, RetriableError, UnknownSchemaError
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.records import MetricWindow
from fleetwake.schemas.topics import EVENTS, METRICS

PARTITION = 3
MINUTE = 60_000_000
NOON = 1_760_011_200_000_000
"""A full minute, UTC microseconds."""


class Log:
    """A partition of events, the metrics topic beside it, and a processor."""

    def __init__(self, **settings):
        self.settings = MetricsSettings(**settings)
        self.rows = []
        self.records = []
        self.topic = []
        self.refusals = 0
        self.processor = None

    def append(self, event_type="mark", *, at=0, appended=0, **fields):
        """One event, `at` minutes after noon; the broker takes it at `appended`."""
        offset = len(self.records)
        event = AuditEvent(
            event_type=event_type,
            occurred_at=NOON + int(at * MINUTE),
            agent_id="agent",
            tool_name="grep",
        )._replace(**fields)
        self.rows.append(event._asdict() | {"attributes": []})
        appended_ms = (NOON + appended * MINUTE) // 1000
        self.records.append(Record(offset, appended_ms, b"", b""))

    def batch(self, first=0, end=None):
        end = len(self.records) if end is None else end
        return EventBatch(
            topic=EVENTS,
            partition=PARTITION,
            records=self.records[first:end],
            events=pa.RecordBatch.from_pylist(self.rows[first:end], EVENT_SCHEMA),
            rows=range(end - first),
        )

    async def publish(self, records):
        if self.refusals:
            self.refusals -= 1
            raise RetriableError("not now")
        self.topic += records

    async def read(self, topic, partition):
        assert (topic, partition) == (METRICS, PARTITION)
        for offset, one in enumerate(self.topic):
            yield Record(offset, 0, one.key, one.value)

    async def open(self, log_end=None):
        self.processor = await Metrics(self.settings).open(
            PartitionStart(
                topic=EVENTS,
                topic_name="fleetwake.events",
                partition=PARTITION,
                log_start=0,
                log_end=len(self.records) if log_end is None else log_end,
                committed=None,
                publisher=self,
                reader=self,
            )
        )
        return self.processor

    async def run(self):
        """Process all in one batch and flush."""
        processor = await self.open()
        processor.process(self.batch())
        assert await processor.flush() is None
        return self.published

    @property
    def published(self):
        """The last row of each key."""
        schemas = PackagedSchemas()
        values = [one.value for one in self.topic if one.value is not None]
        rows = [decode_record(MetricWindow, value, schemas) for value in values]
        return {(row.window_start, row.agent_id, row.tool_name): row for row in rows}

    @property
    def events(self):
        return [row.events for row in self.published.values()]


def sample(name, **labels):
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_a_row_counts_what_happened_in_its_minute():
    """Events, ended calls, failures, blocks and tokens, by agent and tool."""
    log = Log()
    log.append("tool.attempt", outcome="attempted")
    log.append("tool.complete", outcome="success", at=0.5)
    log.append("tool.failure", outcome="failure", at=0.999)
    log.append("tool.blocked", outcome="blocked")
    log.append("policy.decision", outcome="denied")
    log.append("model.error", outcome="timeout", tool_name=None)
    for tokens in (5, 7):
        log.append(
            "model.response",
            tool_name=None,
            input_tokens=tokens,
            output_tokens=10 * tokens,
            cache_read_tokens=100 * tokens,
            cache_write_tokens=1000 * tokens,
        )
    log.append("tool.complete", outcome="success", at=1)

    rows = await log.run()

    row = {"source_partition": PARTITION, "agent_id": "agent", "tool_name": "grep"}
    assert list(rows.values()) == [
        MetricWindow(
            **row,
            window_start=NOON,
            applied_through=4,
            events=5,
            calls=3,
            failures=1,
            blocks=2,
        ),
        MetricWindow(
            **row | {"tool_name": None},
            window_start=NOON,
            applied_through=7,
            events=3,
            failures=1,
            input_tokens=12,
            output_tokens=120,
            cache_read_tokens=1200,
            cache_write_tokens=12000,
        ),
        MetricWindow(
            **row, window_start=NOON + MINUTE, applied_through=8, events=1, calls=1
        ),
    ]


@pytest.mark.parametrize(
    ("event_type", "outcome", "failures", "blocks"),
    [
        ("tool.failure", "failure", 1, 0),
        ("tool.failure", "cancelled", 0, 0),
        ("tool.complete", "timeout", 1, 0),
        ("tool.complete", "success", 0, 0),
        ("model.error", "failure", 1, 0),
        ("error", "unknown", 1, 0),
        ("tool.blocked", "denied", 0, 1),
        ("loop.block", "blocked", 0, 1),
        ("policy.decision", "denied", 0, 1),
        ("permission.decision", "denied", 0, 1),
        ("permission.decision", "allowed", 0, 0),
        ("scope.end", "failure", 0, 0),
        ("turn.end", "failure", 0, 0),
        ("turn.end", "blocked", 0, 0),
        ("delegation.end", "failure", 0, 0),
        ("skill.used", "failure", 0, 0),
        ("custom", "failure", 0, 0),
    ],
)
async def test_what_fails_inside_does_not_fail_again_around_it(
    event_type, outcome, failures, blocks
):
    """Failures and blocks are of some types only: the others are second views."""
    log = Log()
    log.append(event_type, outcome=outcome)
    (row,) = (await log.run()).values()

    assert (failures, blocks) == (row.failures, row.blocks)


async def test_rows_go_to_the_metrics_topic_beside_their_source():
    """Same partition number; the key is a JSON array that no name can forge."""
    log = Log()
    log.append(agent_id='a","b', tool_name=None)

    (row,) = (await log.run()).values()
    (record,) = log.topic

    assert (record.topic, record.partition) == (METRICS, PARTITION)
    assert record.key == row_key(row)
    assert json.loads(record.key) == [NOON, 60, 'a","b', None]


async def test_only_changed_rows_are_published_again():
    """Snapshots: the last record of a key is the whole truth."""
    log = Log()
    log.append(tool_name="a")
    log.append(tool_name="b")
    await log.run()

    log.append(tool_name="b")
    log.processor.process(log.batch(2))
    await log.processor.flush()
    await log.processor.flush()

    assert len(log.topic) == 3
    assert log.events == [1, 2]


async def test_the_latest_window_is_published_last():
    """A reader of half a flush must not take older events for late ones."""
    log = Log()
    for at in (2, 0, 1, 2):
        log.append(at=at)

    await log.run()

    assert [json.loads(one.key)[0] - NOON for one in log.topic] == [
        0,
        MINUTE,
        2 * MINUTE,
    ]


async def test_a_refused_flush_publishes_the_same_again():
    """Nothing is lost."""
    log = Log()
    log.refusals = 1
    log.append()

    with pytest.raises(RetriableError):
        await log.run()
    await log.processor.flush()

    assert log.events == [1]


async def test_a_new_owner_goes_on_from_what_was_published():
    """Rows come back, and skip the records that they already hold."""
    log = Log()
    for tool in "aab":
        log.append(tool_name=tool)
    await log.run()
    # The previous owner died before all of its snapshots were out, and committed 1.
    log.topic = [one for one in log.topic if b'"a"' in one.key]
    log.append(tool_name="a")

    processor = await log.open()
    processor.process(log.batch(1))
    await processor.flush()

    assert log.events == [3, 1]


async def test_of_two_records_of_a_row_the_one_that_holds_more_is_taken():
    """A previous owner that was only slow may publish an older snapshot last."""
    log = Log()
    log.append()
    await log.run()
    log.append()
    log.processor.process(log.batch(1))
    await log.processor.flush()
    log.topic.reverse()
    log.append()

    processor = await log.open()
    processor.process(log.batch(2))
    await processor.flush()

    assert log.published[NOON, "agent", "grep"].events == 3


async def test_an_event_lands_in_its_own_minute_however_late_it_comes():
    """While that window is kept; later ones are counted as late."""
    before = sample("fleetwake_metrics_late_events_total")
    log = Log(retention_h=1.0)
    for at in (120, 60, 59, 121, 60):
        log.append(at=at, appended=121)

    rows = await log.run()

    assert [start // MINUTE - NOON // MINUTE for start, _, _ in rows] == [60, 120, 121]
    assert sample("fleetwake_metrics_late_events_total") - before == 2


async def test_a_clock_that_is_ahead_does_not_make_the_others_late():
    """Its events count five minutes after the broker took them, at most."""
    log = Log()
    log.append(at=60 * 24 * 365)
    log.append()

    rows = await log.run()

    assert sorted(start - NOON for start, _, _ in rows) == [0, 5 * MINUTE]


async def test_names_beyond_the_limit_are_counted_together():
    """No agent can fill the memory with names."""
    before = sample("fleetwake_metrics_folded_events_total")
    log = Log(max_rows_per_window=2)
    for tool in "abcdab":
        log.append(tool_name=tool)

    rows = await log.run()

    assert {(agent, tool): row.events for (_, agent, tool), row in rows.items()} == {
        ("agent", "a"): 2,
        ("agent", "b"): 2,
        ("other", "other"): 2,
    }
    assert sample("fleetwake_metrics_folded_events_total") - before == 2


async def test_a_long_name_is_cut():
    """It shares a row with the names that begin alike."""
    log = Log()
    for end in "ab":
        log.append(tool_name="x" * 200 + end)

    rows = await log.run()

    assert list(rows) == [(NOON, "agent", "x" * 128)]
    assert log.events == [2]


@pytest.mark.parametrize("tokens", [-1, 10**12 + 1, 2**63 - 1])
async def test_token_counts_that_cannot_be_do_not_count(tokens):
    """Sums stay within a long whatever an agent claims."""
    log = Log()
    for claimed in (tokens, None, 10**12):
        log.append("model.response", input_tokens=claimed)

    (row,) = (await log.run()).values()

    assert row.input_tokens == 10**12


async def test_an_event_before_1970_is_only_late():
    """Nothing wraps around."""
    log = Log()
    log.append()
    log.append(at=-(10**8))

    await log.run()

    assert log.events == [1]


@pytest.mark.parametrize(
    "change", [{"window_s": 10}, {"source_partition": 1}, None], ids=str
)
async def test_records_that_are_no_row_of_ours_are_left_alone(change):
    """Rows of another length or partition, and tombstones, are no state of ours."""
    log = Log()
    log.append()
    (row,) = (await log.run()).values()
    value = change and encode_record(replace(row, **change))
    log.topic = [log.topic[0]._replace(value=value)]

    processor = await log.open()
    processor.process(log.batch())
    await processor.flush()

    assert list(log.published.values()) == [row]


async def test_a_row_that_nobody_can_read_is_counted_and_left_out():
    """Somebody else wrote into the topic."""
    before = sample("fleetwake_metrics_unreadable_rows_total")
    log = Log()
    log.append()
    await log.run()
    log.topic.append(log.topic[0]._replace(value=b"junk"))

    await log.open()

    assert sample("fleetwake_metrics_unreadable_rows_total") - before == 1


async def test_a_row_of_a_newer_release_stops_the_service():
    """Counting on without it would publish less than there was."""
    log = Log()
    log.append()
    await log.run()
    value = log.topic[0].value
    log.topic[0] = log.topic[0]._replace(value=value[:2] + b"newer..." + value[10:])

    with pytest.raises(UnknownSchemaError):
        await log.open()


async def test_a_topic_that_was_made_anew_is_noticed():
    """Its records would be taken for ones that were counted before."""
    log = Log()
    log.append()
    await log.run()

    with pytest.raises(FleetwakeError, match="made anew"):
        await log.open(log_end=0)


async def test_a_batch_without_events_changes_nothing():
    """Poison only."""
    log = Log()
    log.append()
    empty = log.batch()
    empty.events, empty.rows = empty.events.slice(0, 0), []
    processor = await log.open()

    processor.process(empty)
    await processor.flush()

    assert log.topic == []


async def test_prometheus_gets_counters_by_agent_and_tool():
    """Never by session; what a new owner restores is not counted again."""
    labels = {"agent": "prometheus-agent", "tool": "grep"}
    log = Log()
    log.append("tool.failure", agent_id=labels["agent"], outcome="failure")
    log.append("model.response", agent_id=labels["agent"], input_tokens=7)
    await log.run()

    processor = await log.open()
    processor.process(log.batch())

    assert sample("fleetwake_events_total", **labels) == 2
    assert sample("fleetwake_calls_total", **labels) == 1
    assert sample("fleetwake_failures_total", **labels) == 1
    assert sample("fleetwake_tokens_total", **labels, kind="input") == 7


async def test_prometheus_series_are_bounded():
    """Agents beyond the limit share one series."""
    before = sample("fleetwake_events_total", agent="other", tool="other")
    log = Log(max_series=1)
    for agent in ("first of two", "second of two", "third of two"):
        log.append(agent_id=agent)

    await log.run()

    assert sample("fleetwake_events_total", agent="second of two", tool="grep") == 0
    after = sample("fleetwake_events_total", agent="other", tool="other")
    assert after - before == 2


def test_the_service_is_made_of_the_environment(monkeypatch):
    """Its entry point needs no argument."""
    monkeypatch.setenv("FLEETWAKE_METRICS_RETENTION_H", "2")

    made = service()

    assert made.name == "metrics"
    assert made.topics == (EVENTS,)
    assert not made.owns_dead_letters
    assert MetricsSettings().retention_h == 2
