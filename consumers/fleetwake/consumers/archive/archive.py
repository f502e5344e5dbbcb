"""The archive service: where each partition's chain goes on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from fleetwake.consumers.archive import metrics
from fleetwake.consumers.archive.chain import Chain
from fleetwake.consumers.archive.columns import ARCHIVE_SCHEMA
from fleetwake.consumers.archive.errors import RecreatedTopicError
from fleetwake.consumers.archive.processor import PartitionArchive
from fleetwake.consumers.runtime.service import PartitionFencedError
from fleetwake.schemas.errors import ConfigurationError, RetriableError
from fleetwake.schemas.topics import EVENTS

if TYPE_CHECKING:
    from fleetwake.consumers.archive.settings import ArchiveSettings
    from fleetwake.consumers.runtime.service import FlushPolicy, PartitionStart

__all__ = ["Archive"]

_log = structlog.get_logger("fleetwake.archive")


@dataclass(frozen=True, slots=True)
class Archive:
    """The service. See the package for its delivery guarantees."""

    settings: ArchiveSettings

    name = "archive"
    topics = (EVENTS,)
    owns_dead_letters = True

    @property
    def flush_policy(self) -> FlushPolicy:
        """When a partition's file is written."""
        return self.settings.flush_policy

    async def open(self, start: PartitionStart, /) -> PartitionArchive:
        """
        Find where the chain goes on.

        Raises:
            ConfigurationError: the archive's folder cannot be used.
            UnreadableFileError: the chain's last file is not one of ours.
            RecreatedTopicError: the chain is ahead of the topic.
            RetriableError: the disk refuses, or another writer was faster.
        """
        return await asyncio.to_thread(self._open, start)

    def _open(self, start: PartitionStart) -> PartitionArchive:
        chain = Chain(self.settings.folder, start.topic_name, start.partition)
        try:
            chain.prepare()
            last = chain.last()
        except (PermissionError, FileExistsError, NotADirectoryError) as exc:
            raise ConfigurationError(
                f"the archive cannot write to {chain.folder} ({exc}): set "
                "FLEETWAKE_ARCHIVE_FOLDER to a folder that it can"
            ) from exc
        except OSError as exc:
            raise RetriableError(f"{chain.folder} cannot be used ({exc})") from exc
        wanted = start.log_start if last is None else last.end_offset + 1
        if wanted > start.log_end:
            raise RecreatedTopicError(
                start.topic_name, start.partition, wanted, start.log_end
            )
        if wanted < start.log_start:
            self._append_gap(chain, wanted, start.log_start)
            wanted = start.log_start
        return PartitionArchive(chain, wanted, self.settings)

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
