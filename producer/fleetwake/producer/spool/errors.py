"""What a spool raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetwake.schemas.errors import FleetwakeError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SpoolError", "SpoolFullError"]


class SpoolError(FleetwakeError):
    """
    Raised when a spool cannot be made, written or read. Names the file and the cause.

    The call that raises it wrote nothing (after an I/O error it may have written all),
    and the spool works again once the cause, say a full or read-only disk, is gone.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"spool {path}: {problem}")
        self.path = path


class SpoolFullError(SpoolError):
    """Raised when records do not fit into the bytes that a spool may take."""

    def __init__(self, path: Path, *, missing: int, max_bytes: int) -> None:
        super().__init__(path, f"full: {missing} of {max_bytes} bytes are missing")
        self.missing = missing
        """Bytes to be settled or dropped before the same records fit."""
