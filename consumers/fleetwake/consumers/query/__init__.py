"""
The read side of the archive: a library for the CLI, the demo and notebooks.

It knows the files and nothing of the service that writes them.
"""

from __future__ import annotations

from fleetwake.consumers.query.archive import (
    ArchiveQuery,
    EmptyArchiveError,
    QueryError,
    Summary,
    ToolFailures,
    open_archive,
)

__all__ = [
    "ArchiveQuery",
    "EmptyArchiveError",
    "QueryError",
    "Summary",
    "ToolFailures",
    "open_archive",
]
