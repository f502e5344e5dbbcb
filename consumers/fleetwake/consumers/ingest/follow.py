"""A file that grows, as `tail -F` sees it."""

from __future__ import annotations

import contextlib
import gzip
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fleetwake.consumers.ingest.lines import opened
from fleetwake.consumers.ingest.stream import Stream
from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from fleetwake.consumers.ingest.lines import Line
    from fleetwake.consumers.ingest.stream import Way

__all__ = ["Followed"]


class Followed:
    """
    One path, through all the files that it names one after the other.

    A file that another one replaces, or that is cut, is read to its end, its last line
    even if that has no end; then the new one from its beginning, as a stream of its
    own. While the path names no file, there is nothing to read.
    """

    def __init__(self, file: str, way: Way, clock_us: Callable[[], int]) -> None:
        self._file = file
        self._way = way
        self._clock_us = clock_us
        self._source: BinaryIO | None = None
        self._close = contextlib.ExitStack()
        self._is_over = False
        self.stream: Stream | None = None
        """Of the line that was read last."""

    def read(self) -> Line | None:
        """
        Return the next line that is there, or None.

        Raises:
            ConfigurationError: the file cannot be read, or is compressed.
        """
        source = self._source or self._open()
        if source is None:
            return None
        line = self._next()
        if line is None and not self._is_over and self._is_gone(source):
            # Whoever wrote it may have written on until a moment ago.
            self._is_over = True
            line = self._next()
        if line is None and self._is_over:
            self.close()
        return line

    def close(self) -> None:
        """Close the file."""
        self._close.close()
        self._source = None
        self._is_over = False

    def _next(self) -> Line | None:
        return self.stream.reader.read(is_last=self._is_over) if self.stream else None

    def _open(self) -> BinaryIO | None:
        if not Path(self._file).exists():
            return None
        source = self._close.enter_context(opened(self._file))
        if isinstance(source, gzip.GzipFile):
            raise ConfigurationError(
                f"{self._file} is compressed: it can be read, not followed"
            )
        self._source = source
        self.stream = Stream(
            self._file, source, self._way, now_us=self._clock_us(), is_growing=True
        )
        return source

    def _is_gone(self, source: BinaryIO) -> bool:
        """Whether the path names another file by now, or this one was cut."""
        mine = os.fstat(source.fileno())
        try:
            named = Path(self._file).stat()
        except FileNotFoundError:
            return False
        is_cut = mine.st_size < source.tell()
        return not os.path.samestat(mine, named) or is_cut
