"""How far a file is published: a small file that survives the process."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Bookmark", "Place"]


class Place(NamedTuple):
    """
    Where in a file: all lines before it are acknowledged.

    `sha256` is that of all bytes up to `offset`, so that another file of the same name
    is known. Offsets of a compressed file are those of its content.
    """

    offset: int
    lines: int
    sha256: str
    shift_us: int | None
    """By how much its events were moved in time."""


class Bookmark:
    """
    The place of one file, one destination and one way to map.

    Args:
        folder: where it is kept; made when it is needed.
        file: which one; by its absolute path.
        way: all else that makes other events of the same lines, or sends them
            somewhere else.
    """

    def __init__(self, folder: Path, file: Path, *way: str | None) -> None:
        self._file = str(file.absolute())
        identity = json.dumps([self._file, *way])
        name = sha256(identity.encode()).hexdigest()[:32]
        self._path = folder / f"{name}.json"

    def read(self) -> Place | None:
        """Return the place, or None where there is none that can be used."""
        try:
            told = json.loads(self._path.read_text("utf-8"))
            place = Place(*(told[name] for name in Place._fields))
        except (OSError, ValueError, TypeError, KeyError):
            return None
        is_usable = type(place.offset) is int and place.offset >= 0
        return place if is_usable else None

    def write(self, place: Place) -> None:
        """
        Replace the place; a reader sees the old one or the new one.

        Raises:
            OSError: it cannot be written.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        half = self._path.with_suffix(".new")
        told = {"file": self._file, **place._asdict()}
        half.write_text(json.dumps(told) + "\n", "utf-8")
        half.replace(self._path)
