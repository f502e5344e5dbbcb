"""
The chain of files that the archive of a partition is.

    raw/topic=fleetwake.events/partition=00003/00000000000000123456.parquet

A file is named by the offset that was wanted when it was begun, which is one more
than the last that the file before it covers. Offsets without a record (compaction,
transaction markers) belong to the file whose range they fall into, so that the chain
has no holes, and rows are never counted to find an offset.
"""
# pyright: reportUnknownParameterType=false

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from fleetwake.consumers.archive import metrics
from fleetwake.consumers.archive.errors import UnreadableFileError
from fleetwake.consumers.archive.footer import Footer
from fleetwake.consumers.archive.parquet import write
from fleetwake.consumers.archive.publish import (
    make_folder,
    publish,
    remove_stale,
    sync_folder,
)
from fleetwake.consumers.runtime.service import PartitionFencedError
from fleetwake.schemas.codec import schema_of
from fleetwake.schemas.errors import RetriableError
from fleetwake.schemas.event import AuditEvent

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

__all__ = ["Chain"]

_NAME = re.compile(r"[0-9]{20}\.parquet")


@dataclass(frozen=True, slots=True)
class Chain:
    """
    The files of one partition below an archive's folder.

    All methods block. Any number of writers in any number of processes may share a
    chain: each file is published once, by one of them.
    """

    archive: Path
    topic: str
    partition: int

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return (
            self.archive
            / "raw"
            / f"topic={self.topic}"
            / f"partition={self.partition:05d}"
        )

    def path(self, start: int) -> Path:
        """Name the file that begins at an offset."""
        return self.folder / f"{start:020d}.parquet"

    def prepare(self) -> None:
        """
        Make the folder, and durable what a killed writer may have left half-done.

        Raises:
            OSError: the folder cannot be made or written.
        """
        make_folder(self.folder)
        remove_stale(self.folder)
        # It may have been killed after the link and before this.
        sync_folder(self.folder)

    def last(self) -> Footer | None:
        """
        Read the footer of the newest file; None where there is none yet.

        Raises:
            UnreadableFileError: that file is not one of this chain.
            OSError: the folder cannot be read.
        """
        with os.scandir(self.folder) as entries:
            names = (one.name for one in entries)
            newest = max((one for one in names if _NAME.fullmatch(one)), default=None)
        if newest is None:
            return None
        path = self.folder / newest
        footer = _read(path)
        if (footer.topic, footer.partition) != (self.topic, self.partition):
            raise UnreadableFileError(
                path, f"it is of {footer.topic}[{footer.partition}]"
            )
        if path != self.path(footer.start_offset):
            raise UnreadableFileError(path, f"it begins at {footer.start_offset}")
        if footer.end_offset < footer.start_offset:
            raise UnreadableFileError(path, "it ends before it begins")
        return footer

    def append(
        self, table: pa.Table, *, start: int, end: int, zstd_level: int, gap: str = ""
    ) -> None:
        """
        Publish the file that covers the offsets from `start` to `end`, inclusive.

        Raises:
            PartitionFencedError: another writer has published it.
            RetriableError: the disk refuses. The file may be there nevertheless,
                whole; then the next try is fenced.
        """
        invalid = table["invalid_reason"]
        footer = Footer(
            topic=self.topic,
            partition=self.partition,
            start_offset=start,
            end_offset=end,
            rows=table.num_rows,
            invalid_rows=table.num_rows - invalid.null_count,
            gap=gap,
            schema_fingerprint=schema_of(AuditEvent).fingerprint.hex(),
            writer=version("fleetwake"),
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        path = self.path(start)
        try:
            size = publish(
                path,
                partial(write, table=table, footer=footer, zstd_level=zstd_level),
            )
        except FileExistsError as exc:
            metrics.CONFLICTS.inc()
            raise PartitionFencedError(
                f"another writer has published {path}; what is held of it is dropped"
            ) from exc
        except OSError as exc:
            raise RetriableError(f"{path} cannot be written ({exc})") from exc
        metrics.FILES.inc()
        metrics.BYTES.inc(size)


def _read(path: Path) -> Footer:
    try:
        with path.open("rb") as file:
            return Footer.from_metadata(pq.read_metadata(file).metadata or {})
    except (OSError, KeyError, ValueError) as exc:
        # pyarrow reports damage as ValueError, or as an OSError without a number.
        if isinstance(exc, OSError) and exc.errno is not None:
            raise
        raise UnreadableFileError(path, f"its footer cannot be read ({exc})") from exc
