"""Questions to rows of metrics, without a broker."""

from __future__ import annotations

import json
import random
from bisect import bisect_left
from collections import Counter

import pytest

from fleetwake.consumers.query.windows import Span, Windows
from fleetwake.consumers.runtime.service import Record
from fleetwake.schemas.codec import encode_record
from fleetwake.schemas.records import MetricWindow
from fleetwake.schemas.topics import METRICS
from fleetwake.schemas.windows import BUCKET_BOUNDS_US, buckets_of, buckets_text

MINUTE = 60_000_000


def row(tool="grep", *, at=0, partition=0, block=0, through=1, **fields):
    return MetricWindow(
        **{"grouping": "tool", "agent_id": "a", "tool_name": tool} | fields,
        window_start=at * MINUTE,
        source_partition=partition,
        block=block,
        applied_through=through,
    )


def test_of_two_snapshots_the_one_that_holds_more_counts():
    """Whichever comes first."""
    rows = [row(events=3, through=9), row(events=2, through=5)]

    for ordered in (rows, rows[::-1]):
        assert Windows(ordered).totals("tool")[()].sums["events"] == 3


def test_partitions_blocks_and_windows_are_added_up():
    """By the dimensions that are asked for."""
    windows = Windows(
        [
            row(events=1),
            row(events=2, partition=1),
            row(events=4, block=1),
            row(events=8, at=1),
            row("sed", events=16),
            row(events=32, window_s=3600),
            row(events=64, grouping="agent"),
        ]
    )
    by_tool = windows.totals("tool", by=("tool_name",))
    series = windows.series("tool", span=Span(60, 0, 2 * MINUTE))
    first = windows.totals(
        "tool", where={"tool_name": "grep"}, span=Span(60, 0, MINUTE)
    )

    assert {key: one.sums["events"] for key, one in by_tool.items()} == {
        ("grep",): 15,
        ("sed",): 16,
    }
    assert {at: one[()].sums["events"] for at, one in series.items()} == {
        0: 23,
        MINUTE: 8,
    }
    assert first[()].sums["events"] == 7


def test_a_quantile_is_at_most_one_percent_off():
    """Of what several rows hold together."""
    rng = random.Random(3)
    took_us = sorted(rng.lognormvariate(12, 2) for _ in range(5000))
    parts = took_us[::2], took_us[1::2]
    windows = Windows(
        row(
            partition=nth,
            durations=buckets_text(
                sorted(
                    Counter(bisect_left(BUCKET_BOUNDS_US, one) for one in part).items()
                )
            ),
        )
        for nth, part in enumerate(parts)
    )
    total = windows.totals("tool")[()]

    assert total.durations == 5000
    for share in (0.0, 0.01, 0.5, 0.95, 0.99, 1.0):
        exact_ms = took_us[int(share * 4999)] / 1000
        assert total.quantile_ms(share) == pytest.approx(exact_ms, rel=0.0101)
    assert total.duration_sum_ms() == pytest.approx(sum(took_us) / 1000, rel=0.0101)


def test_without_durations_there_is_no_quantile():
    """Nothing is made up."""
    total = Windows([row(events=1)]).totals("tool")[()]

    assert total.quantile_ms(0.5) is None
    assert total.distinct("sessions") == 0


def test_the_top_is_in_order_and_leaves_out_who_has_none():
    """Top failing tools."""
    windows = Windows(
        row(tool, failures=failures)
        for tool, failures in (("a", 2), ("b", 7), ("c", 0), ("d", 2))
    )
    top = windows.top("tool", "failures", by=("tool_name",), most=3)

    assert [(names[0], one.sums["failures"]) for names, one in top] == [
        ("b", 7),
        ("a", 2),
        ("d", 2),
    ]


@pytest.mark.parametrize(
    "ask",
    [
        lambda windows: windows.totals("tool", by=("model",)),
        lambda windows: windows.totals("tool", where={"team": None}),
        lambda windows: windows.totals("tool", span=Span(10)),
    ],
)
def test_what_a_grouping_lacks_is_refused(ask):
    """An empty answer would look like one."""
    with pytest.raises(ValueError, match="tool has"):
        ask(Windows([row(events=1)]))


@pytest.mark.parametrize("value", [b"junk", encode_record(row(grouping="newer"))])
def test_what_is_no_row_of_this_release_is_left_out(value):
    """It does not fail the page."""
    assert not Windows().add_record(value)


@pytest.mark.parametrize("junk", [{"durations": "1:x"}, {"durations": "9999:1"}])
def test_a_row_with_a_sketch_of_somebody_else_is_left_out_and_counted(junk):
    """It does not fail the question, and adds nothing."""
    windows = Windows([row(events=1), row(events=2, partition=1, **junk)])

    assert windows.totals("tool")[()].sums["events"] == 1
    assert windows.series("tool")[0][()].sums["events"] == 1
    assert windows.unreadable == 1


class Topic:
    """Rows of two partitions, one of them junk; notes from when on it is read."""

    def __init__(self):
        self.since_ms = []

    async def read(self, topic, partition, *, offset=0, since_ms=None):
        assert topic == METRICS
        self.since_ms.append(since_ms)
        for at in (0, 1, 2):
            for window_s in (60, 3600):
                one = row(at=at, partition=partition, events=1, window_s=window_s)
                key = json.dumps([one.window_start, window_s, "tool", 0, "", "a", "b"])
                yield Record(at, 0, key.encode(), encode_record(one))
        yield Record(3, 0, b"", None)
        yield Record(4, 0, [b"", b"[{}, 1, 2]"][partition], b"junk")


async def test_only_the_windows_that_are_asked_for_are_read():
    """And of the topic what can hold them: clocks may be an hour and more apart."""
    topic = Topic()
    start_us = 100 * MINUTE
    all_rows = await Windows.read(topic, range(2))
    some = await Windows.read(topic, range(2), since_us=2 * MINUTE, only=("tool", 60))
    await Windows.read(topic, [0], since_us=start_us)

    assert all_rows.totals("tool")[()].sums["events"] == 6
    assert [(one.window_start, one.window_s) for one in some.rows] == [
        (2 * MINUTE, 60)
    ] * 2
    assert topic.since_ms == [None, None, 0, 0, (100 - 65) * 60_000]
    assert all_rows.unreadable == 2


def test_old_windows_can_be_dropped():
    """Who follows the topic holds what it shows."""
    windows = Windows([row(at=0), row(at=1)])
    windows.drop_before(MINUTE)

    assert [one.window_start for one in windows.rows] == [MINUTE]


@pytest.mark.parametrize("text", ["1", "a:b", "1:2:3", ",", "1498:1", "-1:1", "3:-1"])
def test_a_text_that_is_no_sketch_is_refused(text):
    """Not taken for an empty one."""
    with pytest.raises(ValueError):
        buckets_of(text)
