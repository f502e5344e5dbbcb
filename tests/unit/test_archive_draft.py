"""A file that is compressed while its records come."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from tests.archiving import (
    JUNK,
    archive,
    event,
    feed,
    footer,
    names,
    offsets,
    partition_folder,
    record,
    rows,
    start,
)

from fleetwake.consumers.archive import archive as service
from fleetwake.consumers.archive.processor import PartitionArchive, Room
from fleetwake.consumers.archive.threads import DaemonThreads
from fleetwake.consumers.stores import StoreUnavailableError
from fleetwake.consumers.stores.local import LocalStore
from fleetwake.schemas.codec import encode

if TYPE_CHECKING:
    from fleetwake.consumers.archive.archive import Archive
    from fleetwake.consumers.runtime.service import Record

RECORDS = [
    record(1),
    record(2, JUNK),
    record(3, encode(event(1))),
    record(6),
    record(7, None),
    record(8, encode(event(6))),
]


@pytest.fixture(name="no_room")
def _no_room(monkeypatch):
    """Every batch becomes a row group."""
    monkeypatch.setattr(service, "_TABLE_BYTES", 0)


async def opened(made: Archive, **where: int) -> PartitionArchive:
    """Open a partition whose recent events are known already."""
    processor = await made.open(start(**where))
    wait([processor._restoring])
    return processor


def feed_singly(processor: PartitionArchive, records: list[Record]) -> None:
    for one in records:
        feed(processor, one)


def groups(folder: Path, offset: int) -> int:
    path = partition_folder(folder) / f"{offset:020d}.parquet"
    return int(pq.read_metadata(path).num_row_groups)


@pytest.mark.usefixtures("no_room")
async def test_row_groups_say_what_one_table_says(tmp_path):
    """The same rows, marks, holes and root, however the records came."""
    single, whole = tmp_path / "single", tmp_path / "whole"
    processor = await opened(archive(single))
    feed_singly(processor, RECORDS)
    assert processor.held_bytes == 0
    await processor.flush()
    processor = await opened(archive(whole))
    feed(processor, *RECORDS)
    await processor.flush()
    expected = footer(whole, 0)

    assert (groups(single, 0), groups(whole, 0)) == (len(RECORDS), 1)
    assert rows(single) == rows(whole)
    assert replace(footer(single, 0), created_at=expected.created_at) == expected
    assert expected.holes == ((0, 0), (4, 5))
    assert [row["duplicate_of"] for row in rows(single)] == [
        None,
        None,
        1,
        None,
        None,
        6,
    ]


@pytest.mark.usefixtures("no_room")
async def test_a_restart_marks_what_row_groups_of_older_files_have(tmp_path):
    """The last rows of a chain are read across its row groups."""
    processor = await opened(archive(tmp_path))
    feed_singly(processor, [record(n) for n in range(5)])
    await processor.flush()
    processor = await opened(archive(tmp_path))
    feed_singly(processor, [record(5 + n, encode(event(n))) for n in range(5)])
    await processor.flush()

    assert [row["duplicate_of"] for row in rows(tmp_path)] == [None] * 5 + [*range(5)]


@pytest.mark.usefixtures("no_room")
async def test_a_file_that_could_not_be_put_is_put_again_as_it_was(
    tmp_path, monkeypatch
):
    """And what came after it was made is in the next one."""
    put, tried = LocalStore.put_if_absent, []

    def putting(store: LocalStore, path: str, content: bytes) -> int:
        if not path.startswith("raw/"):
            return put(store, path, content)
        tried.append((path, bytes(content)))
        if len(tried) < 3:
            raise StoreUnavailableError(path, "disk full", after_s=0.01)
        return put(store, path, content)

    monkeypatch.setattr(LocalStore, "put_if_absent", putting)
    processor = await opened(archive(tmp_path))
    feed_singly(processor, [record(0), record(1)])
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            await processor.flush()
        feed(processor, record(len(tried) + 1))
    await processor.flush()

    assert tried[0] == tried[1] == tried[2]
    assert names(tmp_path) == [f"{0:020d}.parquet", f"{2:020d}.parquet"]
    assert offsets(tmp_path) == [0, 1, 2, 3]


@pytest.mark.usefixtures("no_room")
async def test_what_cannot_be_restored_now_is_restored_by_the_flush(
    tmp_path, monkeypatch
):
    """Until then tables are held: `process` reads no files."""
    processor = await opened(archive(tmp_path))
    feed(processor, record(0))
    await processor.flush()
    made, real = archive(tmp_path), LocalStore.open
    opening = await made.open(start())
    wait([opening._restoring])

    def failing(store: LocalStore, path: str) -> object:
        raise StoreUnavailableError(path, "away")

    monkeypatch.setattr(LocalStore, "open", failing)
    processor = PartitionArchive(
        opening._chain, opening._tail, made.settings, made._threads, made._room
    )
    wait([processor._restoring])
    feed(processor, record(1, encode(event(0))))
    assert processor.held_bytes > 0
    with pytest.raises(StoreUnavailableError, match="away"):
        await processor.flush()
    monkeypatch.setattr(LocalStore, "open", real)
    await processor.flush()

    assert [row["duplicate_of"] for row in rows(tmp_path)] == [None, 0]


async def test_partitions_that_hold_their_share_make_room(tmp_path):
    """Where there is none; a partition that was given away holds nothing."""
    made = archive(tmp_path)
    one, other = await opened(made), await opened(made)
    room = Room(1_000)
    room.enter(one)
    room.enter(other)
    short = []
    for held in ((900, 0), (900, 200), (400, 700)):
        one.held_bytes, other.held_bytes = held
        short.append((room.is_short_for(one), room.is_short_for(other)))
    del other

    assert short == [(False, False), (True, False), (False, True)]
    assert not room.is_short_for(one)


def test_what_a_thread_raises_is_raised_to_who_asks():
    """And the thread goes on with what comes next."""
    threads = DaemonThreads(1, "test")
    failed, done = threads.submit(int, "x"), threads.submit(int, "7")

    assert isinstance(failed.exception(timeout=10), ValueError)
    assert done.result(timeout=10) == 7


_HANGS = """
import asyncio, os, signal, sys, threading
from tests.unit.test_archive_run import MemoryLog, fill, running
from fleetwake.consumers.archive import processor
from fleetwake.consumers.stores.local import LocalStore

def hanging(store, path="raw/", content=b"", put=LocalStore.put_if_absent):
    if path.startswith("raw/"):
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait()
    return put(store, path, content)

async def main():
    log = MemoryLog(partitions=2)
    fill(log, 10)
    runner = running(log, sys.argv[1]).runner
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, runner.request_stop)
    await runner.run()

setattr(LocalStore, sys.argv[2], hanging)
processor._PATIENCE_S = 0.05
asyncio.run(main())
print("ended")
"""


@pytest.mark.parametrize("call", ["put_if_absent", "check"])
def test_a_disk_that_hangs_does_not_hold_up_the_exit(tmp_path, call):
    """A thread that hangs in a file, or at the start, is left behind at SIGTERM."""
    ended = subprocess.run(
        [sys.executable, "-c", _HANGS, str(tmp_path), call],
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
        cwd=Path(__file__).parents[2],
    )

    assert ended.stdout.endswith("ended\n")
    assert not [*tmp_path.rglob("*.parquet")]
