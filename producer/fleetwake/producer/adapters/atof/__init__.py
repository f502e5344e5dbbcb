"""Takes in ATOF, the events of NeMo Flow and NeMo Relay: docs/integrations/atof.md."""

from __future__ import annotations

from fleetwake.producer.adapters.atof.adapter import (
    AtofAdapter,
    recognises,
    restore,
)
from fleetwake.producer.adapters.atof.subscriber import AtofSubscriber
from fleetwake.producer.adapters.atof.types import TYPES, EventTypeRow

__all__ = [
    "TYPES",
    "AtofAdapter",
    "AtofSubscriber",
    "EventTypeRow",
    "recognises",
    "restore",
]
