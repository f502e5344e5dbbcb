"""
An agent that a fault may hit: `python agent.py JOURNAL RUN COUNT PER_S CLOSE_S LIMIT`.

Emits COUNT numbered events and notes each in the journal by one write, which a kill
does not undo; so are the statistics, now and then and at the end. No file may become
larger than LIMIT bytes, unless that is 0: a full disk.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from fleetwake.producer import AuditProducer
from fleetwake.schemas.event import AuditEvent

SESSIONS = 20
NOTE_EVERY = 10


def main(
    journal: Path, run: str, *, count: int, per_s: float, close_s: float, limit: int
) -> None:
    if limit:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    notes = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(kind: str, what: object) -> None:
        os.write(notes, f"{kind} {json.dumps(what)}\n".encode())

    producer = AuditProducer()
    begin = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, begin + number / per_s - time.monotonic()))
        producer.emit(
            AuditEvent(
                event_id=f"{run}-{number}",
                event_type="mark",
                session_id=f"{run}-s{number % SESSIONS}",
                payload=json.dumps({"number": number, "text": "x" * 500}),
            )
        )
        note("emitted", f"{run}-{number}")
        if number % NOTE_EVERY == 0:
            note("statistics", asdict(producer.statistics()))
    delivered = producer.close(close_s)
    note("statistics", asdict(producer.statistics()))
    note("closed", delivered)


if __name__ == "__main__":
    path, run, count, per_s, close_s, limit = sys.argv[1:]
    main(
        Path(path),
        run,
        count=int(count),
        per_s=float(per_s),
        close_s=float(close_s),
        limit=int(limit),
    )
