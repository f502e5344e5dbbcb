"""The files that one spool has: all of them begin with the name of its first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "SUFFIX",
    "damaged_of",
    "lock_of",
    "new_of",
    "spools_in",
    "summary_of",
    "wal_of",
]

SUFFIX: Final = ".spool"

_NEW: Final = ".new"


def wal_of(path: Path) -> Path:
    """Return where SQLite keeps the write-ahead log of any file."""
    return _beside(path, "-wal")


def lock_of(path: Path) -> Path:
    """Return what its owner holds; it names him."""
    return _beside(path, ".lock")


def summary_of(path: Path) -> Path:
    """Return what its owner tells everybody."""
    return _beside(path, ".json")


def new_of(path: Path) -> Path:
    """Return where a repair writes."""
    return _beside(path, _NEW)


def damaged_of(path: Path) -> Path:
    """Return where a repair leaves what it found."""
    return _beside(path, ".damaged")


def spools_in(folder: Path) -> list[Path]:
    """
    Return all spools of a folder, by name, one whose repair was cut short included.

    Raises:
        OSError: the folder cannot be read.
    """
    names = {path.name.removesuffix(_NEW) for path in folder.iterdir()}
    return sorted(folder / name for name in names if name.endswith(SUFFIX))


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}{ending}")
