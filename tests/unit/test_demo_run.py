"""The parts of the demonstration that need no Kafka: folder, display, progress."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from fleetwake.consumers.demo.display import Counts, showing
from fleetwake.consumers.demo.place import check_home, isolate, reset
from fleetwake.consumers.demo.run import CannotStartError
from fleetwake.consumers.demo.watch import progress, samples, scrape
from fleetwake.consumers.supervisor import ProcessFailedError
from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXPOSED = """\
# HELP fleetwake_committed_offset The offset.
# TYPE fleetwake_committed_offset gauge
fleetwake_committed_offset{partition="0",service="loops",topic="fleetwake.events"} 7.0
fleetwake_committed_offset{partition="1",service="loops",topic="fleetwake.events"} 5.0
fleetwake_committed_offset{partition="1",service="loops",topic="other"} 100.0
fleetwake_committed_offset_total 3.0
fleetwake_loops_alerts_total{level="warning",rule="r",state="open"} 2.0
fleetwake_loops_alerts_total{level="critical",rule="r",state="escalated"} 1.0
"""


@contextmanager
def serving(text: str) -> Iterator[str]:
    """A metrics endpoint; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/metrics"
        finally:
            server.shutdown()
            thread.join()


async def test_progress_is_what_services_have_committed() -> None:
    """Of the one topic, summed over partitions; alerts count when they open."""
    with serving(EXPOSED) as url:
        found = await progress({"loops": url}, "fleetwake.events")

    assert found.consumed == {"loops": 12}
    assert found.alerts == 2


async def test_service_that_does_not_answer_has_consumed_nothing() -> None:
    """It may just be starting."""
    with serving("") as url:
        pass
    found = await progress({"loops": url}, "fleetwake.events")

    assert found.consumed == {"loops": 0}
    assert await scrape(url) == ""


def test_samples_with_hostile_labels_are_read() -> None:
    """Label values come from agents."""
    text = 'm{a="x\\n} 1\\nm 2",b="\\"{,}"} 3.0\nm_total 9.0\nm 4.0\n'

    assert [value for _, value in samples(text, "m")] == [3.0, 4.0]


def test_new_home_is_made_and_marked(tmp_path: Path) -> None:
    """So that the next demonstration knows it may remove what is there."""
    home = tmp_path / "a" / "demo"
    check_home(home)
    check_home(home)

    assert reset(home) is False
    (home / "broker" / "log").mkdir(parents=True)
    (home / "archive").mkdir()
    assert reset(home) is True
    assert not (home / "broker").exists()
    assert not (home / "archive").exists()


def test_home_that_holds_other_data_is_refused(tmp_path: Path) -> None:
    """A real deployment is never removed."""
    archive = tmp_path / "archive"
    archive.mkdir()

    with pytest.raises(ConfigurationError, match="--home"):
        check_home(tmp_path)
    assert archive.exists()


def test_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """With what to do."""
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match="--home"):
        check_home(tmp_path / "file" / "demo")


def test_real_deployment_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders and security settings of the environment give way; limits stay."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    os.environ["FLEETWAKE_ARCHIVE_FOLDER"] = "elsewhere"
    os.environ["FLEETWAKE_KAFKA_SECURITY_PROTOCOL"] = "SSL"
    os.environ["FLEETWAKE_ARCHIVE_MAX_AGE_S"] = "7"
    isolate(tmp_path)

    assert os.environ["FLEETWAKE_HOME"] == str(tmp_path)
    assert os.environ["FLEETWAKE_ARCHIVE_FOLDER"] == str(tmp_path / "archive")
    assert os.environ["FLEETWAKE_KAFKA_SECURITY_PROTOCOL"] == "PLAINTEXT"
    assert os.environ["FLEETWAKE_ARCHIVE_MAX_AGE_S"] == "7"


def test_lines_are_written_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """To stderr, each once and not too often."""
    counts = Counts(10, 4, {"loops": 3, "archive": 0}, 1)
    with showing() as display:
        display.say("starting")
        display.show(counts)
        display.show(counts)
        display.show(counts._replace(published=5))
    out, err = capsys.readouterr()

    assert out == ""
    assert [
        "starting",
        "published 4 of 10; consumed: loops 3, archive 0; alerts: 1",
    ] == [line.split(" s  ")[1] for line in err.splitlines()]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("broker: port 1 is in use: set X", "port 1 is in use: set X"),
        ("noise\nfleetwake: no such folder", "no such folder"),
        ("Traceback\nKeyError: 1", "broker ended with exit code 2; its log: "),
        ("", "broker ended with exit code 2; its log: "),
    ],
)
def test_what_cannot_start_is_told_in_one_line(
    tmp_path: Path, words: str, told: str
) -> None:
    """In its own words where it has any, with its exit code."""
    error = CannotStartError(ProcessFailedError("broker", 2, words), tmp_path)

    assert str(error).startswith(told)
    assert "\n" not in str(error)
    assert error.exit_code == 2
