"""The archive in the consume loop, on a log in memory."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
from tests.running import LearningSchemas, Running, event

from fleetwake.consumers.archive.archive import Archive
from fleetwake.consumers.archive.settings import ArchiveSettings
from fleetwake.consumers.runtime.runner import Runner
from fleetwake.consumers.runtime.settings import RuntimeSettings
from fleetwake.consumers.testing import MemoryLog
from fleetwake.schemas.topics import DEAD_LETTERS, EVENTS

if TYPE_CHECKING:
    from pathlib import Path

JUNK = b"no frame at all"


def running(log: MemoryLog, folder: Path, group: str = "archive") -> Running:
    service = Archive(ArchiveSettings(folder=folder, max_age_s=0.02))
    schemas = LearningSchemas()
    source = log.source(group, EVENTS)
    runner = Runner(
        service,
        source,
        schemas,
        RuntimeSettings(poll_timeout_s=0.01, max_poll_records=5),
        topic_name=lambda topic: topic.name,
    )
    return Running(service, runner, schemas, source)


def archived(folder: Path) -> Counter[tuple[int, int, bytes | None]]:
    """Count the rows by partition, offset and value."""
    return Counter(
        (row["kafka_partition"], row["kafka_offset"], row["kafka_value"])
        for path in folder.glob("raw/*/*/*.parquet")
        for row in pq.read_table(path).to_pylist()
    )


def logged(log: MemoryLog) -> Counter[tuple[int, int, bytes | None]]:
    return Counter(
        (partition, one.offset, one.value)
        for partition in range(log.partitions)
        for one in log.records(EVENTS, partition)
    )


def fill(log: MemoryLog, count: int) -> None:
    for n in range(count):
        log.append(EVENTS, n % log.partitions, event(n), key=b"s")
    log.append(EVENTS, 0, JUNK, key=b"s")
    log.append(EVENTS, 1, None, key=b"s")


async def test_every_record_is_archived_and_unreadable_ones_are_dead_letters(tmp_path):
    """One row each, one dead letter each, and then the offsets are committed."""
    log = MemoryLog(partitions=2)
    fill(log, 20)
    async with running(log, tmp_path) as run:
        await run.until(lambda: archived(tmp_path) == logged(log))

    dead = [one for p in range(2) for one in log.records(DEAD_LETTERS, p)]
    assert [one.value for one in dead] == [JUNK, None]
    for partition in range(2):
        committed = log.committed("archive", EVENTS, partition)
        assert committed is not None
        assert committed.offset == 11


async def test_lost_commits_make_no_duplicates(tmp_path):
    """The chain says where to go on, and nothing is a dead letter twice."""
    log = MemoryLog(partitions=2)
    fill(log, 10)
    async with running(log, tmp_path) as run:
        await run.until(lambda: archived(tmp_path) == logged(log))
    log.offsets.clear()
    fill(log, 10)
    async with running(log, tmp_path) as run:
        await run.until(lambda: archived(tmp_path) == logged(log))

    assert sum(len(log.records(DEAD_LETTERS, p)) for p in range(2)) == 4


async def test_two_groups_may_write_one_archive(tmp_path):
    """Both own every partition; each is fenced and goes on behind the other."""
    log = MemoryLog(partitions=2)
    async with (
        running(log, tmp_path, "a") as one,
        running(log, tmp_path, "b") as other,
    ):
        for _ in range(5):
            fill(log, 6)
            await one.until(lambda: archived(tmp_path) == logged(log))
            await other.until(lambda: archived(tmp_path) == logged(log))

    assert archived(tmp_path) == logged(log)


async def test_what_retention_took_while_it_was_away_is_on_record(tmp_path):
    """The hole is an empty file, and the rest is archived."""
    log = MemoryLog(partitions=1)
    for n in range(4):
        log.append(EVENTS, 0, event(n))
    async with running(log, tmp_path) as run:
        await run.until(lambda: archived(tmp_path) == logged(log))
    for n in range(4, 9):
        log.append(EVENTS, 0, event(n))
    before = logged(log)
    log.delete_before(EVENTS, 0, 7)
    async with running(log, tmp_path) as run:
        await run.until(lambda: archived(tmp_path).total() == 6)

    gap = tmp_path / "raw/topic=events/partition=00000" / f"{4:020d}.parquet"
    assert pq.read_metadata(gap).metadata[b"fleetwake.gap"] == b"retention"
    assert sorted(at for _, at, _ in before - archived(tmp_path)) == [4, 5, 6]
