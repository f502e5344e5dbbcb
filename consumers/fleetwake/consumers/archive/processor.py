"""The archive of one partition: collect rows, append one file per flush."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

import pyarrow as pa

from fleetwake.consumers.archive.columns import record_digests, to_table
from fleetwake.consumers.archive.duplicates import RecentEvents
from fleetwake.consumers.archive.errors import RecreatedTopicError
from fleetwake.consumers.archive.parquet import ROW_GROUP
from fleetwake.schemas.errors import RetriableError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from fleetwake.consumers.archive.chain import Chain
    from fleetwake.consumers.archive.draft import Draft, Finished
    from fleetwake.consumers.archive.proof.writer import ListWriter
    from fleetwake.consumers.archive.sealing import LastSealed, Sealer
    from fleetwake.consumers.archive.settings import ArchiveSettings
    from fleetwake.consumers.runtime.service import EventBatch

__all__ = ["PartitionArchive", "Room", "Tail"]

_PATIENCE_S: Final = 5.0
"""A flush waits so long for the store; then the partition is paused, the file is
still being written, and the others go on."""

_LOOK_S: Final = 0.05
"""And so long each time that the runtime asks again."""

_AGAIN_S: Final = 0.25
"""It asks after this time, and then each time after twice as long: the partition goes
on within twice the time that the file took."""


@dataclass(frozen=True, slots=True)
class Tail:
    """
    The end of a chain.

    `next_offset` is the first that it does not cover, `files` are its newest ones,
    and `last_sha256` is the digest of the record before `next_offset` where the topic
    can still be asked for that. `last_sealed` knows it again in its place where it is
    sealed.
    """

    next_offset: int
    files: tuple[str, ...] = ()
    last_sha256: bytes = b""
    last_sealed: LastSealed | None = None

    def is_last(self, digest: bytes) -> bool:
        """Whether a record has the digest of the last one."""
        if self.last_sealed is not None:
            return self.last_sealed.is_of(digest)
        return digest == self.last_sha256


class Room:
    """
    What the partitions of a process may hold in tables, together, in bytes.

    Beyond it those that hold their share or more compress it to a row group. So row
    groups are large where few partitions are behind, and memory is bounded where all
    are.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # Weak: nobody says when a partition is given away.
        self._partitions: WeakSet[PartitionArchive] = WeakSet()

    def enter(self, partition: PartitionArchive) -> None:
        """Count a partition in, until it is dropped."""
        self._partitions.add(partition)

    def is_short_for(self, partition: PartitionArchive) -> bool:
        """Whether a partition is to compress what it holds."""
        held = [one.held_bytes for one in self._partitions]
        return (
            sum(held) > self._max_bytes
            and partition.held_bytes * len(held) >= self._max_bytes
        )


class PartitionArchive:
    """
    The processor of one partition.

    Memory is bounded by `room`, by the flush policy, and by the runtime, which pauses a
    partition whose flush does not succeed.
    """

    def __init__(  # noqa: PLR0917  # made in one place
        self,
        chain: Chain,
        tail: Tail,
        settings: ArchiveSettings,
        threads: Executor,
        room: Room,
        lists: ListWriter | None = None,
        sealer: Sealer | None = None,
    ) -> None:
        self._chain = chain
        self._tail = tail
        self._settings = settings
        self._threads = threads
        self._room = room
        self._next = tail.next_offset
        self._last_sha256 = tail.last_sha256
        self._tables: list[pa.Table] = []
        self._held_rows = 0
        self.held_bytes = 0
        """Bytes of the tables that are not compressed yet."""
        self._draft = self._new_draft()
        self._last_mark = ""
        self._finished: Finished | None = None
        self._recent: RecentEvents | None = None
        # Ahead of the first file, which needs it: in a bucket it takes seconds.
        self._restoring = threads.submit(self._restored)
        self._lists = lists
        self._sealer = sealer
        self._complete_ms: int | None = None
        self._appending: asyncio.Future[None] | None = None
        room.enter(self)

    @property
    def next_offset(self) -> int:
        """The first offset that is neither archived nor held."""
        return self._next

    @property
    def resume_from(self) -> int:
        """
        Where to read on, whatever the group committed.

        With the last record that is archived, to see that the topic is still the same.
        """
        return self._next - 1 if self._last_sha256 else self._next

    def process(self, batch: EventBatch, /) -> None:
        """
        Collect. What the chain or this processor holds already is skipped.

        Raises:
            RecreatedTopicError: the topic has another record where the chain ends.
        """
        if self._last_sha256:
            self._check_last(batch)
        batch = _from_offset(batch, self._next)
        if not batch.records:
            return
        table = to_table(
            batch,
            self._chain.topic,
            keep_bytes=self._settings.keep_bytes or self._sealer is not None,
        )
        self._tables.append(table)
        self._held_rows += table.num_rows
        self.held_bytes += table.get_total_buffer_size()
        self._next = batch.next_offset
        if self._may_compress and (
            self._held_rows >= ROW_GROUP or self._room.is_short_for(self)
        ):
            self._compress()

    def tick(self, now_ms: int, /) -> bool:
        """Have a digest list written if it is time, also if nothing came."""
        if self._lists is None:
            return False
        self._complete_ms = now_ms
        if self._has_rows:
            return self._lists.is_due
        self._list()
        return False

    async def flush(self) -> None:
        """
        Append one file with all that was collected.

        A digest list, if it is time, is written in a thread of its own: none holds up
        the archive.

        Raises:
            PartitionFencedError: another writer has appended it.
            RetriableError: the store refuses or is slow; all is held for the next try.
        """
        patience = _LOOK_S
        if self._appending is None:
            if not self._has_rows:
                return
            loop = asyncio.get_running_loop()
            self._appending = loop.run_in_executor(self._threads, self._write)
            # Nobody asks for it any more once the partition is given away.
            self._appending.add_done_callback(_forgive)
            patience = _PATIENCE_S
        done, _ = await asyncio.wait({self._appending}, timeout=patience)
        if not done:
            raise RetriableError(
                f"{self._chain.store.url} is slow; the file is still being written",
                after_s=_AGAIN_S,
            )
        appended, self._appending = self._appending, None
        appended.result()
        # Arrow would keep what it has freed for a next time, of each thread.
        pa.default_memory_pool().release_unused()

    @property
    def _has_rows(self) -> bool:
        return bool(self._tables or self._draft.rows or self._finished)

    def _write(self) -> None:
        while self._has_rows:
            self._append()
        self._list()

    def _list(self) -> None:
        """Have a digest list written, if it is time: what was processed is durable."""
        if self._lists is None:
            return
        if self._complete_ms is not None:
            self._lists.complete(self._complete_ms)
        self._lists.write_soon()

    def _append(self) -> None:
        """Publish what is held; where that failed, the same file again."""
        if self._finished is None:
            self._compress()
            self._finished = self._draft.finish(
                self._next - 1, last_mark=self._last_mark
            )
            self._events_before().end_file()
            self._draft = self._new_draft()
        appended = self._chain.publish(self._finished)
        self._finished = None
        if self._lists is not None:
            self._lists.appended(appended)

    @property
    def _may_compress(self) -> bool:
        """Whether it takes no I/O: `process` does none, and sealing needs keys."""
        return self._sealer is None and (
            self._recent is not None
            or (self._restoring.done() and self._restoring.exception() is None)
        )

    def _compress(self) -> None:
        """Make a row group of the tables."""
        if not self._tables:
            return
        recent, table = self._events_before(), pa.concat_tables(self._tables)
        if self._sealer is not None:
            table, self._last_mark = self._sealer.seal(table)
        self._draft.add(recent.mark(table))
        self._tables.clear()
        self._held_rows = self.held_bytes = 0

    def _new_draft(self) -> Draft:
        return self._chain.draft(self._next, zstd_level=self._settings.zstd_level)

    def _events_before(self) -> RecentEvents:
        if self._recent is None:
            has_failed = self._restoring.exception() is not None
            self._recent = self._restored() if has_failed else self._restoring.result()
        return self._recent

    def _restored(self) -> RecentEvents:
        return RecentEvents.restored(self._chain.store, self._tail.files)

    def _check_last(self, batch: EventBatch) -> None:
        self._last_sha256 = b""
        first, at = batch.records[0], self._next - 1
        if first.offset != at:
            return  # compaction or retention has taken it meanwhile
        topic, partition = self._chain.topic, self._chain.partition
        [found] = record_digests(topic, partition, [at], [first.key], [first.value])
        if not self._tail.is_last(found):
            raise RecreatedTopicError(
                topic, partition, f"has another record at offset {at} than the topic"
            )


def _forgive(appending: asyncio.Future[None]) -> None:
    if not appending.cancelled():
        appending.exception()


def _from_offset(batch: EventBatch, offset: int) -> EventBatch:
    """Leave out the records below an offset."""
    records = batch.records
    skip = bisect_left(records.offsets, offset)
    if not skip:
        return batch
    assert batch.events is not None  # noqa: S101  # the events topic is always decoded
    decoded = bisect_left(batch.rows, skip)
    return replace(
        batch,
        records=records[skip:],
        events=batch.events.slice(decoded),
        rows=[row - skip for row in batch.rows[decoded:]],
        invalid=[one for one in batch.invalid if one.record.offset >= offset],
    )
