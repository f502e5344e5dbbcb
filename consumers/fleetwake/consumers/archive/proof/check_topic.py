"""Is the archive what the topic still has?"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow.parquet as pq

from fleetwake.consumers.archive.columns import record_digests
from fleetwake.consumers.content import CONTENT_KEY, At

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from fleetwake.consumers.archive.proof.lists import Place
    from fleetwake.consumers.archive.proof.report import Checked, Report
    from fleetwake.consumers.content import ContentKeys
    from fleetwake.consumers.runtime.service import Record
    from fleetwake.consumers.stores import Store

__all__ = ["Retained", "check_topic"]

_COLUMNS = ["kafka_offset", "record_sha256"]
_SEALED = [CONTENT_KEY, "kafka_value"]


class _Row(NamedTuple):
    offset: int
    digest: bytes
    content_key: str | None = None
    sealed: bytes | None = None


class Retained(NamedTuple):
    """
    What a topic has of a partition: from `log_start` to before `log_end`.

    `log_end` is looked up after the archive was verified. `committed` is the offset
    that the archive's group had committed before it was, None where it had none.
    """

    log_start: int
    log_end: int
    committed: int | None


async def check_topic(  # noqa: PLR0917  # one caller
    store: Store,
    place: Place,
    retained: Retained,
    records: AsyncIterator[Record],
    report: Report,
    keys: ContentKeys | None = None,
) -> None:
    """
    Compare each record that the topic retains with its row.

    Where a row is sealed and `keys` do not open it, only offset and key.

    Raises:
        RetriableError: the topic cannot be read.
    """
    where = store.url_of(place.files)
    checked = report.of(place)
    end = checked.next_offset or 0
    if _ends_differ(where, place, retained, report, checked):
        return
    rows = _rows(store, place, retained.log_start)
    row = next(rows, None)
    waiting = compared = retired = closed = 0
    async for one in records:
        if one.offset < (checked.retired_to or 0):
            retired += 1
            continue
        if one.offset >= end:
            waiting += 1
            continue
        while row is not None and row.offset < one.offset:
            # Before the first one, retention may have gone on meanwhile.
            if compared:
                what = "the archive has a row, and the topic no record"
                report.add(
                    "topic.inserted", where, what, place=place, offset=row.offset
                )
            row = next(rows, None)
        compared += 1
        if row is None or row.offset != one.offset:
            what = "the topic has a record, and the archive no row"
            report.add("topic.lost", where, what, place=place, offset=one.offset)
            continue
        value, is_open = _archived_value(place, one, row, keys)
        closed += not is_open
        found = record_digests(*place, [one.offset], [one.key], [value])[0]
        if row.digest != found:
            report.add(
                "topic.differs",
                where,
                "the topic has another record than the archive",
                place=place,
                offset=one.offset,
                expected=found.hex(),
                found=row.digest.hex(),
            )
        row = next(rows, None)
    if not (compared or waiting or retired):
        return
    checked.notes.append(
        f"{compared} records compared with the topic; {waiting} are not archived yet"
        + (f", and of {retired} the raw file was removed by age" if retired else "")
        + (f"; of {closed} only the key, they are sealed" if closed else "")
    )


def _ends_differ(
    where: str, place: Place, retained: Retained, report: Report, checked: Checked
) -> bool:
    end = checked.next_offset
    if end is not None and end > retained.log_end:
        report.add(
            "topic.recreated",
            where,
            "the archive goes on beyond the end of the topic",
            place=place,
            offset=retained.log_end,
            expected=f"at most offset {retained.log_end}",
            found=f"offset {end}",
        )
        return True
    if retained.committed is not None and (end or 0) < retained.committed:
        report.add(
            "archive.behind",
            where,
            "the newest files are gone: the archive had committed more to Kafka",
            place=place,
            offset=end or 0,
            expected=f"offset {retained.committed}",
            found=f"offset {end or 0}",
        )
    return False


def _archived_value(
    place: Place, record: Record, row: _Row, keys: ContentKeys | None
) -> tuple[bytes | None, bool]:
    """Return what the row has if it is of this record, and whether that is known."""
    if row.content_key is None:
        return record.value, True
    at = At(*place, record.offset)
    plain = keys and keys.value_of(at, row.content_key, row.sealed)
    if plain is None:
        return row.sealed, False
    return row.sealed if plain == record.value else record.value, True


def _rows(store: Store, place: Place, first: int) -> Iterator[_Row]:
    """Read rows, from the file that holds the first offset on."""
    paths = [one.path for one in store.list(place.files)]
    behind = [one for one in paths if one > place.file(first)]
    before = [one for one in paths if one <= place.file(first)]
    for path in before[-1:] + behind:
        try:
            with store.open(path) as file:
                yield from _rows_of(pq.ParquetFile(file))
        except (OSError, ValueError):
            continue  # it is a finding already


def _rows_of(file: pq.ParquetFile) -> Iterator[_Row]:
    for group in range(file.num_row_groups):
        # Values are most of a file, and only sealed ones are needed.
        names = file.read_row_group(group, columns=[CONTENT_KEY])
        is_sealed = names.num_columns and names[CONTENT_KEY].null_count < len(names)
        columns = [*_COLUMNS, *_SEALED] if is_sealed else _COLUMNS
        for batch in file.iter_batches(row_groups=[group], columns=columns):
            for row in zip(
                *(batch.column(name).to_pylist() for name in columns), strict=True
            ):
                yield _Row(*row)
