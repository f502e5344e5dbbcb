"""What the archive tells of itself, beside what every service does."""

from __future__ import annotations

from prometheus_client import Counter

__all__ = ["BYTES", "CONFLICTS", "FILES", "LOST_OFFSETS"]

FILES = Counter("fleetwake_archive_files_total", "Files published.")
BYTES = Counter("fleetwake_archive_bytes_total", "Bytes of the files published.")
CONFLICTS = Counter(
    "fleetwake_archive_conflicts_total",
    "Files that another writer had published first: ours were dropped.",
)
LOST_OFFSETS = Counter(
    "fleetwake_archive_lost_offsets_total",
    "Offsets that retention removed before they were archived. Alert on any.",
)
