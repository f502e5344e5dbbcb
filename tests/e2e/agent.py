"""
One agent process: `python agent.py SEED SESSIONS JOURNAL`.

Publishes its part of a fleet with planted loops, and writes what it emitted to the
journal: the truth that everything downstream is held against.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from fleetwake.consumers.demo.fleet import generate
from fleetwake.producer import AuditProducer
from fleetwake.producer.settings import ProducerSettings

PAUSE_EVERY = 25
PAUSE_S = 0.05


@dataclass(frozen=True)
class Journal:
    """What an agent emitted."""

    events: list[dict[str, object]]
    loops: list[tuple[str, str]]
    marks: int

    @classmethod
    def read(cls, path: Path) -> Journal:
        found = json.loads(path.read_text())
        loops = [(session, rule) for session, rule in found["loops"]]
        return cls(found["events"], loops, found["marks"])


def main(seed: int, sessions: int, journal: Path) -> None:
    now_us = time.time_ns() // 1000
    fleet = generate(sessions=sessions, seed=seed, now_us=now_us)
    settings = ProducerSettings(on_full="block", block_timeout_s=120.0)
    producer = AuditProducer(settings)
    emitted = []
    for number, made in enumerate(fleet.events):
        event = made._replace(event_id=f"{seed}-{number}")
        producer.emit(event)
        emitted.append(
            {
                "event_id": event.event_id,
                "agent": event.agent_id,
                "tool": event.tool_name,
                "minute": event.occurred_at // 60_000_000,
                "outcome": event.outcome,
                "tokens": event.input_tokens or 0,
            }
        )
        if number % PAUSE_EVERY == 0:
            # A fleet works for a while: the services are killed in the middle of it.
            time.sleep(PAUSE_S)
    if not producer.close(120):
        raise SystemExit(f"not delivered: {producer.statistics()}")
    told = producer.statistics()
    journal.write_text(
        json.dumps(
            {
                "events": emitted,
                "loops": [(one.session_id, one.rule) for one in fleet.loops],
                "marks": told.acknowledged - len(emitted),
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
