"""Records as a spool keeps them, and their frames."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["FRAME_SIZE", "Batch", "Fields", "Records", "Spooled", "decode", "encode"]

# A frame is a head (magic, length of the body, CRC-32 of the body) and a body: fixed
# fields, text (topic, producer_id, session_id), key, headers, value.
_MAGIC: Final = b"\xf1WK1"
_HEAD: Final = struct.Struct(">4sII")
# recorded_at, sequence, characters of topic and producer_id, bytes of text, key and
# value, number of headers.
_FIXED: Final = struct.Struct(">qqHHIIIH")
_HEADER: Final = struct.Struct(">HI")

FRAME_SIZE: Final = _HEAD.size + _FIXED.size
"""Bytes of a frame around its content."""

# A lone surrogate in a session_id is the source's business, not a reason to lose it.
_TEXT: Final = ("utf-8", "surrogatepass")


class Spooled(NamedTuple):
    """One encoded record, with what tells its loss without decoding it."""

    topic: str
    """Short name: events or dead-letters."""
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    recorded_at: int
    """Microseconds since 1970, UTC."""
    session_id: str
    producer_id: str
    sequence: int


Fields: TypeAlias = tuple[
    str, bytes, bytes, list[tuple[str, bytes]], int, str, str, int
]
"""Those of a `Spooled`."""


class Records(Protocol):
    """What can be appended: a list of `Spooled`, or who gives their fields."""

    def __len__(self) -> int:
        """Return their number."""
        ...

    def __iter__(self) -> Iterator[Fields]:
        """Iterate over them; as often as one likes."""
        ...


class Batch(NamedTuple):
    """Records that were appended together; they are settled together."""

    number: int
    """Ascending in its spool, never used twice while the spool is open."""
    records: list[Spooled]
    size: int
    """Bytes in the spool."""
    recorded_at: int
    """Of the first record."""


def encode(records: Iterable[Fields]) -> bytes:
    """Return the frames of records, one behind another."""
    parts: list[bytes] = []
    for topic, key, value, headers, recorded_at, session, producer, sequence in records:
        text = f"{topic}{producer}{session}".encode(*_TEXT)
        fixed = _FIXED.pack(
            recorded_at,
            sequence,
            len(topic),
            len(producer),
            len(text),
            len(key),
            len(value),
            len(headers),
        )
        front = fixed + text + key
        for name, content in headers:
            front += _title(name, len(content)) + content
        # The value is most of it: it is copied once.
        checksum = crc32(value, crc32(front))
        parts += (_HEAD.pack(_MAGIC, len(front) + len(value), checksum), front, value)
    return b"".join(parts)


@lru_cache(maxsize=256)
def _title(name: str, size: int) -> bytes:
    title = name.encode(*_TEXT)
    return _HEADER.pack(len(title), size) + title


def decode(frames: bytes) -> list[Spooled]:
    """Return the records of all frames that are whole, whatever is between them."""
    records: list[Spooled] = []
    view = memoryview(frames)
    last = len(frames) - _HEAD.size
    position = 0
    while position <= last:
        magic, length, checksum = _HEAD.unpack_from(frames, position)
        begin = position + _HEAD.size
        end = begin + length
        if (
            magic == _MAGIC
            and end <= len(frames)
            and crc32(view[begin:end]) == checksum
        ):
            record = _record(frames, begin, end)
            if record is not None:
                records.append(record)
            position = end
        else:
            position = frames.find(_MAGIC, position + 1)
            if position < 0:
                break
    return records


def _record(frames: bytes, begin: int, end: int) -> Spooled | None:
    """Read a body whose checksum is right; None if it is not one of ours even so."""
    try:
        recorded_at, sequence, topic, producer, text, key, value, headers = (
            _FIXED.unpack_from(frames, begin)
        )
        at = begin + _FIXED.size
        texts = frames[at : (at := at + text)].decode(*_TEXT)
        key_bytes = frames[at : (at := at + key)]
        pairs: list[tuple[str, bytes]] = []
        for _ in range(headers):
            name, content = _HEADER.unpack_from(frames, at)
            at += _HEADER.size
            title = frames[at : (at := at + name)].decode(*_TEXT)
            pairs.append((title, frames[at : (at := at + content)]))
    except (struct.error, UnicodeDecodeError):
        return None
    if at + value != end:
        return None
    return Spooled(
        texts[:topic],
        key_bytes,
        frames[at:end],
        pairs,
        recorded_at,
        texts[topic + producer :],
        texts[topic : topic + producer],
        sequence,
    )
