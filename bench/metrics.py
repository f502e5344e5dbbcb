"""
The metrics service, without Kafka: how fast, and in how much memory.

    python -m bench.metrics                            300,000 events
    python -m bench.metrics --what service --events 10000000 --keeps-up
    python -m bench.metrics --what service --sessions 100000 --tools 5000
    python -m bench.metrics --quix                     beside Quix Streams, on a broker

Its windows alone, and all of it as it runs: the digest of each event checked, windows,
facts of sessions, budgets (none), drops. Beside them the loop that anyone would write:
fastavro, and the same sums, sketches and distinct counts in dictionaries, event by
event. Without `--keeps-up` the service catches up: it never judges who is silent.

One partition; seconds are of CPU time, so that what else runs on the machine
does not count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import psutil
from datasketches import hll_sketch
from ddsketch import DDSketch

from bench import quix
from bench.many import batches
from fleetwake.consumers.facts.kinds import state_told
from fleetwake.consumers.metrics.columns import sums_of_kind
from fleetwake.consumers.metrics.exposition import Series
from fleetwake.consumers.metrics.joined import Joined
from fleetwake.consumers.metrics.metrics import Metrics
from fleetwake.consumers.metrics.partition_windows import PartitionWindows
from fleetwake.consumers.metrics.settings import MetricsSettings
from fleetwake.consumers.metrics.windows import Limits
from fleetwake.consumers.runtime.allocation import give_back_freed_memory
from fleetwake.consumers.runtime.decode import decode as decode_batch
from fleetwake.consumers.runtime.garbage import collecting_seldom
from fleetwake.consumers.runtime.service import PartitionStart, Ticking
from fleetwake.schemas.codec import PackagedSchemas, decode
from fleetwake.schemas.topics import EVENTS
from fleetwake.schemas.windows import GROUPINGS, LG_K

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.consumers.runtime.service import Processor

BATCH = 10_000
FLUSH_EVERY = 10
PLAIN_EVENTS = 50_000
QUIX_EVENTS = 100_000


class Topic:
    """The metrics topic, of which only the size is kept."""

    def __init__(self) -> None:
        self.rows = self.bytes = 0

    async def publish(self, records: Sequence[Any]) -> None:
        self.rows += len(records)
        self.bytes += sum(len(one.key) + len(one.value or b"") for one in records)

    async def read(self, *_: object, **__: object) -> Any:
        for none in ():
            yield none


async def measured(
    what: str, total: int, sessions: int, tools: int, *, keeps_up: bool = False
) -> dict[str, Any]:
    """Decode, count and publish; making the events is not timed."""
    topic, schemas = Topic(), PackagedSchemas()
    processor = await opened(what, topic, total, sessions)
    spent, memory_mb, seen = Counter[str](), list[int](), 0
    made = batches(total, BATCH, sessions, tools, digests=what == "service")
    for nth, records in enumerate(made, 1):
        began = time.process_time()
        batch = decode_batch(EVENTS, 0, records, schemas, replayed=False)
        at_hand = time.process_time()
        processor.process(batch)
        counted = time.process_time()
        if nth % FLUSH_EVERY == 0:
            if keeps_up and isinstance(processor, Ticking):
                processor.tick(records.timestamps_ms[-1])
            await processor.flush()
        spent["decode"] += at_hand - began
        spent["count"] += counted - at_hand
        # The columns are freed here, the records with the next: made there, they are
        # not timed.
        del batch
        spent["publish"] += time.process_time() - counted
        seen += len(records)
        while seen >= total * (len(memory_mb) + 1) / 4 and len(memory_mb) < 4:
            memory_mb.append(psutil.Process().memory_info().rss // 2**20)
    began = time.process_time()
    await processor.flush()
    spent["publish"] += time.process_time() - began
    return {
        "per_s": total / spent.total(),
        "without_decode_per_s": total / (spent["count"] + spent["publish"]),
        "us_per_event": {name: 1e6 * one / total for name, one in spent.items()},
        "rows": topic.rows,
        "row_bytes": topic.bytes // topic.rows,
        "memory_mb": memory_mb,
    }


async def opened(what: str, topic: Topic, total: int, sessions: int) -> Processor:
    """The windows of a partition, or all that the service has for it."""
    settings = MetricsSettings(max_sessions=max(50_000, sessions))
    start = PartitionStart(
        topic=EVENTS,
        topic_name="events",
        partition=0,
        log_start=0,
        log_end=total,
        committed=None,
        publisher=topic,
        reader=topic,
    )
    if what == "service":
        return await Metrics(settings).open(start)
    series = Series(settings.max_series)
    return Joined(PartitionWindows(start, Limits.of(settings), {}, series))


def plain(total: int, sessions: int, tools: int) -> float:
    """The same windows as a loop over events; returns events per second."""
    schemas, rows, ids, spent = PackagedSchemas(), {}, set(), 0.0
    for records in batches(total, BATCH, sessions, tools):
        began = time.process_time()
        for record in records:
            event = decode(record.value or b"", schemas)
            if event.event_id not in ids:
                ids.add(event.event_id)
                count(rows, event)
        spent += time.process_time() - began
    return total / spent


def count(rows: dict[Any, Any], event: Any) -> None:
    calls, failures, blocks, loops, turns = sums_of_kind(
        event.event_type, event.outcome
    )
    tokens = event.input_tokens or 0, event.output_tokens or 0
    state = state_told(event.event_type, event.outcome)
    for name, grouping in GROUPINGS.items():
        if (name == "model" and not event.model) or (
            name == "failure" and not failures
        ):
            continue
        if name == "state":
            names = (state,)
        else:
            names = tuple([getattr(event, one) for one in grouping.dimensions])
        for size_s in grouping.sizes_s:
            key = name, size_s, event.occurred_at // (size_s * 1_000_000), names
            row = rows.get(key)
            if row is None:
                row = rows[key] = [0] * 8, DDSketch(), hll_sketch(LG_K)
            sums, durations, distinct = row
            added = (1, calls, failures, blocks, loops, turns, *tokens)
            for nth, amount in enumerate(added):
                sums[nth] += amount
            if grouping.durations and event.duration_ms is not None:
                durations.add(event.duration_ms)
            if grouping.distinct:
                distinct.update(event.session_id)


async def figures(
    what: list[str], total: int, shape: tuple[int, int], *, keeps_up: bool
) -> Any:
    async with collecting_seldom():
        return {
            one: await measured(one, total, *shape, keeps_up=keeps_up) for one in what
        }


def show(name: str, one: dict[str, Any]) -> None:
    us = {name: round(spent, 2) for name, spent in one["us_per_event"].items()}
    print(f"{name:16} {one['per_s']:>10,.0f} events/s; us per event: {us}")
    print(f"  without decode {one['without_decode_per_s']:>10,.0f} events/s")
    print(f"  {one['rows']:,} records of {one['row_bytes']} bytes published")
    print(f"  memory at each quarter: {one['memory_mb']} MB")


def told(peer: float | str) -> str:
    return peer if isinstance(peer, str) else f"{peer:>10,.0f} events/s"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.metrics")
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--sessions", type=int, default=0)
    parser.add_argument("--tools", type=int, default=0)
    parser.add_argument("--what", choices=["windows", "service"], action="append")
    parser.add_argument("--keeps-up", action="store_true")
    parser.add_argument("--quix", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    give_back_freed_memory()  # as the service does
    shape = args.sessions, args.tools
    what = args.what or ["windows", "service"]
    found = asyncio.run(figures(what, args.events, shape, keeps_up=args.keeps_up))
    beside = plain(min(args.events, PLAIN_EVENTS), *shape)
    peer = quix.measure(min(args.events, QUIX_EVENTS)) if args.quix else "not asked"
    if args.json:
        print(json.dumps(found | {"plain": {"per_s": beside}, "quix": peer}))
        return
    for name, one in found.items():
        show(name, one)
    print(f"plain loop       {beside:>10,.0f} events/s")
    print(f"Quix Streams     {told(peer)}; one grouping, no sketches")


if __name__ == "__main__":
    main()
