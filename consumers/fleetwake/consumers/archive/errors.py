"""What stops the archive until a person has decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from fleetwake.schemas.errors import FleetwakeError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ArchiveError", "RecreatedTopicError", "UnreadableFileError"]


class ArchiveError(FleetwakeError):
    """Raised when the archive is not what it must be: exit code 5."""

    exit_code: ClassVar[int] = 5


class UnreadableFileError(ArchiveError):
    """Raised when the file that says where to go on is not one that we wrote."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"{path}: {problem}. A file gets its name only when it is whole, so it was "
            "changed or the disk has failed: restore it from a copy; if there is none, "
            "move it away, and its records are archived again from Kafka as far as the "
            "topic still has them"
        )
        self.path = path


class RecreatedTopicError(ArchiveError):
    """Raised when the archive is ahead of the topic that it is an archive of."""

    def __init__(self, topic: str, partition: int, wanted: int, log_end: int) -> None:
        super().__init__(
            f"the archive of {topic}[{partition}] goes on at offset {wanted}, but the "
            f"topic ends at {log_end}: it was made anew, or has lost records. Keep the "
            "archive and set FLEETWAKE_ARCHIVE_FOLDER to another folder, or delete "
            "both with `fleetwake reset`"
        )
