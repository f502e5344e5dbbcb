"""The archive of one partition: collect tables, append one file per flush."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from fleetwake.consumers.archive.columns import digester, to_table

if TYPE_CHECKING:
    from fleetwake.consumers.archive.chain import Chain
    from fleetwake.consumers.archive.settings import ArchiveSettings
    from fleetwake.consumers.runtime.service import EventBatch

__all__ = ["PartitionArchive"]


class PartitionArchive:
    """
    The processor of one partition.

    `next_offset` is the first offset that `chain` does not cover. Memory is bounded
    by the flush policy alone.
    """

    def __init__(
        self, chain: Chain, next_offset: int, settings: ArchiveSettings
    ) -> None:
        self._chain = chain
        self._start = self._next = next_offset
        self._settings = settings
        self._digest = digester(chain.topic, chain.partition)
        self._tables: list[pa.Table] = []

    @property
    def resume_from(self) -> int:
        """The next offset that is wanted, whatever the group committed."""
        return self._next

    def process(self, batch: EventBatch, /) -> None:
        """Collect. What the chain or this processor holds already is skipped."""
        batch = _from_offset(batch, self._next)
        if not batch.records:
            return
        self._tables.append(
            to_table(
                batch,
                self._chain.topic,
                self._digest,
                keep_bytes=self._settings.keep_bytes,
            )
        )
        self._next = batch.next_offset

    async def flush(self) -> None:
        """
        Append one file with all that was collected.

        Raises:
            PartitionFencedError: another writer has appended it.
            RetriableError: the disk refuses; all is held for the next try.
        """
        if self._tables:
            await asyncio.to_thread(self._append)

    def _append(self) -> None:
        self._chain.append(
            pa.concat_tables(self._tables),
            start=self._start,
            end=self._next - 1,
            zstd_level=self._settings.zstd_level,
        )
        self._start = self._next
        self._tables.clear()
        # Arrow would keep what it has freed for a next time, of each thread.
        pa.default_memory_pool().release_unused()


def _from_offset(batch: EventBatch, offset: int) -> EventBatch:
    """Leave out the records below an offset."""
    records = batch.records
    skip = sum(one.offset < offset for one in records)
    if not skip:
        return batch
    assert batch.events is not None  # noqa: S101  # the events topic is always decoded
    decoded = sum(row < skip for row in batch.rows)
    return replace(
        batch,
        records=records[skip:],
        events=batch.events.slice(decoded),
        rows=[row - skip for row in batch.rows[decoded:]],
        invalid=[one for one in batch.invalid if one.record.offset >= offset],
    )
