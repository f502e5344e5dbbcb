"""
What it costs an agent to be understood as it is: map and emit, per event and source.

    python -m bench.adapters

Prints one JSON object: for each recording the microseconds of `map` alone, and of map
and emit in the agent's thread (p50 and p99), paced as in `bench.emit`, to the Kafka of
the environment.
"""

from __future__ import annotations

import json
import time
from importlib.resources import files
from typing import Any

from fleetwake.producer import AuditProducer
from fleetwake.producer.adapters.agent_framework import AgentFrameworkAdapter
from fleetwake.producer.adapters.agent_sdk import AgentSdkAdapter
from fleetwake.producer.adapters.atof import AtofAdapter
from fleetwake.producer.adapters.calute import CaluteAdapter

RECORDINGS = {
    "calute": (CaluteAdapter, "calute_0.2.0_audit_events.jsonl"),
    "agent_framework": (AgentFrameworkAdapter, "agent_framework_trace_events.jsonl"),
    "agent_sdk": (AgentSdkAdapter, "agent_sdk_0.9.2_tool_audit_records.jsonl"),
    "atof": (AtofAdapter, "nemo_flow_0.2.0_atof_kitchen_sink.jsonl"),
}
ROUNDS = 100
PER_S = 2_000
BURST = 10


def lines(name: str) -> list[dict[str, Any]]:
    folder = files("fleetwake.consumers.demo") / "recordings"
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def main() -> None:
    found = {}
    for source, (adapter_of, name) in RECORDINGS.items():
        records = lines(name)
        found[source] = {"map_us": mapping(adapter_of, records)} | emitting(
            adapter_of, records
        )
    print(json.dumps(found))


def mapping(adapter_of: Any, records: list[dict[str, Any]]) -> float:
    """Microseconds per event, the fastest of many rounds."""
    best = float("inf")
    for nth in range(ROUNDS):
        adapter = adapter_of(stream=f"s{nth}", session_id=f"s{nth}")
        before = time.perf_counter()
        made = [adapter.map(record, ordinal=at) for at, record in enumerate(records, 1)]
        seconds = time.perf_counter() - before
        best = min(best, seconds / sum(map(len, made)))
    return best * 1e6


def emitting(adapter_of: Any, records: list[dict[str, Any]]) -> dict[str, float]:
    latencies = []
    with AuditProducer() as producer:
        for nth in range(ROUNDS):
            adapter = adapter_of(stream=f"s{nth}", session_id=f"s{nth}")
            for at, record in enumerate(records, 1):
                before = time.perf_counter()
                mapped = adapter.map(record, ordinal=at)
                for event, content in mapped:
                    producer.emit(event, content)
                latencies.append((time.perf_counter() - before) / max(1, len(mapped)))
                if at % BURST == 0:
                    time.sleep(BURST / PER_S)
        producer.flush(60)
    latencies.sort()
    return {
        "p50_us": latencies[len(latencies) // 2] * 1e6,
        "p99_us": latencies[len(latencies) * 99 // 100] * 1e6,
    }


if __name__ == "__main__":
    main()
