"""
What emitting costs the agent, and how fast one process publishes; ours and others.

    python -m bench.emit EMITTER paced|fast THREADS EVENTS CONTENT_BYTES

Prints one JSON object. `paced`: each thread emits, sleeps, emits, as agents do, 4,000
events a second in all; it makes each event, untimed, right before the call that is
timed, as agents and adapters do. `fast`: events made beforehand, as fast as they are
taken (blocking when full), until all are delivered. CONTENT_BYTES 0: the digests are
given, as by a source that makes its own; else each event brings the text of a result,
whose digest, preview, redaction and payload the emitter has to make.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING

from bench.emitters import THREADED, aiokafka_send
from bench.events import events, with_content

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bench.emitters import Made

_PACE_PER_S = 4_000
_BURST = 10
_BUCKETS_US = (2, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000)


def emit(
    name: str, *, paced: bool, threads: int, count: int, content_bytes: int
) -> dict[str, object]:
    each = count // threads
    count = each * threads
    parts: list[Iterable[Made]] = [
        made(each, content_bytes, seed=seed) for seed in range(threads)
    ]
    if not paced:
        parts = [list(part) for part in parts]
        # No agent holds so many: the collector shall not look at them again and again.
        gc.collect()
        gc.freeze()
    pause_s = _BURST * threads / _PACE_PER_S if paced else 0.0
    started, worked = time.perf_counter(), time.process_time()
    if name == "aiokafka":
        latencies, lost = asyncio.run(aiokafka_send(parts, pause_s, _BURST))
    else:
        latencies, lost = in_threads(name, parts, pause_s)
    seconds, worked = time.perf_counter() - started, time.process_time() - worked
    latencies.sort()
    return {
        "p50_us": latencies[len(latencies) // 2] / 1000,
        "p99_us": latencies[len(latencies) * 99 // 100] / 1000,
        "max_us": latencies[-1] / 1000,
        "histogram_us": {
            f"<={most}": sum(one <= most * 1000 for one in latencies)
            for most in _BUCKETS_US
        },
        "seconds": seconds,
        "per_s": count / seconds,
        # Of all threads, the start of the client included: a loaded machine shows in
        # the times above, less in this.
        "cpu_us_per_event": worked / count * 1e6,
        "lost": lost,
    }


def made(count: int, content_bytes: int, *, seed: int) -> Iterator[Made]:
    """Make the events of one agent."""
    if content_bytes:
        yield from with_content(count, content_bytes, seed)
    else:
        for event in events(count, seed):
            yield event, None


def in_threads(
    name: str, parts: Sequence[Iterable[Made]], pause_s: float
) -> tuple[list[int], int]:
    emitter = THREADED[name]()
    clock = time.perf_counter_ns
    latencies: list[list[int]] = [[] for _ in parts]

    def agent(nth: int) -> None:
        noted = latencies[nth]
        for at, one in enumerate(parts[nth]):
            before = clock()
            emitter.emit(one)
            noted.append(clock() - before)
            if pause_s and at % _BURST == 0:
                time.sleep(pause_s)

    agents = [threading.Thread(target=agent, args=(n,)) for n in range(len(parts))]
    for one in agents:
        one.start()
    for one in agents:
        one.join()
    return [n for part in latencies for n in part], emitter.finish()


if __name__ == "__main__":
    name, mode, threads, count, content_bytes = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        # What a missing broker leaves in the spool is nobody's.
        os.environ.setdefault("FLEETWAKE_HOME", folder)
        found = emit(
            name,
            paced=mode == "paced",
            threads=int(threads),
            count=int(count),
            content_bytes=int(content_bytes),
        )
    print(json.dumps(found))
