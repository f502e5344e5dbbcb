"""One file, from its beginning: its lines, their events, and what is published."""

from __future__ import annotations

import contextlib
import stat
import zlib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from fleetwake.consumers.ingest.bookmark import Bookmark, Place
from fleetwake.consumers.ingest.lines import STDIN, Line, LineReader
from fleetwake.consumers.ingest.mapping import LineMapper, moved
from fleetwake.producer.adapters.mapping import UnmappableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.producer.adapters.mapping import Mapped

__all__ = ["Stream", "Way", "default_session"]

_CHUNK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What is asked for: how lines become events, and where they go."""

    format_: str
    session_id: str | None
    agent_id: str | None
    is_shifted: bool
    """Events are moved to now."""
    destination: str
    """Cluster and topic: what is published to one is not to another."""
    bookmarks: Path
    restart: bool
    """Publish again what is published."""


class Stream:
    """
    A file or standard input, opened and read from its beginning.

    Its bookmark says what is published; that is mapped again, for what the adapters
    must know of it, and not published.

    Args:
        file: as the user names it.
        source: opened at its beginning.
        way: what is asked for.
        now_us: where `--time shift` moves it to: its last event, or its first one if
            `is_growing`.
        is_growing: it is followed, so that nobody knows its last event.
    """

    def __init__(
        self,
        file: str,
        source: BinaryIO,
        way: Way,
        *,
        now_us: int,
        is_growing: bool = False,
    ) -> None:
        self.name = "standard input" if file == STDIN else file
        self._way = way
        self._file = file
        self._now_us = now_us
        is_file = file != STDIN and stat.S_ISREG(Path(file).stat().st_mode)
        self.bookmark = self._bookmark() if is_file else None
        self._place = self._published(source) if self.bookmark else None
        self._shift_us = self._place.shift_us if self._place else None
        self.kept = self._place.offset if self._place else 0
        """The offset that the bookmark has, or will have soon."""
        self._is_live = not is_file
        if way.is_shifted and self._shift_us is None and is_file and not is_growing:
            self._shift_us = now_us - self._last_us(source)
        self.reader = LineReader(source, self.name)
        self._mapper = self._new_mapper()

    @property
    def is_published(self) -> bool:
        """Whether the line that was read last is in Kafka already."""
        # Without its end, which may have come since it was published.
        return self._place is not None and self.reader.text_end <= self._place.offset

    def place(self) -> Place:
        """Return the place after the last line."""
        reader = self.reader
        return Place(reader.offset, reader.number, reader.digest(), self._shift_us)

    def map(self, line: Line) -> Sequence[Mapped]:
        """
        Return the events of a line, moved in time if that is asked for.

        Raises:
            UnmappableError: it makes no event.
        """
        mapped = self._mapper.map(line)
        if not self._way.is_shifted:
            return mapped
        if self._shift_us is None:
            first_us = min(one.event.occurred_at for one in mapped)
            if not first_us:
                return mapped
            self._shift_us = self._now_us - first_us
        return [moved(one, self._shift_us) for one in mapped]

    def _bookmark(self) -> Bookmark:
        way = self._way
        return Bookmark(
            way.bookmarks,
            Path(self._file),
            way.destination,
            way.format_,
            way.session_id,
            way.agent_id,
            "shift" if way.is_shifted else "original",
        )

    def _published(self, source: BinaryIO) -> Place | None:
        """What is published of this very content; None if it is another file."""
        place = self.bookmark.read() if self.bookmark else None
        if place is None or self._way.restart:
            return None
        digest, left = sha256(), place.offset
        with contextlib.suppress(OSError, EOFError, zlib.error):  # it has less by now
            while left and (chunk := source.read(min(left, _CHUNK_BYTES))):
                digest.update(chunk)
                left -= len(chunk)
        source.seek(0)
        return place if digest.hexdigest() == place.sha256 else None

    def _last_us(self, source: BinaryIO) -> int:
        """The latest time of an event; now where there is none."""
        reader, mapper, last_us = LineReader(source, self.name), self._new_mapper(), 0
        while line := reader.read():
            if line.is_blank:
                continue
            try:
                mapped = mapper.map(line)
            except UnmappableError:
                continue
            last_us = max(last_us, *(one.event.occurred_at for one in mapped))
        source.seek(0)
        return last_us or self._now_us

    def _new_mapper(self) -> LineMapper:
        return LineMapper(
            format_=self._way.format_,
            session_id=self._way.session_id or default_session(self._file),
            agent_id=self._way.agent_id,
            is_live=self._is_live,
        )


def default_session(file: str) -> str:
    """The file's stem, without `.gz`; `stdin` for standard input."""
    if file == STDIN:
        return "stdin"
    return Path(Path(file).name.removesuffix(".gz")).stem
