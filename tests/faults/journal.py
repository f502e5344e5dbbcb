"""What an agent says that it did, held against what Kafka has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.producing import published

if TYPE_CHECKING:
    from fleetwake.producer.settings import KafkaSettings
    from fleetwake.schemas.event import AuditEvent

AGENT = Path(__file__).with_name("agent.py")


@dataclass
class Agent:
    """A process that emits, and its journal."""

    journal: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(
        cls,
        folder: Path,
        kafka: KafkaSettings,
        run: str,
        *,
        count: int,
        per_s: float,
        close_s: float = 60.0,
        limit: int = 0,
        **producer: object,
    ) -> Agent:
        journal = folder / f"{run}.journal"
        options = {
            f"FLEETWAKE_PRODUCER_{k.upper()}": str(v) for k, v in producer.items()
        }
        env = (
            os.environ
            | options
            | {
                "FLEETWAKE_HOME": str(folder / "home"),
                "FLEETWAKE_PRODUCER_SPOOL_DIR": str(folder / "spool"),
                "FLEETWAKE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
                "FLEETWAKE_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
                "FLEETWAKE_KAFKA_PARTITIONS": str(kafka.partitions),
            }
        )
        arguments = map(str, (journal, run, count, per_s, close_s, limit))
        with (folder / f"{run}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, str(AGENT), *arguments], env=env, stderr=log
            )
        return cls(journal, process)

    def notes(self) -> list[tuple[str, Any]]:
        """What the journal has; the last line may have been cut by a kill."""
        if not self.journal.exists():
            return []
        *lines, _ = self.journal.read_text().split("\n")
        pairs = (line.split(" ", 1) for line in lines)
        return [(kind, json.loads(what)) for kind, what in pairs]

    def emitted(self) -> list[str]:
        return [what for kind, what in self.notes() if kind == "emitted"]

    def statistics(self) -> dict[str, Any]:
        """The last ones; empty before the first."""
        every = [what for kind, what in self.notes() if kind == "statistics"]
        return every[-1] if every else {}


@dataclass
class Outcome:
    """What became of the events of a test. Printed, so that a run can be quoted."""

    name: str
    emitted: int
    accepted: int
    delivered: int
    dropped: dict[str, int]
    lost: int
    """Accepted, neither delivered nor dropped by a stated reason."""
    duplicated: int
    """Records beyond the first of an event_id."""
    after_dedup: int
    out_of_order: int
    further: dict[str, Any] = field(default_factory=dict)

    def tell(self) -> None:
        print(f"\n{self.name}: {json.dumps(vars(self))}")


async def outcome(
    name: str,
    kafka: KafkaSettings,
    agents: list[Agent],
    accepted: set[str],
    **further: Any,
) -> tuple[Outcome, list[AuditEvent]]:
    """Read the topic and count."""
    events = [one for part in (await published(kafka)).values() for one in part]
    runs = tuple(f"{agent.journal.stem}-" for agent in agents)
    marks = [one for one in events if one.event_id.startswith(runs)]
    times = Counter(one.event_id for one in marks)
    dropped: Counter[str] = Counter()
    for agent in agents:
        dropped.update(agent.statistics().get("dropped", {}))
    return Outcome(
        name=name,
        emitted=sum(len(agent.emitted()) for agent in agents),
        accepted=len(accepted),
        delivered=len(times),
        dropped=dict(dropped),
        lost=len(accepted - times.keys()),
        duplicated=sum(times.values()) - len(times),
        after_dedup=sum(1 for number in Counter(set(times)).values() if number > 1),
        out_of_order=_out_of_order(marks),
        further=further,
    ), events


def _out_of_order(events: list[AuditEvent]) -> int:
    """First occurrences of a session's events that come before an earlier one."""
    last: dict[tuple[str, str], int] = {}
    seen: set[str] = set()
    wrong = 0
    for one in events:
        if one.event_id in seen:
            continue
        seen.add(one.event_id)
        run = one.producer_id, one.session_id
        wrong += one.sequence < last.get(run, 0)
        last[run] = max(one.sequence, last.get(run, 0))
    return wrong
