"""
Reads a damaged spool without SQLite.

Every page of the file that is a leaf of a table is read for itself, so that one lost
page, be it the first or the root, costs no more than what it held. The formats are
https://sqlite.org/fileformat2.html, sections 1.5, 1.6, 2.1 and 4.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple, Self

from fleetwake.producer.spool.database import MAGIC, PAGE
from fleetwake.producer.spool.names import wal_of
from fleetwake.producer.spool.records import FRAME_SIZE, Spooled, decode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Salvaged", "has_foreign_log", "has_sound_head", "salvage"]

_LEAF: Final = 0x0D
_INTERIOR: Final = 0x05
_WAL_MAGICS: Final = (0x377F0682, 0x377F0683)
_WAL_HEAD: Final = struct.Struct(">IIIIIIII")
_FRAME_HEAD: Final = struct.Struct(">IIIIII")
_FREELIST: Final = struct.Struct(">II")
_FREELIST_AT: Final = 32
_APPLICATION_AT: Final = 68
_APPLICATION: Final = struct.Struct(">I")

# Bytes of a cell that stay in its leaf, fewest and most (section 1.6).
_FEWEST: Final = (PAGE - 12) * 32 // 255 - 23
_MOST: Final = PAGE - 35

# Bytes of an integer by its serial type (section 2.1).
_INTEGERS: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}
_EVENTS_COLUMN: Final = 2


class Salvaged(NamedTuple):
    """A batch as it was found."""

    number: int
    records: list[Spooled]
    lost: int
    """How many more it says that it had."""


def has_sound_head(path: Path) -> bool:
    """
    Tell whether SQLite may open the file: it deletes the log of an empty one.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(18)
    return head == MAGIC + PAGE.to_bytes(2)


def has_foreign_log(path: Path) -> bool:
    """
    Tell whether the write-ahead log beside a file is that of another spool.

    SQLite does not: it would write the other's pages into this one.

    Raises:
        OSError: they cannot be read.
    """
    with _Pages(path) as pages:
        own = pages.stored(1)
        logged = pages.logged(1)
    return (
        own.startswith(MAGIC)
        and logged is not None
        and _application(logged) != _application(own)
    )


def salvage(path: Path) -> Iterator[Salvaged]:
    """
    Yield what is left of the batches of a file and its log. Nobody may have it open.

    A batch may come twice, and one that was settled already may come again. What has
    lost its leaf comes last, with number 0.

    Raises:
        OSError: the file cannot be read.
    """
    with _Pages(path) as pages:
        free = _free(pages)
        rest: set[int] = set()
        for number in range(2, pages.count + 1):
            page = pages.read(number)
            if number in free:
                continue
            if page[0] == _LEAF:
                yield from _cells(page, pages)
            elif page[0] != _INTERIOR:
                rest.add(number)
        # Without the list of free pages these would be what was settled long ago.
        if pages.read(1).startswith(MAGIC):
            yield from _orphans(rest - pages.followed, pages)


class _Pages:
    """The pages of a file, in their last committed state."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._log: BinaryIO | None = None
        self._latest: dict[int, int] = {}
        self.followed: set[int] = set()
        """Those that were read as the rest of a cell."""
        wal = wal_of(path)
        if wal.is_file():
            self._log = wal.open("rb")
            self._latest = _committed(self._log)
        size = os.fstat(self._file.fileno()).st_size
        self.count = max([-(-size // PAGE), *self._latest])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._log is not None:
            self._log.close()

    def read(self, number: int) -> bytes:
        return self.logged(number) or self.stored(number)

    def stored(self, number: int) -> bytes:
        self._file.seek((number - 1) * PAGE)
        return self._file.read(PAGE).ljust(PAGE, b"\0")

    def logged(self, number: int) -> bytes | None:
        if self._log is None or number not in self._latest:
            return None
        self._log.seek(self._latest[number])
        return self._log.read(PAGE).ljust(PAGE, b"\0")


def _committed(log: BinaryIO) -> dict[int, int]:
    """Return where the log has the last committed state of each page."""
    head = log.read(_WAL_HEAD.size)
    if len(head) < _WAL_HEAD.size:
        return {}
    magic, _, page_size, _, *salts = _WAL_HEAD.unpack(head)[:6]
    latest: dict[int, int] = {}
    if magic not in _WAL_MAGICS or page_size != PAGE:
        return latest
    pending: dict[int, int] = {}
    # Frames of an earlier turn of the log have other salts. Checksums are not looked
    # at: each record has its own.
    while len(head := log.read(_FRAME_HEAD.size)) == _FRAME_HEAD.size:
        number, size_after, *frame_salts = _FRAME_HEAD.unpack(head)[:4]
        if frame_salts != salts:
            break
        pending[number] = log.tell()
        if size_after:
            latest.update(pending)
            pending.clear()
        log.seek(PAGE, os.SEEK_CUR)
    return latest


def _application(page: bytes) -> int:
    (application,) = _APPLICATION.unpack_from(page, _APPLICATION_AT)
    return int(application)


def _free(pages: _Pages) -> set[int]:
    """Return the pages that hold nothing, as far as the first page knows."""
    first = pages.read(1)
    free: set[int] = set()
    if not first.startswith(MAGIC):
        return free
    trunk, _ = _FREELIST.unpack_from(first, _FREELIST_AT)
    while 1 < trunk <= pages.count and trunk not in free:
        free.add(trunk)
        page = pages.read(trunk)
        trunk, leaves = _FREELIST.unpack_from(page)
        most = PAGE // 4 - 2
        free.update(struct.unpack_from(f">{min(leaves, most)}I", page, 8))
    return free


def _cells(page: bytes, pages: _Pages) -> Iterator[Salvaged]:
    (count,) = struct.unpack_from(">H", page, 3)
    for index in range(min(count, (PAGE - 8) // 2)):
        (at,) = struct.unpack_from(">H", page, 8 + 2 * index)
        try:
            size, at = _varint(page, at)
            number, at = _varint(page, at)
            payload = _payload(page, at, size, pages)
            events = _events(payload)
        except (IndexError, struct.error):
            continue
        records = decode(payload)
        # A number that the size rules out was damaged itself.
        believed = events if events * FRAME_SIZE <= size else 0
        yield Salvaged(number, records, max(0, believed - len(records)))


def _payload(page: bytes, at: int, size: int, pages: _Pages) -> bytes:
    """Return the payload of a cell, short or with wrong parts where it is damaged."""
    if size <= _MOST:
        return page[at : at + size]
    local = _FEWEST + (size - _FEWEST) % (PAGE - 4)
    if local > _MOST:
        local = _FEWEST
    (follower,) = struct.unpack_from(">I", page, at + local)
    return page[at : at + local] + _chain(follower, size - local, pages)


def _chain(number: int, size: int, pages: _Pages) -> bytes:
    """Return what overflow pages hold, from one on."""
    parts: list[bytes] = []
    left = min(size, pages.count * PAGE)
    while left > 0 and 1 < number <= pages.count:
        pages.followed.add(number)
        page = pages.read(number)
        parts.append(page[4 : 4 + left])
        left -= PAGE - 4
        (told,) = struct.unpack_from(">I", page)
        # Of a lost page: a file that grows has them side by side.
        number = told if 1 < told <= pages.count else number + 1
    return b"".join(parts)


def _orphans(rest: set[int], pages: _Pages) -> Iterator[Salvaged]:
    """Yield what is in overflow pages to which no leaf leads any more."""
    followers: dict[int, int] = {}
    for number in sorted(rest):
        (followers[number],) = struct.unpack_from(">I", pages.read(number))
    for head in sorted(rest - set(followers.values())):
        parts: list[bytes] = []
        number = head
        while number in rest:
            rest.discard(number)
            parts.append(pages.read(number)[4:])
            number = followers[number]
        if records := decode(b"".join(parts)):
            yield Salvaged(0, records, 0)


def _events(payload: bytes) -> int:
    """Return the number of records that a row tells; at least 0."""
    head_size, at = _varint(payload, 0)
    body = head_size
    for column in range(_EVENTS_COLUMN + 1):
        kind, at = _varint(payload, at)
        size = _INTEGERS.get(kind, 0)
        if column == _EVENTS_COLUMN:
            value = int.from_bytes(payload[body : body + size], signed=True)
            return max(0, kind - 8 if kind in (8, 9) else value)
        body += size
    return 0


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a number of 1 to 9 bytes; return it and where it ends."""
    value = 0
    for index in range(8):
        byte = data[at + index]
        value = value << 7 | byte & 0x7F
        if byte == byte & 0x7F:
            return value, at + index + 1
    return value << 8 | data[at + 8], at + 9
