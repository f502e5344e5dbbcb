"""
The real NeMo Flow and NeMo Relay: what they tell is in the archive.

Each has an environment of its own, which `make test-systems` makes; where it is not
there the tests are skipped.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from tests.integration.test_archive import ArchiveProcess

from fleetwake.producer.adapters.atof import AtofAdapter
from fleetwake.producer.adapters.atof.http import read_http
from fleetwake.producer.dead_letter import DeadLetter
from fleetwake.producer.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
SYSTEMS = HERE.parents[1] / ".venv" / "systems"
SECRET = "sk-live-9f8e7d6c5b4a39281706f5e4d3c2b1a0"
PACKAGES = {"nemo_flow": "nemo-flow", "nemo_relay": "nemo-relay"}

pytestmark = pytest.mark.timeout(240)


def python_of(package: str) -> str:
    """The interpreter that has the package."""
    folder = SYSTEMS / PACKAGES[package]
    if not (folder / ".ready").exists():
        pytest.skip(f"{PACKAGES[package]} is not installed: make test-systems")
    return str(folder / "bin" / "python")


async def ran(package: str, script: str, *arguments: str, **env: str) -> str:
    """What a script says in the package's environment."""
    done = await asyncio.to_thread(
        subprocess.run,
        [python_of(package), str(HERE / script), *arguments],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(folder: Path) -> list[dict[str, Any]]:
    """The archived events, in the order of each session; no files yet: none."""
    found = str(folder / "archive/raw/*/*/*.parquet")
    if not list(folder.glob("archive/raw/*/*/*.parquet")):
        return []
    with duckdb.connect() as database:
        table = database.sql(
            "FROM read_parquet(?) WHERE event_type <> 'producer.close' "
            "ORDER BY kafka_partition, kafka_offset",
            params=[found],
        ).to_arrow_table()
    return list(table.to_pylist())


@pytest.mark.parametrize("package", PACKAGES)
async def test_what_the_system_tells_is_in_the_archive(
    package: str, kafka: Any, tmp_path: Path
) -> None:
    """Every line of its own exporter is one row, with its payload and its session."""
    settings = kafka.settings()
    python_of(package)
    await kafka.create_topics(settings)
    said = await ran(
        package,
        "nemo_agent.py",
        package,
        str(tmp_path),
        FLEETWAKE_KAFKA_BOOTSTRAP_SERVERS=settings.bootstrap_servers,
        FLEETWAKE_KAFKA_TOPIC_PREFIX=settings.topic_prefix,
        FLEETWAKE_KAFKA_PARTITIONS=str(settings.partitions),
        FLEETWAKE_HOME=str(tmp_path),
    )
    told = [
        json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()
    ]
    with ArchiveProcess(settings, tmp_path) as service:
        await service.until(lambda: len(rows(tmp_path)) >= len(told))
    found = rows(tmp_path)
    adapter = AtofAdapter(stream="told", session_id="told")
    replayed = [adapter.map(one, ordinal=n)[0].event for n, one in enumerate(told)]
    redacted = {
        event.event_id: json.loads(Redactor().text(json.dumps(line)))
        for event, line in zip(replayed, told, strict=True)
    }

    assert {"delivered": True, "invalid": 0} == {
        name: json.loads(said)[name] for name in ("delivered", "invalid")
    }
    assert redacted == {row["event_id"]: json.loads(row["payload"]) for row in found}
    assert len(told) == len(found)
    expect_the_program(found)
    expect_no_secret(package, found, tmp_path)


def expect_no_secret(package: str, found: list[dict[str, Any]], folder: Path) -> None:
    """In no column, no bytes of a record, no spool and no log."""
    told = (folder / "told.jsonl").read_text()

    assert (package == "nemo_flow") == (SECRET in told)  # Relay drops the header
    assert [one for one in found if SECRET in str(one)] == []
    for file in folder.rglob("*"):
        if file.is_file() and file.name != "told.jsonl":
            assert SECRET.encode() not in file.read_bytes(), file.name


def expect_the_program(found: list[dict[str, Any]]) -> None:
    """The sessions, calls and tokens of `nemo_agent.work`."""
    sessions = Counter(row["session_id"] for row in found)
    kinds = Counter(row["event_type"] for row in found)
    ends = kinds["tool.complete"] + kinds["tool.failure"]
    (blocked,) = (row for row in found if row["event_type"] == "tool.blocked")
    weather = [row for row in found if row["tool_name"] == "weather"]

    assert 3 == len(sessions)
    assert len(found) - 4 == sessions["sess-7"]
    assert {"u-1"} == {r["user_id"] for r in found if r["session_id"] == "sess-7"}
    assert 5 == kinds["tool.attempt"] == ends
    assert [2, 1] == [kinds["turn.start"], kinds["delegation.start"]]
    assert ("rm", "not allowed") == (blocked["tool_name"], blocked["reason"])
    assert 2 == len({row["arguments_digest"] for row in weather})  # and none: the ends
    assert 11 == sum(row["input_tokens"] or 0 for row in found)
    assert 5 == sum(row["output_tokens"] or 0 for row in found)
    for one in sessions:
        numbers = [row["sequence"] for row in found if row["session_id"] == one]
        assert sorted(numbers) == numbers


class Sink(BaseHTTPRequestHandler):
    """A server that keeps the chunks of each body, by path."""

    protocol_version = "HTTP/1.1"
    bodies: list[tuple[str, str, list[bytes]]]

    def do_POST(self) -> None:
        chunks = list(self.chunks())
        content_type = self.headers.get("Content-Type", "")
        self.bodies.append((self.path, content_type, chunks))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def chunks(self) -> Iterator[bytes]:
        if "Content-Length" in self.headers:
            yield self.rfile.read(int(self.headers["Content-Length"]))
            return
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[tuple[str, list[tuple[str, str, list[bytes]]]]]:
    """A server on a free port: its URL and what it gets."""
    bodies: list[tuple[str, str, list[bytes]]] = []
    handler = type("Handler", (Sink,), {"bodies": bodies})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", bodies
        finally:
            server.shutdown()
            thread.join()


async def test_relays_stream_sinks_are_read() -> None:
    """One line per post, and one long upload without dots: the same events."""
    events: dict[str, set[Any]] = {"/post": set(), "/upload": set()}
    with serving() as (url, bodies):
        await ran("nemo_relay", "nemo_sink.py", url)
    adapters = {path: AtofAdapter(stream="s", session_id="s") for path in events}
    for path, content_type, chunks in bodies:
        for one in read_http(chunks, content_type):
            assert not isinstance(one, DeadLetter)
            (mapped,) = adapters[path].map(one.fields, ordinal=0)
            told = mapped.event
            events[path].add((told.event_id, told.session_id, told.event_type))

    assert events["/post"] == events["/upload"]
    assert 24 == len(events["/post"])
    assert {"conv-1"} == {session for _, session, _ in events["/post"]}
