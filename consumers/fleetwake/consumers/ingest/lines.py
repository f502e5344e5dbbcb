"""Lines of a binary stream, with all that one can meet there."""

from __future__ import annotations

import contextlib
import gzip
import io
import sys
import zlib
from codecs import BOM_UTF8
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Final, NamedTuple, cast

from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["MAX_LINE_BYTES", "STDIN", "Line", "LineReader", "opened"]

MAX_LINE_BYTES: Final = 8 * 1024 * 1024
"""A record has 1 MiB at most; JSON escapes can make six times as much of it."""
STDIN: Final = "-"

_PIECE_BYTES: Final = 1024 * 1024
_GZIP: Final = b"\x1f\x8b"


class Line(NamedTuple):
    """One line without its end. `number` counts from 1, blank lines too."""

    number: int
    text: bytes
    is_whole: bool
    """False: it has more than `MAX_LINE_BYTES`, of which `text` is the head."""
    is_ended: bool
    """False for a last line without an end: more of it may come."""

    @property
    def is_blank(self) -> bool:
        """Nothing but white space."""
        return not self.text.removeprefix(BOM_UTF8).strip()


class LineReader:
    """
    Reads line by line and knows how much of the stream it has given.

    `offset`, `number` and `digest()` are of the lines given so far; `text_end` is the
    offset at which the text of the last one ends. `name` is for errors.
    """

    def __init__(self, source: IO[bytes], name: str) -> None:
        self._source = source
        self._name = name
        self._head = bytearray()
        self._size = 0
        self._digest, self._ahead = sha256(), sha256()
        self.offset = 0
        self.text_end = 0
        self.number = 0
        self._before = (0, 0, self._digest)

    def digest(self) -> str:
        """Return the SHA-256 of all bytes up to `offset`."""
        return self._digest.hexdigest()

    def read(self, *, is_last: bool = True) -> Line | None:
        """
        Return the next line; None where there is none now.

        A line without an end is given only if `is_last`; else it waits for more.

        Raises:
            ConfigurationError: the stream breaks.
        """
        while piece := self._piece():
            self._ahead.update(piece)
            self._size += len(piece)
            self._head += piece[: max(0, MAX_LINE_BYTES - len(self._head))]
            if piece.endswith(b"\n"):
                return self._given(is_ended=True)
        if is_last and self._size:
            return self._given(is_ended=False)
        return None

    def give_back(self) -> None:
        """Count the last line as not given: offset, number and digest are before it."""
        self.offset, self.number, self._digest = self._before

    def _piece(self) -> bytes:
        try:
            return self._source.readline(_PIECE_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(self._name, error) from error

    def _given(self, *, is_ended: bool) -> Line:
        self._before = (self.offset, self.number, self._digest)
        self.number += 1
        self.offset += self._size
        self._digest, self._ahead = self._ahead, self._ahead.copy()
        text = bytes(self._head).rstrip(b"\r\n")
        is_whole = len(self._head) == self._size
        self.text_end = self.offset - (len(self._head) - len(text)) * is_whole
        self._head.clear()
        self._size = 0
        return Line(self.number, text, is_whole, is_ended)


@contextlib.contextmanager
def opened(file: str) -> Generator[BinaryIO]:
    """
    Open a file, or standard input for `-`; what is gzip by its content is unpacked.

    Raises:
        ConfigurationError: it cannot be opened.
    """
    if file == STDIN:
        yield _unpacked(sys.stdin.buffer)
        return
    try:
        plain = Path(file).open("rb")  # noqa: SIM115  # closed below
    except OSError as error:
        raise _unreadable(file, error) from error
    with plain:
        try:
            source = _unpacked(plain)
        except OSError as error:
            raise _unreadable(file, error) from error
        yield source


class _Behind(io.RawIOBase):
    """A stream, behind bytes that were read of it."""

    def __init__(self, read: bytes, source: io.BufferedReader) -> None:
        self._read = read
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        read = self._read or self._source.read1(len(buffer))
        count = min(len(read), len(buffer))
        buffer[:count] = read[:count]
        self._read = self._read[count:]
        return count


def _unpacked(source: BinaryIO) -> BinaryIO:
    if not isinstance(source, io.BufferedReader):
        return source
    if source.peek(1) == _GZIP[:1]:  # a pipe may give its first byte alone
        source = io.BufferedReader(_Behind(source.read(2), source))
    if source.peek(2)[:2] != _GZIP:
        return source
    return cast("BinaryIO", gzip.GzipFile(fileobj=source))  # which it is not by name


def _unreadable(file: str, error: Exception) -> ConfigurationError:
    why = getattr(error, "strerror", None) or error
    return ConfigurationError(f"{file} cannot be read: {why}")
