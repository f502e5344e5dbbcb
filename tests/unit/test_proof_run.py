"""The archive in the consume loop, with its proof."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from tests.running import LearningSchemas, Running, event

from fleetwake.consumers.archive.archive import Archive
from fleetwake.consumers.archive.proof import thread, writer
from fleetwake.consumers.archive.proof.keys import KeyRing, KeySettings
from fleetwake.consumers.archive.proof.lists import Place
from fleetwake.consumers.archive.proof.proof import Proof
from fleetwake.consumers.archive.proof.settings import DigestSettings
from fleetwake.consumers.archive.proof.thread import ListThread
from fleetwake.consumers.archive.proof.verify import Verification, verify
from fleetwake.consumers.archive.proof.writer import ListWriter
from fleetwake.consumers.archive.settings import ArchiveSettings
from fleetwake.consumers.runtime.runner import Runner
from fleetwake.consumers.runtime.settings import RuntimeSettings
from fleetwake.consumers.stores import open_store
from fleetwake.consumers.stores.local import LocalStore
from fleetwake.consumers.testing import MemoryLog
from fleetwake.schemas.codec import PackagedSchemas
from fleetwake.schemas.errors import ConfigurationError
from fleetwake.schemas.topics import EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleetwake.consumers.archive.proof.report import Report


def proof(folder: Path, **keys: object) -> Proof:
    return Proof(
        DigestSettings(folder=str(folder / "digests"), interval_s=0.05),
        KeySettings(folder=folder / "keys", **keys),
    )


def running(log: MemoryLog, folder: Path, group: str = "archive") -> Running:
    settings = ArchiveSettings(folder=str(folder / "archive"), max_age_s=0.02)
    service = Archive(settings, proof(folder))
    source = log.source(group, EVENTS)
    schemas = LearningSchemas()
    runner = Runner(
        service,
        source,
        schemas,
        RuntimeSettings(poll_timeout_s=0.01, max_poll_records=5),
        topic_name=lambda topic: topic.name,
    )
    return Running(service, runner, schemas, source)


def verified(folder: Path) -> Report:
    return verify(
        Verification(
            archive=open_store(folder / "archive"),
            digests=open_store(folder / "digests"),
            ring=KeyRing.load(folder / "keys"),
            lookup=PackagedSchemas(),
        )
    )


async def test_a_running_archive_signs_what_it_writes_and_its_silence(tmp_path):
    """Lists come by themselves, also of partitions where nothing comes."""
    log = MemoryLog(partitions=2)
    for n in range(20):
        log.append(EVENTS, 0, event(n), key=b"s")
    async with running(log, tmp_path) as run:
        await run.until(lambda: all_signed(tmp_path, [20, 0]))
        log.append(EVENTS, 0, event(20), key=b"s")
        await run.until(lambda: all_signed(tmp_path, [21, 0]))
    report = verified(tmp_path)

    assert [] == report.findings
    assert [21, 0] == [one.rows for one in report.partitions]
    assert all(one.complete_at for one in report.partitions)


def all_signed(folder: Path, ends: list[int]) -> bool:
    found = verified(folder).partitions
    return ends == [one.signed_to for one in found if one.complete_at]


async def test_two_owners_of_everything_leave_a_whole_proof(tmp_path):
    """Each fences the other, in files and in lists."""
    log = MemoryLog(partitions=1)
    async with (
        running(log, tmp_path, "one") as one,
        running(log, tmp_path, "other") as other,
    ):
        for n in range(40):
            log.append(EVENTS, 0, event(n), key=b"s")
            await one.source.poll(timeout_s=0.002, max_records=0)
        await one.until(lambda: all_signed(tmp_path, [40]))
        await other.until(lambda: all_signed(tmp_path, [40]))

    assert [] == verified(tmp_path).findings


class DigestFolder:
    """Stands before the folder of lists: it hangs, if it does, until it is mended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hangs = True
        self.met, self.mended = threading.Event(), threading.Event()
        for name in ("check", "list", "put_if_absent"):
            call = getattr(LocalStore, name)
            monkeypatch.setattr(LocalStore, name, self._before(call))

    def _before(self, call: Callable[..., object]) -> Callable[..., object]:
        def meeting(store: LocalStore, *args: object, **named: object) -> object:
            if self.hangs and store.url.endswith("digests"):
                self.met.set()
                self.mended.wait(60)
            return call(store, *args, **named)

        return meeting

    def mend(self) -> None:
        self.hangs = False
        self.mended.set()


def archived(folder: Path) -> int:
    files = (folder / "archive" / "raw").rglob("*.parquet")
    return sum(pq.read_metadata(one).num_rows for one in files)


@pytest.mark.parametrize("since", ["its start", "a first list"])
async def test_lists_that_hang_hold_up_no_file(tmp_path, monkeypatch, since):
    """Archiving goes on, and lists are told to be late; then nothing is missing."""
    folder = DigestFolder(monkeypatch)
    monkeypatch.setattr(thread, "_PATIENCE_S", 0.05)
    log, told = MemoryLog(partitions=2), Counter()
    tell = lambda *it: told.update([it[2]])  # noqa: E731
    monkeypatch.setattr(ListWriter, "_tell", tell)
    if since == "a first list":
        folder.hangs = False
    async with running(log, tmp_path) as run:
        if since == "a first list":
            await run.until(lambda: all_signed(tmp_path, [0, 0]))
            folder.hangs = True
        monkeypatch.setattr(writer, "_LATE_S", 0.1)
        for n in range(20):
            log.append(EVENTS, 0, event(n), key=b"s")
            if n % 5 == 4:
                await run.until(lambda n=n: archived(tmp_path) == n + 1)
        await run.until(lambda: log.committed("archive", EVENTS, 0).offset == 20)
        await run.until(lambda: told["digest_lists.late"] == 2)
        listed = [one.read_bytes() for one in tmp_path.glob("digests/lists/*/*/*")]
        late_s = thread.metrics.LISTS_LATE.collect()[0].samples[0].value
        folder.mend()
        await run.until(lambda: all_signed(tmp_path, [20, 0]))
        await run.until(lambda: told["digest_lists.resumed"] >= 2)

    assert not any(b'"rows"' in one for one in listed)
    assert late_s > 0.1
    assert [] == verified(tmp_path).findings


async def test_the_end_waits_for_a_list_that_is_being_written(tmp_path, monkeypatch):
    """What can be signed is signed, before the process is gone."""
    folder, close = DigestFolder(monkeypatch), ListThread.close
    listed: list[Path] = []

    async def closing(lists: ListThread) -> None:
        folder.mend()
        await close(lists)
        listed.extend(tmp_path.glob("digests/lists/*/*/*.json"))

    monkeypatch.setattr(thread, "_PATIENCE_S", 0.05)
    log = MemoryLog(partitions=1)
    log.append(EVENTS, 0, event(0), key=b"s")
    async with running(log, tmp_path) as run:
        await run.until(lambda: archived(tmp_path) == 1)
        monkeypatch.setattr(thread, "_PATIENCE_S", 30.0)
        monkeypatch.setattr(ListThread, "close", closing)

    assert len(listed) == 1
    assert [1] == [one.signed_to for one in verified(tmp_path).partitions]


async def test_lists_that_hang_do_not_hold_up_the_end(tmp_path, monkeypatch):
    """They are left to the next owner, who signs all."""
    folder = DigestFolder(monkeypatch)
    monkeypatch.setattr(thread, "_PATIENCE_S", 0.05)
    log = MemoryLog(partitions=1)
    log.append(EVENTS, 0, event(0), key=b"s")
    async with running(log, tmp_path) as run:
        await run.until(lambda: archived(tmp_path) == 1)
    folder.hangs = False
    async with running(log, tmp_path) as run:
        await run.until(lambda: all_signed(tmp_path, [1]))
    folder.mend()

    assert [] == verified(tmp_path).findings


async def test_a_partition_that_was_given_away_writes_no_list(tmp_path, monkeypatch):
    """What waits behind a store that hangs is dropped with it, and holds no memory."""
    folder = DigestFolder(monkeypatch)
    monkeypatch.setattr(thread, "_PATIENCE_S", 0.05)
    made = proof(tmp_path)
    made.check()
    store = open_store(tmp_path / "archive")
    gone = [made.writer(store, Place("events", 0), 0) for _ in range(3)]
    for one in gone:
        one.complete(1_760_000_000_000)
        one.write_soon()
    del gone, one
    monkeypatch.setattr(thread, "_PATIENCE_S", 30.0)
    folder.mend()
    await made.close()

    assert [] == list(tmp_path.glob("digests/lists/**/*.json"))


async def test_keys_that_cannot_be_used_are_found_at_start(tmp_path):
    """Not minutes later, when the first list is due."""
    with pytest.raises(ConfigurationError, match="fleetwake keys new"):
        proof(tmp_path, make=False).check()
