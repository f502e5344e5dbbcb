"""
What `emit` costs the agent, and how fast one process publishes.

    python -m bench.emit paced|fast THREADS EVENTS

Prints one JSON object. `paced`: each thread emits, sleeps, emits, as agents do, 4,000
events a second in all; each call is timed in the thread that makes it. `fast`: as fast
as the queue takes them (it blocks when full), until all are acknowledged.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from bench.events import events
from fleetwake.producer import AuditProducer
from fleetwake.producer.settings import ProducerSettings

_PACE_PER_S = 4_000
_BURST = 10


def emit(*, paced: bool, threads: int, count: int) -> dict[str, object]:
    made = list(events(count))
    parts = [made[n::threads] for n in range(threads)]
    latencies: list[list[int]] = [[] for _ in range(threads)]
    producer = AuditProducer(ProducerSettings(on_full="block", block_timeout_s=120.0))
    clock = time.perf_counter_ns
    pause_s = _BURST * threads / _PACE_PER_S if paced else 0.0

    def agent(nth: int) -> None:
        noted = latencies[nth]
        for at, event in enumerate(parts[nth]):
            before = clock()
            producer.emit(event)
            noted.append(clock() - before)
            if pause_s and at % _BURST == 0:
                time.sleep(pause_s)

    started = time.perf_counter()
    agents = [threading.Thread(target=agent, args=(n,)) for n in range(threads)]
    for one in agents:
        one.start()
    for one in agents:
        one.join()
    if not producer.flush(120):
        raise SystemExit(f"not delivered: {producer.statistics()}")
    seconds = time.perf_counter() - started
    producer.close(10)
    every = sorted(n for part in latencies for n in part)
    return {
        "p50_us": every[len(every) // 2] / 1000,
        "p99_us": every[len(every) * 99 // 100] / 1000,
        "seconds": seconds,
        "per_s": count / seconds,
    }


if __name__ == "__main__":
    mode, threads, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    print(json.dumps(emit(paced=mode == "paced", threads=threads, count=count)))
