"""What the archive tells of itself, beside what every service does."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

__all__ = [
    "BYTES",
    "CONFLICTS",
    "DUPLICATES",
    "FILES",
    "LISTS",
    "LISTS_LATE",
    "LIST_FAILURES",
    "LOST_OFFSETS",
]

FILES = Counter("fleetwake_archive_files_total", "Files published.")
BYTES = Counter("fleetwake_archive_bytes_total", "Bytes of the files published.")
CONFLICTS = Counter(
    "fleetwake_archive_conflicts_total",
    "Files that another writer had published first: ours were dropped.",
)
DUPLICATES = Counter(
    "fleetwake_archive_duplicates_total",
    "Records whose event had been published before: `duplicate_of` says where.",
)
LISTS = Counter("fleetwake_archive_digest_lists_total", "Signed digest lists written.")
LIST_FAILURES = Counter(
    "fleetwake_archive_digest_list_failures_total",
    "Digest lists that could not be written; the next ones make up for them.",
)
LISTS_LATE = Gauge(
    "fleetwake_archive_digest_lists_late_seconds",
    "For how long the digest list that is most overdue has been due; 0: none is. Files "
    "are archived meanwhile, and listed later.",
)
LOST_OFFSETS = Counter(
    "fleetwake_archive_lost_offsets_total",
    "Offsets that retention removed before they were archived. Alert on any.",
)
