"""The disk spool of a producer: what was accepted outlives the process."""

from __future__ import annotations

from fleetwake.producer.spool.errors import SpoolError, SpoolFullError
from fleetwake.producer.spool.folder import adopt, spools
from fleetwake.producer.spool.records import Batch, Fields, Records, Spooled
from fleetwake.producer.spool.store import Spool, Unreadable
from fleetwake.producer.spool.summary import SpoolSummary

__all__ = [
    "Batch",
    "Fields",
    "Records",
    "Spool",
    "SpoolError",
    "SpoolFullError",
    "SpoolSummary",
    "Spooled",
    "Unreadable",
    "adopt",
    "spools",
]
