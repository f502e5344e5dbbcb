"""Forks and the end of the process, each in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.producing import event, first_sequences, until

from fleetwake.producer.settings import ProducerSettings
from fleetwake.producer.testing import memory_producer

if TYPE_CHECKING:
    from fleetwake.schemas.event import AuditEvent

_PRELUDE = """
import atexit, gc, json, logging, multiprocessing, os, signal, sys, threading, time
from fleetwake.producer.process import this_process
from fleetwake.producer.settings import ProducerSettings
from fleetwake.producer.testing import MemoryLog, memory_producer
from fleetwake.schemas.event import AuditEvent

def away():
    log = MemoryLog()
    log.is_away = True
    logging.disable()
    settings = ProducerSettings(durability="spool", exit_timeout_s=0.5)
    return memory_producer(settings, log=log)[0]

def until_spooled(producer, count):
    while producer.statistics().spooled < count:
        time.sleep(0.005)

def event(session_id="s"):
    return AuditEvent(event_type="tool.complete", session_id=session_id)

def report(who, producer, log):
    events = [[e.event_type, e.sequence, e.producer_id] for e in log.events()]
    line = json.dumps({"who": who, "id": producer.producer_id, "events": events})
    os.write(1, line.encode() + b"\\n")
"""


class Script:
    """Runs code as a process; what each process of it reported."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "script.py"  # spawn imports the main module again

    def __call__(self, code: str, *, code_at_end: int = 0) -> dict[str, dict[str, Any]]:
        self._path.write_text(_PRELUDE + textwrap.dedent(code))
        done = subprocess.run(
            [sys.executable, "-W", "error", str(self._path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert (code_at_end, "") == (done.returncode, done.stderr)
        return {line["who"]: line for line in map(json.loads, done.stdout.splitlines())}


@pytest.fixture
def run(tmp_path: Path) -> Script:
    return Script(tmp_path)


def adopted() -> list[AuditEvent]:
    """What the next producer on this machine delivers for those that ended."""
    producer, log = memory_producer(ProducerSettings(durability="spool"))
    with producer:
        producer.emit(event("mine"))
        until(lambda: producer.statistics().spooled == 0)
        assert producer.flush(20)
        until(lambda: not spooled_files())
    return [one for one in log.events() if one.session_id != "mine"]


def spooled_files() -> list[Path]:
    own = f"{os.getpid()}-"
    folder = Path(os.environ["FLEETWAKE_PRODUCER_SPOOL_DIR"])
    found = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in found if not path.name.startswith(own)]


def types(report: dict[str, Any]) -> list[str]:
    return [one[0] for one in report["events"]]


def test_the_end_of_the_process_delivers(run: Script) -> None:
    """A script that ends without close loses nothing, and ends its run cleanly."""
    told = run("""
        producer, log = memory_producer()
        atexit.unregister(this_process().close)
        atexit.register(report, "me", producer, log)
        atexit.register(this_process().close)
        for _ in range(3):
            producer.emit(event())
    """)

    assert ["tool.complete"] * 3 + ["producer.close"] == types(told["me"])


def test_the_end_of_the_process_is_held_up_no_longer_than_allowed(run: Script) -> None:
    """With the broker away a script ends in exit_timeout_s and counts its loss."""
    told = run("""
        import time
        log = MemoryLog()
        log.is_away = True
        producer, _ = memory_producer(ProducerSettings(exit_timeout_s=0.5), log=log)
        begin = time.monotonic()
        def last():
            took, lost = time.monotonic() - begin, producer.statistics().dropped
            os.write(1, json.dumps({"who": "me", "took": took, "lost": lost}).encode())
        atexit.unregister(this_process().close)
        atexit.register(last)
        atexit.register(this_process().close)
        producer.emit(event())
        import logging
        logging.disable()
    """)

    assert {"closed": 1} == told["me"]["lost"]
    assert 0.5 <= told["me"]["took"] < 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
class TestFork:
    """A forked child is a producer of its own."""

    def test_a_child_has_an_id_a_queue_and_a_thread_of_its_own(
        self, run: Script
    ) -> None:
        """What the parent had queued is the parent's; both deliver."""
        told = run("""
            log = MemoryLog()
            log.is_away = True
            producer, _ = memory_producer(log=log)
            for _ in range(5):
                producer.emit(event())
            pid = os.fork()
            log.is_away = False
            if pid == 0:
                producer.emit(event())
                producer.emit(event())
                assert producer.close(20)
                report("child", producer, log)
                os._exit(0)
            producer.emit(event())
            assert producer.close(20)
            os.waitpid(pid, 0)
            report("parent", producer, log)
        """)
        parent, child = told["parent"], told["child"]

        assert ["tool.complete"] * 6 + ["producer.close"] == types(parent)
        assert ["tool.complete"] * 2 + ["producer.close"] == types(child)
        assert parent["id"] != child["id"]
        assert {child["id"]} == {one[2] for one in child["events"]}
        assert [1, 2, 3] == [one[1] for one in child["events"]]

    def test_a_fork_in_the_middle_of_emit_does_not_deadlock(self, run: Script) -> None:
        """Locks that other threads held at the fork do not exist in the child."""
        told = run("""
            producer, log = memory_producer()
            stop = threading.Event()
            def busy():
                while not stop.is_set():
                    producer.emit(event("busy"))
            threads = [threading.Thread(target=busy) for _ in range(3)]
            for thread in threads:
                thread.start()
            codes = []
            for _ in range(15):
                pid = os.fork()
                if pid == 0:
                    signal.alarm(30)
                    producer.emit(event("child"))
                    delivered = producer.flush(20)
                    os._exit(0 if delivered else 1)
                codes.append(os.waitpid(pid, 0)[1])
            stop.set()
            for thread in threads:
                thread.join()
            assert producer.close(30)
            os.write(1, json.dumps({"who": "parent", "codes": codes}).encode())
        """)

        assert [0] * 15 == told["parent"]["codes"]

    def test_the_parent_goes_on_after_its_child_has_ended(self, run: Script) -> None:
        """A child that collects garbage and exits takes nothing of its parent."""
        told = run("""
            producer, log = memory_producer()
            producer.emit(event())
            assert producer.flush(20)
            pid = os.fork()
            if pid == 0:
                del producer
                gc.collect()
                os._exit(0)
            os.waitpid(pid, 0)
            producer.emit(event())
            assert producer.close(20)
            report("parent", producer, log)
        """)

        assert ["tool.complete"] * 2 + ["producer.close"] == types(told["parent"])

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_a_multiprocessing_child_delivers_at_its_end(
        self, method: str, run: Script
    ) -> None:
        """Such a child ends with os._exit and runs no atexit; nothing is lost."""
        told = run(f"""
            def work(producer=None, log=None):
                if producer is None:
                    producer, log = memory_producer()
                producer.emit(event())
                util = sys.modules["multiprocessing.util"]
                util.Finalize(None, report, ("child", producer, log), exitpriority=0)

            if __name__ == "__main__":
                context = multiprocessing.get_context("{method}")
                given = memory_producer() if "{method}" == "fork" else ()
                child = context.Process(target=work, args=given)
                child.start()
                child.join()
                assert child.exitcode == 0
        """)

        assert ["tool.complete", "producer.close"] == types(told["child"])

    def test_many_producers_of_a_multiprocessing_child_end_with_it_once(
        self, run: Script
    ) -> None:
        """A producer per request leaves nothing behind in a worker."""
        told = run("""
            def work():
                from multiprocessing import util
                before = len(util._finalizer_registry)
                for _ in range(5):
                    with memory_producer()[0] as producer:
                        producer.emit(event())
                more = len(util._finalizer_registry) - before
                os.write(1, json.dumps({"who": "child", "more": more}).encode())

            child = multiprocessing.get_context("fork").Process(target=work)
            child.start()
            child.join()
            assert child.exitcode == 0
        """)

        assert 1 == told["child"]["more"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGTERM"])
def test_a_killed_process_leaves_what_was_on_disk(
    signal_name: str, run: Script
) -> None:
    """Kill -9, or a SIGTERM that nobody handles: the next producer delivers it all."""
    number = getattr(signal, signal_name)
    run(
        f"""
        producer = away()
        for number in range(500):
            producer.emit(event(f"s-{{number % 5}}"))
        until_spooled(producer, 500)
        os.kill(os.getpid(), {number})
        time.sleep(60)
        """,
        code_at_end=-number,
    )

    assert {f"s-{n}": list(range(1, 101)) for n in range(5)} == (
        first_sequences(adopted())
    )


def test_a_process_that_ends_leaves_what_it_could_not_deliver(run: Script) -> None:
    """In exit_timeout_s, with the marks of its runs."""
    begin = time.monotonic()
    run("""
        producer = away()
        for _ in range(100):
            producer.emit(event())
    """)

    assert time.monotonic() - begin < 20
    events = adopted()
    assert {"s": list(range(1, 102))} == first_sequences(events)
    assert "producer.close" == events[-1].event_type


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(0)"])
def test_a_child_leaves_its_parents_spool_alone(end: str, run: Script) -> None:
    """Both have spooled, and both their spools are whole, however the child ends."""
    run(
        f"""
        producer = away()
        for _ in range(100):
            producer.emit(event("parent"))
        until_spooled(producer, 100)
        pid = os.fork()
        if pid == 0:
            for _ in range(50):
                producer.emit(event("child"))
            until_spooled(producer, 50)
            gc.collect()
            {end}
        os.waitpid(pid, 0)
        for _ in range(100):
            producer.emit(event("parent"))
        until_spooled(producer, 200)
        os.kill(os.getpid(), signal.SIGKILL)
    """,
        code_at_end=-9,
    )

    told = first_sequences(adopted())
    assert list(range(1, 201)) == told["parent"]
    assert list(range(1, 51)) == told["child"][:50]


def test_importing_the_producer_imports_no_client_and_no_settings() -> None:
    """An agent pays for aiokafka and pydantic when it makes a producer, not before."""
    code = """
import sys
import fleetwake.producer
heavy = {"aiokafka", "asyncio", "pydantic", "structlog", "stamina", "pyarrow", "rich"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert "[]\n" == done.stdout


def test_the_import_takes_no_second() -> None:
    """A generous bound: what is measured stands in docs, this catches an accident."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", "import fleetwake.producer"], check=True)

    assert time.monotonic() - begin < 5
