"""
How long a question takes: the archive's views over files of many rows.

    python -m bench.query 1000000
    python -m bench.query 10000000 FOLDER    # keeps them there, and uses what is there

Prints JSON: the time in ms of each question, of opening, and of one session; and what
`archive verify` takes for the same files, in a process of its own. The rows are made,
not recorded (`bench.rows`): sessions of 100 calls, each with a model's answer before
it, 0.1 % of the rows published twice; in files of 500,000 rows and 12 partitions.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow.parquet as pq

from bench.rows import write_archive
from fleetwake.consumers.query import open_archive
from fleetwake.consumers.runtime.main import configure_logging

if TYPE_CHECKING:
    from collections.abc import Iterator

QUESTIONS: Final = {
    "count": "SELECT count(*) FROM events",
    "one session": "FROM calls WHERE session_id = 's-00000100' ORDER BY started_at",
    "one event": "FROM events WHERE event_id = (SELECT min(event_id) FROM events "
    "WHERE session_id = 's-00000100')",
    "cost per agent and day": "SELECT agent_id, occurred_at::DATE AS day, "
    "sum(cost_usd) FROM model_usage GROUP BY ALL",
    "slowest tools": "SELECT tool_name, quantile_cont(duration_ms, 0.95) FROM calls "
    "GROUP BY ALL ORDER BY 2 DESC",
    "failure rates": "SELECT tool_name, avg((outcome = 'failure')::INT) FROM calls "
    "GROUP BY ALL",
    "most repeated calls": "SELECT session_id, tool_name, arguments_digest, count(*) "
    "FROM calls GROUP BY ALL ORDER BY 4 DESC LIMIT 20",
    "sessions, costly first": "FROM sessions ORDER BY cost_usd DESC LIMIT 50",
}


def timed(folder: Path) -> Iterator[tuple[str, float, float]]:
    """Ask each question once; ms of the clock, and of all cores together."""
    start = time.perf_counter(), time.process_time()

    def taken() -> tuple[float, float]:
        clock, cores = time.perf_counter() - start[0], time.process_time() - start[1]
        return round(clock * 1000, 1), round(cores * 1000, 1)

    with open_archive(folder) as archive:
        yield "open", *taken()
        for name, sql in QUESTIONS.items():
            start = time.perf_counter(), time.process_time()
            archive.sql(sql)
            yield name, *taken()


def verified(folder: Path) -> dict[str, float]:
    """Verify the archive in a process of its own; what that takes."""
    env = os.environ | {
        f"FLEETWAKE_{name.upper()}_FOLDER": str(folder / name)
        for name in ("archive", "digests", "keys")
    }
    command = [sys.executable, "-m", "fleetwake.consumers.cli", "archive", "verify"]
    start, peak_kb = time.perf_counter(), 0
    with subprocess.Popen(
        [*command, "--json"], env=env, stdout=subprocess.DEVNULL
    ) as process:
        status = Path(f"/proc/{process.pid}/status")
        # Its resource usage would have the memory of this process, which it was once.
        while process.poll() is None:
            if found := re.search(r"VmHWM:\s+(\d+)", status.read_text()):
                peak_kb = int(found[1])
            time.sleep(0.1)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_mb": peak_kb // 1024,
    }


def measured(folder: Path, rows: int) -> dict[str, object]:
    """Ask and verify an archive; make it first, if it is not there."""
    start = time.perf_counter()
    if not (folder / "archive").exists():
        write_archive(folder, rows)
    made_s = round(time.perf_counter() - start, 1)
    files = list((folder / "archive").rglob("*.parquet"))
    rows = sum(pq.read_metadata(one).num_rows for one in files)
    found = list(timed(folder / "archive"))
    return {
        "rows": rows,
        "made_s": made_s,
        "bytes_per_row": sum(one.stat().st_size for one in files) / rows,
        "ms": {name: clock for name, clock, _ in found},
        "cpu_ms": {name: cores for name, _, cores in found},
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "verify": verified(folder),
    }


def main() -> None:
    rows = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        place = Path(*sys.argv[2:3] or [folder])
        print(json.dumps(measured(place, rows)))


if __name__ == "__main__":
    configure_logging("ERROR")
    main()
