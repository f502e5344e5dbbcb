"""What becomes of every kind; docs/integrations/agent_sdk.md shows it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from fleetwake.producer.adapters.reading import EventTypeRow

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BEGINS", "ENDS", "OUTCOMES", "SEVERITIES", "TYPES"]

_END: Final = "a call ends"
_BEGIN: Final = "a call begins"
_AGAIN: Final = {"custom": "the call has ended before, or was told of this before"}
_TWICE: Final = {"custom": "the call was told of this before"}
_FAILURE: Final = {"tool.failure": "`success` is false; a call ends, a failure"}
_BLOCKED: Final = EventTypeRow("tool.blocked", f"{_END}, a block", _AGAIN)
_CONFIRMATION: Final = EventTypeRow("tool.confirmation", _BEGIN, _AGAIN)

TYPES: Final[Mapping[str, EventTypeRow]] = MappingProxyType(
    {
        "completed": EventTypeRow("tool.complete", _END, {**_FAILURE, **_AGAIN}),
        "cached": EventTypeRow("tool.cached", _END, _AGAIN),
        "replayed": EventTypeRow("tool.replayed", _END, _AGAIN),
        "blocked": _BLOCKED,
        "invalidated": EventTypeRow("tool.invalidated", _END, _AGAIN),
        "requires_confirmation": _CONFIRMATION,
        "persistence_failed": EventTypeRow("tool.persistence_failed", "", _TWICE),
        "dispatched": EventTypeRow("tool.attempt", _BEGIN, _AGAIN),
        "confirmation_requested": _CONFIRMATION,
        "confirmation_approved": EventTypeRow("permission.decision", "", _TWICE),
        "confirmation_rejected": _BLOCKED,
        "confirmation_timed_out": _BLOCKED,
        "policy_denied": _BLOCKED,
        "execution_started": EventTypeRow("tool.progress", "", _TWICE),
        "failed": EventTypeRow("tool.failure", f"{_END}, a failure", _AGAIN),
        "cancelled": EventTypeRow("tool.failure", _END, _AGAIN),
        "fail_closed": _BLOCKED,
    }
)
"""By the kind: of records first, then of the server's events. Others are `custom`."""

ENDS: Final = frozenset(
    {
        *("tool.complete", "tool.failure", "tool.cached", "tool.replayed"),
        *("tool.blocked", "tool.invalidated"),
    }
)
"""Each call has one of these."""

BEGINS: Final = frozenset({"tool.attempt", "tool.confirmation"})

OUTCOMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "completed": "success",
        "cached": "cached",
        "replayed": "replayed",
        "blocked": "blocked",
        "invalidated": "invalidated",
        "requires_confirmation": "requires_confirmation",
        "persistence_failed": "persistence_failed",
        "dispatched": "attempted",
        "confirmation_requested": "requires_confirmation",
        "confirmation_approved": "allowed",
        "confirmation_rejected": "denied",
        "confirmation_timed_out": "blocked",
        "policy_denied": "denied",
        "execution_started": "unknown",
        "failed": "failure",
        "cancelled": "cancelled",
        "fail_closed": "blocked",
    }
)

SEVERITIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "tool.blocked": "warning",
        "tool.invalidated": "warning",
        "tool.failure": "error",
        "tool.persistence_failed": "error",
    }
)
