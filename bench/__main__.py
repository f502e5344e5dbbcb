"""
Every figure that README quotes, in one run on one topic.

    make bench                              1,000,000 events
    make bench ARGS="--events 300000"       the least that says something

The broker is the embedded one, so it and what is measured share the machine's cores:
read the ratios. `--json FILE` also writes the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from operator import itemgetter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import archive
from fleetwake.consumers.broker import BrokerSettings, EmbeddedKafka
from fleetwake.consumers.runtime.kafka_admin import create_topics
from fleetwake.producer.settings import KafkaSettings

SERVICES = ("loops", "metrics")
EMITTERS = (
    "fleetwake",
    "fleetwake-memory",
    "aiokafka",
    "confluent-kafka",
    "opentelemetry",
    "logging",
)
# So many of the second that the start of a client is a small part.
EMITTING = {
    "paced": ("paced", 8, 20_000, 1024),
    "digests": ("fast", 1, 200_000, 0),
    "content": ("fast", 1, 50_000, 2048),
}
QUERY_ROWS = 1_000_000
COMPACTION_ROWS = 200_000

talk = Console(stderr=True)


def child(env: dict[str, str], module: str, *args: object) -> dict[str, Any]:
    """Run one measurement in a process of its own."""
    talk.print(f"[dim]{module} {' '.join(map(str, args))}[/]")
    ran = subprocess.run(
        [sys.executable, "-m", module, *map(str, args)],
        env=env,
        stdout=subprocess.PIPE,
        check=True,
    )
    return dict(json.loads(ran.stdout))


async def measure(total: int, home: Path) -> dict[str, Any]:
    settings = BrokerSettings()
    port, controller_port = settings.port + 100, settings.controller_port + 100
    broker = EmbeddedKafka(
        home / "broker", port=port, controller_port=controller_port, heap_mb=1024
    )
    await broker.start()
    try:
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        await create_topics(kafka)
        env = os.environ | {
            "FLEETWAKE_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "FLEETWAKE_HOME": str(home),
        }
        return await asyncio.to_thread(figures, env, total)
    finally:
        await broker.stop()


def best_of_two(env: dict[str, str]) -> dict[str, Any]:
    """Have each emitter do each thing twice, in turn; see `figures`."""
    rounds = [
        {
            name: {
                what: child(env, "bench.emit", name, *how)
                for what, how in EMITTING.items()
            }
            for name in EMITTERS
        }
        for _ in range(2)
    ]
    return {
        name: {
            what: min(
                (one[name][what] for one in rounds),
                key=itemgetter("p99_us" if what == "paced" else "seconds"),
            )
            for what in EMITTING
        }
        for name in EMITTERS
    }


def figures(env: dict[str, str], total: int) -> dict[str, Any]:
    # The emitters publish too: to a topic of their own.
    aside = env | {"FLEETWAKE_KAFKA_TOPIC_PREFIX": "aside."}
    asyncio.run(create_topics(kafka_of(aside)))
    emitted = best_of_two(aside)
    adapters = child(aside, "bench.adapters")
    rules = child(env, "bench.loop_rules", "--json")
    metrics = child(env, "bench.metrics", "--json", "--quix")
    published = child(env, "bench.emit", "fleetwake", "fast", 1, total, 0)
    # Twice each, in turn, and the faster one: a slow minute of the machine must not
    # make a ratio.
    rounds = [
        {
            # A home of its own: an archive goes on where its files end.
            name: child(
                env | {"FLEETWAKE_HOME": f"{env['FLEETWAKE_HOME']}/{name}-{nth}"},
                "bench.consume",
                name,
                total,
            )
            for name in ("plain", *SERVICES)
        }
        for nth in range(2)
    ]
    consumed = {
        name: min((one[name] for one in rounds), key=lambda one: one["seconds"])
        for name in rounds[0]
    }
    return {
        "events": total,
        "emit": emitted,
        "adapters": adapters,
        "loop_rules": rules,
        "metrics": metrics,
        "query": child(env, "bench.query", QUERY_ROWS),
        "compaction": child(env, "bench.compaction", COMPACTION_ROWS),
        "published_per_s": total / published["seconds"],
        "consumed": {
            name: one | {"per_s": total / one["seconds"]}
            for name, one in consumed.items()
        },
        "archived": archive.figures(env, total),
        "freshness_s": archive.freshness(env),
    }


def kafka_of(env: dict[str, str]) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=env["FLEETWAKE_KAFKA_BOOTSTRAP_SERVERS"],
        topic_prefix=env["FLEETWAKE_KAFKA_TOPIC_PREFIX"],
    )


def show(found: dict[str, Any]) -> None:
    out = Console()
    table = Table(title=f"{found['events']:,} events, one topic, one run")
    table.add_column("what")
    table.add_column("figure", justify="right")
    table.add_column("beside")
    for name, one in found["emit"].items():
        paced = one["paced"]
        table.add_row(
            f"emit of 1 KB: {name}",
            f"p50 {paced['p50_us']:.1f} us, p99 {paced['p99_us']:.0f} us",
            f"8 threads, {paced['per_s']:,.0f} events/s in all",
        )
    for name, one in found["emit"].items():
        table.add_row(
            f"delivered: {name}",
            f"{one['digests']['per_s']:,.0f} /s",
            f"{one['content']['per_s']:,.0f} /s with 2 KB of content",
        )
    for name, one in found["adapters"].items():
        table.add_row(
            f"map and emit: {name}",
            f"p50 {one['p50_us']:.0f} us, p99 {one['p99_us']:.0f} us",
            f"map alone {one['map_us']:.0f} us",
        )
    table.add_row(
        "published, one process",
        f"{found['published_per_s']:,.0f} /s",
        "emit, encode, spool, batch, acknowledged",
    )
    rules = found["loop_rules"]
    for name, one in rules["events"].items():
        table.add_row(
            f"loop rules: {name}",
            f"p50 {one['p50_us']:.1f} us/event",
            f"p99 {one['p99_us']:.1f} us; {one['findings']:,} findings",
        )
    for name, size in rules["bytes"].items():
        table.add_row(
            f"state of a session: {name}",
            f"{size / 1000:.1f} KB",
            f"100,000 sessions: {size / 10:,.0f} MB, extrapolated from "
            f"{rules['sessions_measured']:,}",
        )
    table.add_row(
        "rebuild of loops",
        f"{rules['rebuild_s_per_million']:.0f} s",
        "per million events that a restart reads again",
    )
    beside = found["metrics"]["plain"]["per_s"]
    for name in ("windows", "service"):
        one = found["metrics"][name]
        table.add_row(
            f"metrics, {'windows alone' if name == 'windows' else 'with sessions'}",
            f"{one['per_s']:,.0f} /s and core",
            f"{one['per_s'] / beside:.1f}x a plain loop over the windows; no broker; "
            f"{', '.join(map(str, one['memory_mb']))} MB",
        )
    peer = found["metrics"]["quix"]
    table.add_row(
        "metrics, Quix Streams",
        peer if isinstance(peer, str) else f"{peer:,.0f} /s and core",
        f"one grouping, no sketches; the plain loop {beside:,.0f} /s and core",
    )
    plain = found["consumed"]["plain"]["per_s"]
    for name, one in found["consumed"].items():
        memory = one["memory_mb"]
        table.add_row(
            f"{name} consumer" if name == "plain" else f"{name} service",
            f"{one['per_s']:,.0f} /s",
            "aiokafka + fastavro, the state of loops"
            if name == "plain"
            else f"{one['per_s'] / plain:.1f}x plain; memory at each quarter "
            f"{', '.join(map(str, memory))} MB",
        )
    for name, ms in found["query"]["ms"].items():
        rows = found["query"]["rows"]
        table.add_row(f"query: {name}", f"{ms:,.0f} ms", f"archive of {rows:,} rows")
    one = found["compaction"]
    table.add_row(
        "compaction",
        f"{one['per_core_s']:,.0f} rows/s and core",
        f"{one['raw_files']:,} raw files: {one['bytes_before'] / 1e6:.0f} -> "
        f"{one['bytes_after'] / 1e6:.0f} MB; {one['peak_mb']} MB of memory",
    )
    for name, ms in one["ms_curated"].items():
        table.add_row(
            f"curated: {name}",
            f"{ms:,.0f} ms",
            f"{one['ms_raw'][name] / ms:.0f}x as fast as the raw files",
        )
    peer = found["archived"]["plain"]["per_core_s"]
    for name, one in found["archived"].items():
        table.add_row(
            f"durable Parquet: {name}",
            f"{one['per_core_s']:,.0f} /s and core",
            "aiokafka + fastavro + pyarrow, not durable"
            if name == "plain"
            else f"{one['per_core_s'] / peer:.1f}x plain; {one['bytes_per_event']:.0f} "
            f"bytes/event; {', '.join(map(str, one['memory_mb']))} MB",
        )
    fresh = found["freshness_s"]
    table.add_row(
        "queryable after its append",
        f"p50 {fresh['p50']:.1f} s, p99 {fresh['p99']:.1f} s",
        "500 events/s, defaults, local disk",
    )
    out.print(table)
    out.print(histogram(found["emit"]))


def histogram(emitted: dict[str, Any]) -> Table:
    table = Table(title="emit of 1 KB, 8 threads: share of calls within so many us")
    table.add_column("emitter")
    buckets = list(next(iter(emitted.values()))["paced"]["histogram_us"])
    for bucket in buckets:
        table.add_column(bucket, justify="right")
    _, _, count, _ = EMITTING["paced"]
    for name, one in emitted.items():
        shares = one["paced"]["histogram_us"]
        table.add_row(name, *(f"{shares[b] / count:.1%}" for b in buckets))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        found = asyncio.run(measure(args.events, Path(home)))
    show(found)
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
