"""The archive service: where each partition's chain goes on."""

from __future__ import annotations

import asyncio
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from fleetwake.consumers.archive import metrics
from fleetwake.consumers.archive.chain import Chain
from fleetwake.consumers.archive.columns import ARCHIVE_SCHEMA
from fleetwake.consumers.archive.duplicates import MAX_FILES
from fleetwake.consumers.archive.errors import RecreatedTopicError
from fleetwake.consumers.archive.gap import gap_alert
from fleetwake.consumers.archive.processor import PartitionArchive, Room, Tail
from fleetwake.consumers.archive.proof.lists import Place
from fleetwake.consumers.archive.threads import DaemonThreads
from fleetwake.consumers.runtime.service import PartitionFencedError
from fleetwake.consumers.stores import StoreRefusedError, open_store
from fleetwake.schemas.errors import ConfigurationError, RetriableError
from fleetwake.schemas.topics import EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetwake.consumers.archive.footer import Footer
    from fleetwake.consumers.archive.proof.proof import Proof
    from fleetwake.consumers.archive.sealing import Sealing
    from fleetwake.consumers.archive.settings import ArchiveSettings
    from fleetwake.consumers.runtime.replays import Treatment
    from fleetwake.consumers.runtime.service import FlushPolicy, PartitionStart

__all__ = ["Archive"]

_T = TypeVar("_T")

_THREADS: Final = 4
"""Files that are written at the same time. Threads of our own, because a store that
hangs would otherwise hold those that decode."""

_TABLE_BYTES: Final = 48 * 1024 * 1024
"""
What is held in tables before it is compressed, of all partitions together. A row takes
twice the bytes of its value; 12 partitions that catch up make row groups of 14,000
rows. With twice as much the process had 60 MB more, and took no less time.
"""

_OPEN_DEADLINE_S: Final = 30.0

_BRIEFLY_S: Final = 1.0
"""So long once one was not answered: partitions are opened one after another."""

_log = structlog.get_logger("fleetwake.archive")


class Archive:
    """
    The service. See the package for its delivery guarantees.

    Raises:
        ConfigurationError: the store cannot be used.
    """

    name = "archive"
    topics = (EVENTS,)
    owns_dead_letters = True
    # Every offset has a row.
    replays: Treatment = "keep"

    def __init__(
        self,
        settings: ArchiveSettings,
        proof: Proof | None = None,
        sealing: Sealing | None = None,
    ) -> None:
        self.settings = settings
        self._sealing = sealing
        self._proof = proof
        self.store = open_store(settings.folder)
        self._threads = DaemonThreads(_THREADS, "archive")
        self._room = Room(_TABLE_BYTES)
        self._checking = Lock()
        self._is_checked = False
        self._is_answered: Callable[[], bool] = lambda: True
        self._ends: dict[tuple[str, int], int] = {}

    @property
    def flush_policy(self) -> FlushPolicy:
        """When a partition's file is written."""
        return self.settings.flush_policy

    async def open(self, start: PartitionStart, /) -> PartitionArchive:
        """
        Find where the chain goes on.

        Raises:
            ConfigurationError: the archive's store cannot be used.
            UnreadableFileError: the chain's last file is not one of ours.
            RecreatedTopicError: the chain is ahead of the topic.
            RetriableError: the store fails, or another writer was faster.
        """
        chain = Chain(self.store, start.topic_name, start.partition)
        tail = await self._soon(lambda: self._find_tail(chain, start))
        self._check_end(chain, tail.next_offset, start.log_end)
        first, end = tail.next_offset, start.log_start
        if first < end:
            # Told before it is written: a crash in between tells it again.
            await start.publisher.publish([gap_alert(chain, first, end)])
            await self._soon(lambda: self._append_gap(chain, first, end))
            tail = Tail(end, files=(*tail.files, chain.path(first)))
        lists = None
        if self._proof is not None:
            place = Place(chain.topic, chain.partition)
            lists = self._proof.writer(self.store, place, tail.next_offset)
        sealer = None
        if self._sealing is not None:
            sealer = self._sealing.sealer(chain.topic, chain.partition)
        return PartitionArchive(
            chain, tail, self.settings, self._threads, self._room, lists, sealer
        )

    async def close(self) -> None:
        """Wait for the digest lists that are being written, briefly."""
        if self._proof is not None:
            await self._proof.close()

    def _check_end(self, chain: Chain, next_offset: int, log_end: int) -> None:
        """
        Refuse a topic that ends before its chain.

        If it does so still when it is asked after the chain: another owner may have
        gone on meanwhile.
        """
        place = chain.topic, chain.partition
        seen_before, self._ends[place] = self._ends.get(place, 0), next_offset
        if next_offset <= log_end:
            return
        if seen_before <= log_end:
            raise RetriableError(f"{chain.folder} went on meanwhile", after_s=0.1)
        raise RecreatedTopicError(
            *place, f"goes on at offset {next_offset}, but the topic ends at {log_end}"
        )

    async def _soon(self, work: Callable[[], _T]) -> _T:
        """Do it in a thread; one that hangs must not hold up the loop."""
        doing = asyncio.get_running_loop().run_in_executor(self._threads, work)
        is_first = self._is_answered()
        deadline_s = _OPEN_DEADLINE_S if is_first else _BRIEFLY_S
        try:
            return await asyncio.wait_for(asyncio.shield(doing), deadline_s)
        except TimeoutError as exc:
            if is_first:
                self._is_answered = doing.done
            else:
                doing.cancel()  # or they would queue up
            raise RetriableError(f"{self.store.url} does not answer") from exc

    def _find_tail(self, chain: Chain, start: PartitionStart) -> Tail:
        self._check_store()
        files = chain.newest(MAX_FILES, near=start.committed or 0)
        if not files:
            return Tail(start.log_start)
        last = chain.footer(files[-1])
        # It is read again, to see that the topic is still the same. An unreadable one
        # has no digest here: it would become a dead letter again.
        if start.log_start > last.end_offset or not last.last_sha256:
            return Tail(last.end_offset + 1, tuple(files))
        digest = bytes.fromhex(last.last_sha256)
        if not last.last_mark:
            return Tail(last.end_offset + 1, tuple(files), digest)
        return self._sealed_tail(last, tuple(files), digest)

    def _sealed_tail(self, last: Footer, files: tuple[str, ...], digest: bytes) -> Tail:
        """Where the last record is sealed, its key is needed to know it again."""
        known = self._sealing.last_sealed(last) if self._sealing else None
        return Tail(last.end_offset + 1, files, digest if known else b"", known)

    def _check_store(self) -> None:
        with self._checking:
            if self._is_checked:
                return
            try:
                self.store.check()
            except StoreRefusedError as exc:
                raise ConfigurationError(
                    f"the archive cannot be written ({exc}): set "
                    "FLEETWAKE_ARCHIVE_FOLDER to a place where it can"
                ) from exc
            if self._proof is not None:
                self._proof.check()
            if self._sealing is not None:
                self._sealing.check()
            self._is_checked = True

    def _append_gap(self, chain: Chain, first: int, end: int) -> None:
        """Say in the chain that the log has lost the offsets from `first` to `end`."""
        try:
            chain.append(
                ARCHIVE_SCHEMA.empty_table(),
                start=first,
                end=end - 1,
                zstd_level=self.settings.zstd_level,
                gap="retention",
            )
        except PartitionFencedError as exc:
            raise RetriableError(str(exc), after_s=0.1) from exc
        metrics.LOST_OFFSETS.inc(end - first)
        _log.error(
            "offsets.lost",
            topic=chain.topic,
            partition=chain.partition,
            first=first,
            last=end - 1,
            why="retention removed them before they were archived",
        )
