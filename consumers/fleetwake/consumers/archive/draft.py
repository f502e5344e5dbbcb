"""
A raw file that is being made.

Row groups are compressed as they come, and what the footer says is summed up beside
them: a partition that has fallen behind holds compressed bytes instead of tables.
"""
# pyright: reportUnknownParameterType=false

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, NamedTuple

import pyarrow as pa

from fleetwake.consumers.archive.columns import ARCHIVE_SCHEMA
from fleetwake.consumers.archive.footer import Footer
from fleetwake.consumers.archive.parquet import ROW_GROUP, opened
from fleetwake.consumers.archive.proof.merkle import Tree, column_bytes
from fleetwake.schemas.arrow import compute
from fleetwake.schemas.codec import schema_of
from fleetwake.schemas.event import AuditEvent

if TYPE_CHECKING:
    import pyarrow.parquet as pq

__all__ = ["Draft", "Finished"]

_DIGEST: Final = 32


class Finished(NamedTuple):
    """A file that is to be published."""

    footer: Footer
    content: memoryview


class Draft:
    """
    The row groups of a file, and what its footer will say of them.

    Not thread safe. Nothing is held but compressed bytes.

    Args:
        topic: The topic's full name.
        partition: Its partition.
        start: The first offset that the file covers.
        zstd_level: How hard it is compressed.
    """

    def __init__(
        self, topic: str, partition: int, start: int, *, zstd_level: int
    ) -> None:
        self._topic = topic
        self._partition = partition
        self._start = self._next = start
        self._zstd_level = zstd_level
        self._sink = pa.BufferOutputStream()
        self._writer: pq.ParquetWriter | None = None
        self._tree = Tree()
        self._holes: list[tuple[int, int]] = []
        self._invalid_rows = self._duplicates = 0
        self._first_append_ms: int | None = None
        self._last_append_ms: int | None = None
        self._last_sha256 = ""
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        """Write a row group: rows of `ARCHIVE_SCHEMA`, behind those before."""
        self._write(table)
        if not table.num_rows:
            return
        offsets, invalid = table["kafka_offset"], table["invalid_reason"]
        times = table["kafka_timestamp"].cast(pa.int64())
        digests = column_bytes(table["record_sha256"])
        self._holes += _holes(offsets, self._next)
        self._next = offsets[-1].as_py() + 1
        self._tree.add(digests)
        self.rows += table.num_rows
        self._invalid_rows += table.num_rows - invalid.null_count
        self._duplicates += table.num_rows - table["duplicate_of"].null_count
        if self._first_append_ms is None:
            self._first_append_ms = times[0].as_py()
        self._last_append_ms = times[-1].as_py()
        self._last_sha256 = "" if invalid[-1].is_valid else digests[-_DIGEST:].hex()

    def finish(self, end: int, *, gap: str = "", last_mark: str = "") -> Finished:
        """End the file, which covers the offsets to `end`, inclusive."""
        if self._writer is None:
            self._write(ARCHIVE_SCHEMA.empty_table())
        assert self._writer is not None  # noqa: S101  # just made
        footer = Footer(
            topic=self._topic,
            partition=self._partition,
            start_offset=self._start,
            end_offset=end,
            rows=self.rows,
            invalid_rows=self._invalid_rows,
            duplicates=self._duplicates,
            holes=tuple(self._holes),
            gap=gap,
            root=self._tree.root().hex(),
            last_sha256=self._last_sha256,
            last_mark=last_mark,
            first_append_ms=self._first_append_ms,
            last_append_ms=self._last_append_ms,
            schema_fingerprint=schema_of(AuditEvent).fingerprint.hex(),
            writer=version("fleetwake"),
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        self._writer.add_key_value_metadata(footer.to_metadata())
        self._writer.close()
        return Finished(footer, memoryview(self._sink.getvalue()))

    def _write(self, table: pa.Table) -> None:
        if self._writer is None:
            # Bloom filters are as large as the first row group needs them.
            rows = max(1, min(table.num_rows, ROW_GROUP))
            self._writer = opened(
                self._sink, table.schema, rows, zstd_level=self._zstd_level
            )
        self._writer.write_table(table, row_group_size=ROW_GROUP)


def _holes(offsets: pa.ChunkedArray, start: int) -> list[tuple[int, int]]:
    """Find the ranges of offsets, from `start` on, that have no record."""
    if offsets[-1].as_py() - start + 1 == len(offsets):
        return []
    found = offsets.combine_chunks()
    before = pa.concat_arrays([pa.array([start - 1], pa.int64()), found[:-1]])
    jumps = compute.greater(compute.subtract(found, before), 1)
    last, first = found.filter(jumps).to_pylist(), before.filter(jumps).to_pylist()
    return [(one + 1, next_ - 1) for one, next_ in zip(first, last, strict=True)]
