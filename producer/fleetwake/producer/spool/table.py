"""The statements on a spool's one table. Each runs in a transaction of its caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from fleetwake.producer.spool.database import PAGE

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Iterator

__all__ = [
    "Row",
    "Totals",
    "delete",
    "fetch",
    "insert",
    "next_behind",
    "pages_missing",
    "scan",
    "totals",
]

# That one look takes at most.
_ROWS: Final = 1000

# Of a row beside its frames: its leaf, and what the tree above it may need.
_SPARE_PAGES: Final = 4


class Row(NamedTuple):
    """A batch as the table has it, but for its frames."""

    number: int
    recorded_at: int
    events: int
    size: int


class Totals(NamedTuple):
    """Counts of batches, and which one is the oldest of all."""

    batches: int
    events: int
    size: int
    first: int | None
    """Number of the oldest batch."""
    oldest: int | None
    """When it began."""


def insert(connection: sqlite3.Connection, row: Row, frames: bytes) -> None:
    """Add a batch."""
    connection.execute("INSERT INTO batch VALUES (?, ?, ?, ?, ?)", (*row, frames))


def next_behind(
    connection: sqlite3.Connection,
    after: int,
    *,
    max_bytes: int,
    settled: Collection[int],
) -> list[int]:
    """Return the next numbers: one at least, then as many as fit into `max_bytes`."""
    query = "SELECT number, size FROM batch WHERE number > ? ORDER BY number LIMIT ?"
    numbers: list[int] = []
    size = 0
    limit = _ROWS + len(settled)
    for number, taken in connection.execute(query, (after, limit)).fetchall():
        if number in settled:
            continue
        size += taken
        if numbers and size > max_bytes:
            break
        numbers.append(number)
    return numbers


def scan(connection: sqlite3.Connection, *, but: Collection[int]) -> Iterator[Row]:
    """Iterate over all batches but some, oldest first."""
    query = "SELECT number, recorded_at, events, size FROM batch ORDER BY number"
    for row in connection.execute(query):
        if row[0] not in but:
            yield Row(*row)


def fetch(
    connection: sqlite3.Connection, numbers: Iterable[int]
) -> list[tuple[Row, bytes]]:
    """Return batches with their frames."""
    query = (
        "SELECT number, recorded_at, events, size, frames FROM batch WHERE number = ?"
    )
    found = (connection.execute(query, (number,)).fetchone() for number in numbers)
    return [(Row(*row[:4]), row[4]) for row in found if row is not None]


def delete(connection: sqlite3.Connection, numbers: Iterable[int]) -> Totals:
    """Delete batches, and count them; numbers that are not there are no error."""
    batches = events = size = 0
    for number in numbers:
        row = connection.execute(
            "SELECT events, size FROM batch WHERE number = ?", (number,)
        ).fetchone()
        if row is not None:
            connection.execute("DELETE FROM batch WHERE number = ?", (number,))
            batches, events, size = batches + 1, events + row[0], size + row[1]
    return Totals(batches, events, size, *_first(connection))


def totals(connection: sqlite3.Connection) -> tuple[Totals, int]:
    """Return the counts of all batches, and the highest number; 0 without any."""
    batches, events, size, last = connection.execute(
        "SELECT count(*), coalesce(sum(events), 0), coalesce(sum(size), 0), "
        "coalesce(max(number), 0) FROM batch"
    ).fetchone()
    return Totals(batches, events, size, *_first(connection)), last


def pages_missing(connection: sqlite3.Connection, size: int, max_bytes: int) -> int:
    """Return how many pages too few a file of `max_bytes` has for a batch; 0: none."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (unused,) = connection.execute("PRAGMA freelist_count").fetchone()
    needed = size // (PAGE - 4) + _SPARE_PAGES
    return max(0, int(pages) - int(unused) + needed - max_bytes // PAGE)


def _first(connection: sqlite3.Connection) -> tuple[int | None, int | None]:
    row = connection.execute(
        "SELECT number, recorded_at FROM batch ORDER BY number LIMIT 1"
    ).fetchone()
    return row or (None, None)
