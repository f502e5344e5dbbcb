"""Recorded events, moved to now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.schemas.event import AuditEvent

__all__ = ["SHIFTED_ATTRIBUTE", "shifted"]

SHIFTED_ATTRIBUTE: Final = "demo.shifted"
"""The attribute that marks an event whose `occurred_at` was moved."""


def shifted(events: Sequence[AuditEvent], now_us: int) -> list[AuditEvent]:
    """
    Move all events by the same time, so that the last of them is at `now_us`.

    Those without a time are left to the producer, which stamps them with now.
    """
    delta_us = now_us - max((event.occurred_at for event in events), default=now_us)
    return [
        event._replace(
            occurred_at=event.occurred_at + delta_us,
            attributes={**event.attributes, SHIFTED_ATTRIBUTE: "true"},
        )
        if event.occurred_at
        else event
        for event in events
    ]
