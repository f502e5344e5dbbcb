"""One process's own spool."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
from functools import partial
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from fleetwake.producer.spool import repair, table
from fleetwake.producer.spool.database import PAGE, problem
from fleetwake.producer.spool.errors import SpoolError, SpoolFullError
from fleetwake.producer.spool.file import DamagedError, SpoolFile
from fleetwake.producer.spool.forks import forks
from fleetwake.producer.spool.lock import FileLock
from fleetwake.producer.spool.names import SUFFIX, lock_of, summary_of
from fleetwake.producer.spool.records import Batch, decode, encode
from fleetwake.producer.spool.summary import SpoolSummary, owner_of, write_summary
from fleetwake.producer.spool.table import Row

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from fleetwake.producer.spool.records import Records, Spooled
    from fleetwake.producer.spool.table import Totals

__all__ = ["Spool", "Unreadable"]

logger = logging.getLogger("fleetwake.producer")

T = TypeVar("T")

# Batches that one call drops for their age at most.
_DROPPED: Final = 1000


class Unreadable(NamedTuple):
    """What was found damaged and given up, since this spool was opened."""

    records: int
    """As far as it is known how many there were."""
    batches: int
    """Of which at least one record is known to be lost."""


class Spool:
    """
    Batches of records in a file of their own, until they are settled.

    Delivery guarantees: when `append` returns, the records survive kill -9 of the
    process, and with `durable` a loss of power too. `read` gives every batch that is
    not settled, in order, also to whoever adopts the file. A batch that was settled
    shortly before a loss of power, or before a repair, may come back.

    All methods may be called from any thread at any time; each holds the spool's lock
    for one short transaction (1 ms per 200 KB; a checkpoint, every 8 MB, adds an
    fsync). None is for an agent's own thread. After a fork the child has nothing of
    it: what writes or reads raises `SpoolError` there.
    """

    def __init__(
        self,
        path: Path,
        *,
        producer_id: str,
        max_bytes: int | None,
        durable: bool,
    ) -> None:
        self.path = path
        self.producer_id = producer_id
        self.lock = threading.Lock()
        self.events = 0
        """Records that are not settled. From memory, as are all counters."""
        self.bytes = 0
        """Their frames."""
        self.oldest_recorded_at: int | None = None
        """When the oldest unsettled batch began, in microseconds."""
        self.unreadable = Unreadable(0, 0)
        """What was damaged and is given up."""
        self._held = FileLock(lock_of(path))
        self._file = SpoolFile(path, durable=durable)
        self.max_bytes = max_bytes
        """Of the file; None: the disk alone bounds it."""
        self._over: str | None = None
        self._next = 1
        self._first: int | None = None
        self._batches = 0
        # Not deleted yet, because the disk did not take it.
        self._settled: set[int] = set()
        # Counted as unreadable in part; they can be read more than once.
        self._flawed: set[int] = set()

    @classmethod
    def create(
        cls, folder: Path, *, producer_id: str, max_bytes: int, durable: bool = False
    ) -> Spool:
        """
        Make a new, empty spool in a folder, which is made where it is missing.

        `max_bytes` bounds the file; its log takes up to 8 MB more, or one batch where
        that is larger.

        Raises:
            SpoolError: the folder cannot be written; names it and the cause.
        """
        path = folder / f"{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        spool = cls(path, producer_id=producer_id, max_bytes=max_bytes, durable=durable)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with spool.lock:
                forks().add(spool)
                spool._make()
        except OSError as error:
            spool.close()
            raise SpoolError(folder, problem(error)) from error
        except SpoolError:
            spool.close()
            raise
        return spool

    @classmethod
    def adopt(cls, path: Path) -> Spool | None:
        """
        Open the spool of a process that ended, repairing it where it is damaged.

        It is bounded by the disk alone. Returns None where its owner lives, where
        another process was faster, and where nothing is left of it.

        Raises:
            SpoolError: it cannot be opened, or was written by a newer fleetwake.
        """
        spool = cls(path, producer_id="", max_bytes=None, durable=False)
        with spool.lock:
            forks().add(spool)
            try:
                return spool if spool._open() else None
            except SpoolError:
                spool._file.close()
                spool._held.release()
                raise

    def append(self, records: Records) -> int:
        """
        Write records, at least one, in one transaction: all of them or none.

        Returns the number of their batch.

        Raises:
            SpoolFullError: they do not fit into max_bytes.
            SpoolError: the disk is full, read-only or broken.
        """
        frames = encode(records)
        with self.lock:
            if self._settled:
                self._delete_settled()
            row = self._run(partial(self._insert, records=records, frames=frames))
            self._next += 1
            self._batches += 1
            self.events += row.events
            self.bytes += row.size
            if self._first is None:
                self._first, self.oldest_recorded_at = row.number, row.recorded_at
        return row.number

    def read(self, after: int, *, max_bytes: int) -> list[Batch]:
        """
        Return the next batches behind number `after`, in order; 0 begins at the oldest.

        At least one batch, if there is one, and then as many as fit into `max_bytes`.
        What is damaged is skipped and counted in `unreadable`; a batch of which nothing
        is left is settled.

        Raises:
            SpoolError: the disk does not give it (damaged content is no reason).
        """

        def select(connection: sqlite3.Connection) -> list[tuple[Row, bytes]]:
            numbers = table.next_behind(
                connection, after, max_bytes=max_bytes, settled=self._settled
            )
            return table.fetch(connection, numbers)

        while True:
            with self.lock:
                rows = self._run(select)
            batches = self._decoded(rows)
            self.settle([batch.number for batch in batches if not batch.records])
            readable = [batch for batch in batches if batch.records]
            if readable or not batches:
                return readable
            after = batches[-1].number

    def settle(self, numbers: Iterable[int]) -> None:
        """
        Forget batches whose records are all acknowledged or dropped. Idempotent.

        Never raises: where the disk does not take it now it is done with a later call,
        and what was settled meanwhile is at worst sent again after a crash.
        """
        with self.lock:
            self._settled.update(numbers)
            if self._settled:
                self._delete_settled()

    def drop_oldest(self, needed: int, *, spare: Collection[int] = ()) -> list[Spooled]:
        """
        Give up the oldest batches until `needed` bytes are free; return their records.

        Batches in `spare` are on their way and stay. Fewer than `needed`, or none, are
        freed where no others are left: call it with what `SpoolFullError` says until
        the records fit or nothing is returned.

        Raises:
            SpoolError: the disk does not take it.
        """

        def choose(rows: Iterator[Row]) -> list[int]:
            chosen: list[int] = []
            freed = 0
            while freed < needed and (row := next(rows, None)):
                chosen.append(row.number)
                freed += row.size
            return chosen

        return self._drop(choose, spare)

    def drop_before(
        self, recorded_at: int, *, spare: Collection[int] = ()
    ) -> list[Spooled]:
        """
        Give up the batches that began before a time, in microseconds; like drop_oldest.

        At most 1,000 batches at a time: call it until nothing is returned.

        Raises:
            SpoolError: the disk does not take it.
        """
        oldest = self.oldest_recorded_at
        if oldest is None or oldest >= recorded_at:
            return []

        def choose(rows: Iterator[Row]) -> list[int]:
            old = takewhile(lambda row: row.recorded_at < recorded_at, rows)
            return [row.number for row in islice(old, _DROPPED)]

        return self._drop(choose, spare)

    def write_statistics(self, text: str) -> None:
        """
        Leave the producer's statistics (JSON) where `spools` finds them. Never raises.

        The spool's own counters go with them: call it every second or so.
        """
        with self.lock:
            if self._over is None:
                write_summary(
                    SpoolSummary(
                        self.path,
                        os.getpid(),
                        self.producer_id,
                        self.events,
                        self.bytes,
                        self.oldest_recorded_at,
                        text,
                        alive=True,
                    )
                )

    def close(self) -> None:
        """End. An empty file is deleted, another is left for whoever adopts it."""
        with self.lock:
            if self._over is not None:
                return
            if self._settled:
                self._delete_settled()
            self._over = "closed"
            is_empty = not self._batches
            self._file.close(delete=is_empty)
            if is_empty:
                with contextlib.suppress(OSError):
                    summary_of(self.path).unlink()
            self._held.release(delete=is_empty)

    def forget_after_fork(self) -> None:
        """
        Give up what a forked child inherited, without a trace in the parent's file.

        Called by itself in every child that Python forks; harmless a second time.
        """
        self.lock = threading.Lock()
        if self._over is None:
            self._over = "it belongs to the process that forked this one"
            self._file.forget()
            self._held.forget()

    def _make(self) -> None:
        if not self._held.take():
            raise SpoolError(self.path, "another process took its lock: try again")
        self._held.write(f"{os.getpid()}\n{self.producer_id}\n")
        self._file.make()

    def _open(self) -> bool:
        """Open what a process left; False if there is nothing, or somebody has it."""
        try:
            if not self._held.take():
                return False
            repair.complete(self.path)
            if not self.path.exists():
                self._held.release(delete=True)
                return False
            _, self.producer_id = owner_of(self.path)
            if self.path.is_symlink() or not self.path.is_file():
                raise SpoolError(self.path, "not a file")
        except OSError as error:
            raise SpoolError(self.path, problem(error)) from error
        try:
            self._file.open()
        except DamagedError as error:
            self._repair(error, is_wanted=lambda _: True)
        else:
            self._count()
        return True

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do some work in a transaction, on a repaired file if need be."""
        if self._over is not None:
            raise SpoolError(self.path, self._over)
        try:
            # After an I/O error it is not known whether a transaction was committed.
            if not self._file.is_open:
                self._count()
            return self._file.run(work)
        except DamagedError as error:
            self._repair(error, is_wanted=self._is_wanted)
            return self._file.run(work)

    def _repair(self, error: DamagedError, *, is_wanted: Callable[[int], bool]) -> None:
        events, batches = self.events, self._batches
        lost = self._file.rebuild(first_free=self._next, is_wanted=is_wanted)
        self._count()
        lost = max(lost, events - self.events)
        self._note_lost(lost, max(batches - self._batches, 1 if lost else 0))
        logger.warning(
            "%s. It goes on without %d records; the damaged file is beside it.",
            error,
            lost,
        )

    def _is_wanted(self, number: int) -> bool:
        # Pages of batches that were settled long ago may still be readable.
        first = self._next if self._first is None else self._first
        return first <= number < self._next and number not in self._settled

    def _count(self) -> None:
        counted, last = self._file.run(table.totals)
        self._batches, self.events, self.bytes = counted[:3]
        self._first, self.oldest_recorded_at = counted.first, counted.oldest
        self._next = max(self._next, last + 1)

    def _insert(
        self, connection: sqlite3.Connection, *, records: Records, frames: bytes
    ) -> Row:
        *_, recorded_at, _, _, _ = next(iter(records))
        row = Row(self._next, recorded_at, len(records), len(frames))
        if self.max_bytes is not None:
            missing = table.pages_missing(connection, row.size, self.max_bytes)
            if missing:
                raise SpoolFullError(
                    self.path, missing=missing * PAGE, max_bytes=self.max_bytes
                )
        table.insert(connection, row, frames)
        return row

    def _decoded(self, rows: Iterable[tuple[Row, bytes]]) -> list[Batch]:
        # Without the lock: the writer may write meanwhile.
        batches: list[Batch] = []
        for row, frames in rows:
            records = decode(frames)
            lost = row.events - len(records)
            if lost > 0 and row.number not in self._flawed:
                self._flawed.add(row.number)
                self._note_lost(lost, 1)
            batches.append(Batch(row.number, records, row.size, row.recorded_at))
        return batches

    def _note_lost(self, records: int, batches: int) -> None:
        before = self.unreadable
        self.unreadable = Unreadable(before.records + records, before.batches + batches)

    def _delete_settled(self) -> None:
        try:
            removed = self._run(partial(table.delete, numbers=sorted(self._settled)))
        except SpoolError:
            return
        self._flawed -= self._settled
        self._settled.clear()
        self._take_off(removed)
        if not self._batches:
            self._file.shrink()

    def _drop(
        self, choose: Callable[[Iterator[Row]], list[int]], spare: Collection[int]
    ) -> list[Spooled]:
        def work(
            connection: sqlite3.Connection,
        ) -> tuple[list[tuple[Row, bytes]], Totals]:
            chosen = choose(table.scan(connection, but={*spare, *self._settled}))
            rows = table.fetch(connection, chosen)
            return rows, table.delete(connection, chosen)

        while True:
            with self.lock:
                rows, removed = self._run(work)
                self._take_off(removed)
            records = [one for batch in self._decoded(rows) for one in batch.records]
            # Nothing was left of those that were chosen: there may be others.
            if records or not removed.batches:
                return records

    def _take_off(self, removed: Totals) -> None:
        self._batches -= removed.batches
        self.events -= removed.events
        self.bytes -= removed.size
        self._first, self.oldest_recorded_at = removed.first, removed.oldest
