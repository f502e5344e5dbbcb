"""The spool across the end of processes, forks and full disks."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.spooling import (
    filled,
    new_spool,
    read_all,
    records,
    recovered,
    sequences,
)

from fleetwake.producer.spool import Spool, SpoolError, adopt, table

ROOT = Path(__file__).parents[2]

_PRELUDE = """
import os, sys, threading
from pathlib import Path
from fleetwake.producer.spool import Spool, SpoolError, SpoolFullError, adopt, spools
from tests.spooling import *
folder = Path(sys.argv[1])
def tell(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
"""


def start(code: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", _PRELUDE + textwrap.dedent(code), folder],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def run(code: str, folder: Path) -> list[str]:
    """Return the lines that a script told."""
    with start(code, folder) as process:
        told, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    return told.splitlines()


def test_what_was_appended_survives_kill_9(tmp_path: Path) -> None:
    """Killed 20 times at random: all that was acknowledged is there, in order, once."""
    rng = random.Random()
    code = """
        spool = new_spool(folder)
        sequence = 1
        while True:
            size = 1 + sequence % 40
            spool.append(records(sequence, size, size=50 + sequence % 3000))
            sequence += size
            tell(sequence - 1)
    """
    for attempt in range(20):
        folder = tmp_path / str(attempt)
        with start(code, folder) as process:
            assert process.stdout is not None
            for _ in range(rng.randrange(1, 150)):
                told = int(process.stdout.readline())
            process.kill()
            rest = process.stdout.read().split()
        told = int(rest[-1]) if rest else told
        (spool,) = adopt(folder)
        found = sequences(read_all(spool))

        assert len(found) >= told
        assert list(range(1, len(found) + 1)) == found
        assert len(found) == spool.events
        spool.close()


def test_a_killed_adopter_loses_nothing(tmp_path: Path) -> None:
    """Adopters killed while they drain hand the rest to the next one."""
    path = filled(tmp_path, 2000, count=5, size=500)
    code = """
        (spool,) = adopt(folder)
        after = 0
        while batches := spool.read(after, max_bytes=10_000):
            after = batches[-1].number
            tell(*(one.sequence for batch in batches for one in batch.records))
            spool.settle(batch.number for batch in batches)
    """
    seen: set[int] = set()
    for lines in (5, 50, 100, 150):
        with start(code, tmp_path) as process:
            assert process.stdout is not None
            for _ in range(lines):
                seen.update(map(int, process.stdout.readline().split()))
            process.kill()
            seen.update(map(int, process.stdout.read().split()))
    left = recovered(path)

    assert set(range(1, 10_001)) == seen | set(left)
    assert len(left) < 10_000


def test_a_forked_child_has_no_part_in_it(tmp_path: Path) -> None:
    """It writes nothing, keeps no lock, and its end harms nothing of the parent."""
    code = """
        spool = new_spool(folder)
        spool.append(records(1, 10))
        child = os.fork()
        if child == 0:
            try:
                spool.append(records(100, 1))
            except SpoolError as error:
                tell("child", str(error).split(": ")[-1])
            spool.settle([1])
            spool.close()
            own = new_spool(folder)
            own.append(records(1000, 1))
            own.settle([1])
            own.close()
            sys.exit(0)  # the whole way, with finalizers
        os.waitpid(child, 0)
        spool.append(records(11, 10))
        tell(len(read_all(spool)), len(list(folder.iterdir())))
        os.kill(os.getpid(), 9)
    """
    with start(code, tmp_path) as process:
        told, _ = process.communicate(timeout=60)
    (spool,) = adopt(tmp_path)

    assert [
        "child it belongs to the process that forked this one",
        "20 3",
    ] == told.splitlines()
    assert list(range(1, 21)) == sequences(read_all(spool))
    spool.close()


def test_a_child_that_outlives_its_parent_holds_nothing_up(tmp_path: Path) -> None:
    """The parent's spool is adopted while the child lives, and survives its end."""
    code = """
        spool = new_spool(folder)
        spool.append(records(1, 10))
        if os.fork():
            os.kill(os.getpid(), 9)
        errors = []
        while os.getppid() == int(sys.stdin.readline() or os.getppid()):
            pass
        tell(len(list(adopt(folder, on_error=errors.append))), len(errors))
        sys.stdin.readline()
        sys.exit(0)
    """
    with start(code, tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.wait(timeout=30)
        process.stdin.write("0\n")
        process.stdin.flush()
        told = process.stdout.readline()
        (spool,) = adopt(tmp_path)
        process.stdin.write("end\n")
        process.stdin.flush()
        assert process.stdout.read() == ""

    # SQLite in the child believes that it still has the file.
    assert "0 1\n" == told
    assert list(range(1, 11)) == sequences(read_all(spool))
    spool.append(records(11, 5))
    spool.close()
    assert list(range(1, 16)) == recovered(spool.path)


def test_forks_wait_for_transactions(tmp_path: Path) -> None:
    """A child can use spools of its own, whatever the parent's thread is doing."""
    code = """
        spool = new_spool(folder)
        stop = threading.Event()
        def write():
            number = 1
            while not stop.is_set():
                spool.settle([spool.append(records(number, 50, size=2000))])
                number += 50
        writer = threading.Thread(target=write)
        writer.start()
        for index in range(15):
            child = os.fork()
            if child == 0:
                own = new_spool(folder)
                own.settle([own.append(records(1, 10))])
                own.close()
                os._exit(0)
            _, status = os.waitpid(child, 0)
            assert status == 0
        stop.set()
        writer.join()
        spool.close()
        tell(len(list(folder.iterdir())))
    """
    assert ["0"] == run(code, tmp_path)


@pytest.mark.parametrize("work", ["new_spool", "Spool.adopt", "count"])
def test_forks_wait_for_spools_that_are_being_opened(work: str, tmp_path: Path) -> None:
    """A child inherits neither their locks nor what SQLite is in the middle of."""
    code = f"""
        from fleetwake.producer.spool.file import SpoolFile
        new_spool(folder / "other").close()
        old = filled(folder, 1)
        def count(path):
            return spools(path.parent)
        begun, forking, forked = (threading.Event() for _ in range(3))
        overtaken = []
        def slow(open):
            def opening(*given):
                begun.set()
                forking.wait(10)
                overtaken.append(forked.wait(0.3))
                return open(*given)
            return opening
        SpoolFile.make, SpoolFile.open = slow(SpoolFile.make), slow(SpoolFile.open)
        os.register_at_fork(before=forking.set, after_in_parent=forked.set)
        given = folder / "new" if "{work}" == "new_spool" else old
        kept = []
        opener = threading.Thread(target=lambda: kept.append({work}(given)))
        opener.start()
        begun.wait(10)
        child = os.fork()
        if child == 0:
            locks = [path.stat() for path in folder.rglob("*.lock")]
            for descriptor in range(3, 100):
                try:
                    found = os.fstat(descriptor)
                except OSError:
                    continue
                if any(os.path.samestat(found, lock) for lock in locks):
                    os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        opener.join()
        tell(status, overtaken, len(kept))
    """
    assert ["0 [False] 1"] == run(code, tmp_path)


def test_a_full_disk_is_an_error_and_passes(tmp_path: Path) -> None:
    """Nothing is half written; when there is room again, the same spool goes on."""
    code = """
        import resource
        spool = new_spool(folder)
        def limit(size):
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        limit(300_000)
        written = 0
        errors = 0
        while errors < 5:
            try:
                spool.append(records(written + 1, 10, size=1000))
                written += 10
            except SpoolError as error:
                errors += 1
        tell(written > 100, spool.events == written)
        tell(list(range(1, written + 1)) == sequences(read_all(spool)))
        spool.settle([1])
        limit(resource.RLIM_INFINITY)
        spool.append(records(written + 1, 10, size=1000))
        tell(list(range(11, written + 11)) == sequences(read_all(spool)))
        tell(spool.events == written)
        os.kill(os.getpid(), 9)
    """
    with start(code, tmp_path) as process:
        told, _ = process.communicate(timeout=60)
    (spool,) = adopt(tmp_path)

    assert ["True True", "True", "True", "True"] == told.splitlines()
    assert spool.events == len(read_all(spool)) > 100
    spool.close()


def test_a_disk_that_is_full_from_the_start_is_an_error(tmp_path: Path) -> None:
    """A producer cannot make its spool, and nothing is left of the attempt."""
    code = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        try:
            new_spool(folder)
        except SpoolError as error:
            tell(str(error).startswith(f"spool {folder}"), len(list(folder.iterdir())))
    """
    assert ["True 0"] == run(code, tmp_path)


def test_a_read_only_folder_is_an_error(tmp_path: Path) -> None:
    """The error names the folder and the cause."""
    code = """
        folder.chmod(0o500)
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            new_spool(folder)
        except SpoolError as error:
            tell(error)
    """
    assert [f"spool {tmp_path}: Permission denied"] == run(code, tmp_path)


def test_what_cannot_be_deleted_now_is_deleted_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that refuses deletions makes nobody send twice, and no error of it."""
    spool = new_spool(tmp_path)
    for index in range(4):
        spool.append(records(index * 10 + 1, 10))

    def refuse(*_: object, **__: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("fleetwake.producer.spool.table.delete", refuse)
        spool.settle([1])
        spool.settle([3])

        assert [*range(11, 21), *range(31, 41)] == sequences(read_all(spool))
        with pytest.raises(SpoolError, match="full"):
            spool.drop_oldest(1)
    spool.append(records(41, 10))

    assert spool.events == 30
    spool.close()
    assert [*range(11, 21), *range(31, 51)] == recovered(spool.path)


def test_an_append_that_may_have_been_written_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An I/O error after the commit: its number is not used again, and it is read."""
    spool = new_spool(tmp_path)
    spool.append(records(1, 10))

    def fail_late(connection: sqlite3.Connection, row: object, frames: bytes) -> None:
        insert(connection, row, frames)
        connection.execute("COMMIT")
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    insert = table.insert
    with monkeypatch.context() as patch:
        patch.setattr(table, "insert", fail_late)
        with pytest.raises(SpoolError, match="I/O"):
            spool.append(records(11, 10))
    number = spool.append(records(21, 10))

    assert (3, 30) == (number, spool.events)
    assert list(range(1, 31)) == sequences(read_all(spool))
    spool.close()


def test_a_reader_waits_no_longer_than_a_transaction(tmp_path: Path) -> None:
    """SIGSTOP of another holder of the folder holds nobody up."""
    code = """
        spool = new_spool(folder)
        spool.append(records(1, 10))
        tell("ready")
        sys.stdin.readline()
    """
    with start(code, tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        own = new_spool(tmp_path)
        own.append(records(1, 1))

        assert list(adopt(tmp_path)) == []
        assert Spool.adopt(own.path) is None
        own.close()
        process.kill()
