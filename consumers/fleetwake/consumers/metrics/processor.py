"""The metrics of one partition: rows in memory, snapshots out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import structlog

from fleetwake.consumers.metrics.aggregate import aggregate
from fleetwake.consumers.metrics.exposition import FOLDED, LATE, UNREADABLE
from fleetwake.consumers.metrics.windows import OTHER, WINDOW_S, Windows
from fleetwake.consumers.runtime.service import OutRecord
from fleetwake.schemas.codec import PackagedSchemas, decode_record, encode_record
from fleetwake.schemas.errors import (
    FleetwakeError,
    InvalidRecordError,
    UnknownSchemaError,
)
from fleetwake.schemas.records import MetricWindow
from fleetwake.schemas.topics import METRICS

if TYPE_CHECKING:
    from fleetwake.consumers.metrics.exposition import Series
    from fleetwake.consumers.metrics.settings import MetricsSettings
    from fleetwake.consumers.runtime.service import EventBatch, PartitionStart

__all__ = ["PartitionMetrics", "row_key"]

_log = structlog.get_logger("fleetwake.metrics")


class PartitionMetrics:
    """A processor that counts the events of one partition."""

    def __init__(
        self, start: PartitionStart, settings: MetricsSettings, series: Series
    ) -> None:
        self._start = start
        self._series = series
        self._kept = int(settings.retention_h * 3600) // WINDOW_S
        self._windows = Windows(kept=self._kept, max_rows=settings.max_rows_per_window)

    async def restore(self) -> None:
        """
        Read back what was published.

        Raises:
            RetriableError: the metrics topic cannot be read now.
            UnknownSchemaError: a newer release has written a row.
            FleetwakeError: rows hold offsets that the events topic does not have.
        """
        start, schemas = self._start, PackagedSchemas()
        async for record in start.reader.read(METRICS, start.partition):
            if record.value is None:
                continue
            try:
                row = decode_record(MetricWindow, record.value, schemas)
            except UnknownSchemaError:
                raise
            except InvalidRecordError as exc:
                UNREADABLE.inc()
                _log.warning("row.unreadable", offset=record.offset, why=exc.reason)
                continue
            if (row.source_partition, row.window_s) == (start.partition, WINDOW_S):
                self._windows.restore(row)
        if self._windows.applied_through >= start.log_end:
            raise FleetwakeError(
                f"published metrics hold events up to offset "
                f"{self._windows.applied_through} of {start.topic_name}"
                f"[{start.partition}], which ends at {start.log_end}: the topic was "
                "made anew. Run `fleetwake reset`, or use another topic prefix"
            )

    @property
    def resume_from(self) -> None:
        """The group's committed offset; rows skip what they hold beyond it."""
        return

    def process(self, batch: EventBatch, /) -> None:
        """Add the batch to its rows."""
        windows = self._windows
        summed = aggregate(
            batch,
            windows.newest,
            kept=self._kept,
            apart=batch.records[0].offset <= windows.applied_through,
        )
        if summed is None:
            return
        LATE.inc(summed.late)
        for group in summed.groups:
            pair = windows.add(group)
            if pair is None:
                continue
            self._series.add(pair, group.counts)
            if pair == (OTHER, OTHER):
                FOLDED.inc(group.counts.events)
        windows.advance(summed.newest)

    async def flush(self) -> None:
        """
        Publish a snapshot of every row that was changed since the last flush.

        Raises:
            RetriableError: not all was acknowledged; the same is published again.
        """
        partition = self._start.partition
        rows = [
            OutRecord(METRICS, row_key(row), encode_record(row), partition)
            for row in self._windows.changed(partition)
        ]
        if rows:
            await self._start.publisher.publish(rows)
            self._windows.published()


def row_key(row: MetricWindow) -> bytes:
    """
    Make the key of the metrics topic: a JSON array of window and dimensions.

    Window start (UTC microseconds), its length in seconds, agent, tool. The source's
    partition is the record's own.
    """
    return json.dumps(
        [row.window_start, row.window_s, row.agent_id, row.tool_name],
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()
