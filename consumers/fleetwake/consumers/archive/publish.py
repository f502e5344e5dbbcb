"""
Put-if-absent on a local disk: a file appears under its name whole, or not at all.

Written to a temporary name, fsynced, then hard-linked to the final name. `os.link`
fails where that name exists, and `os.replace` would overwrite it: this is the fence
between two writers.
"""

from __future__ import annotations

import os
import time
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import IO

__all__ = ["make_folder", "publish", "remove_stale", "sync_folder"]

_TMP = ".tmp-"

_STALE_S = 3600.0
"""
No live writer needs an hour for a file. If one does (a frozen process), its link
fails, and it writes again: nothing depends on this age.
"""


def publish(final: Path, write: Callable[[IO[bytes]], None]) -> int:
    """
    Make the file `final` of what `write` writes, durably; return its size in bytes.

    Raises:
        FileExistsError: another writer has made it. Nothing was changed.
        OSError: anything else; `final` may exist nevertheless, and whole.
    """
    tmp = final.with_name(_TMP + uuid.uuid4().hex)
    try:
        with tmp.open("xb") as file:
            write(file)
            file.flush()
            size = file.tell()
            os.fsync(file.fileno())
        os.link(tmp, final)
    finally:
        tmp.unlink(missing_ok=True)
    sync_folder(final.parent)
    return size


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, durably."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def remove_stale(folder: Path) -> None:
    """Remove what writers that were killed have left half-written."""
    before = time.time() - _STALE_S
    for tmp in folder.glob(_TMP + "*"):
        try:
            if tmp.stat().st_mtime < before:
                tmp.unlink()
        except FileNotFoundError:
            continue  # its writer was alive after all, or another one cleaned up
