"""Remembers which sequences were dropped, until an event of type `gap` tells it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from fleetwake.schemas.event import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["Gaps", "Loss", "loss_of"]

# A gap that is lost for one of these may fare better next time; one that is refused
# would be refused for ever.
_FOR_NOW: Final = frozenset({"queue_full", "spool_full", "expired"})

_COUNTS: Final = itemgetter("from_sequence", "to_sequence", "dropped")
_MAX_DIGITS: Final = 19


class Loss(NamedTuple):
    """An event that is lost."""

    session_id: str
    producer_id: str
    sequence: int
    told: Mapping[str, str] | None = None
    """Its attributes, if it was a gap event."""


def loss_of(event: AuditEvent, producer_id: str, sequence: int) -> Loss:
    """Return what of an event and its stamps tells its loss."""
    told = event.attributes if event.event_type == "gap" else None
    return Loss(event.session_id, producer_id, sequence, told)


class _Key(NamedTuple):
    session_id: str
    producer_id: str
    reason: str


@dataclass(slots=True)
class _Gap:
    first: int
    last: int
    dropped: int


class Gaps:
    """
    Drops that were not told yet. Not thread-safe.

    One event is made per session, run and reason. It names the first and the last
    sequence and how many were dropped between them: fewer than the difference says,
    where events between them were kept. Beyond `limit` of these, drops are counted and
    remain visible as holes in the sequence, but get no event.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._gaps: dict[_Key, _Gap] = {}

    def __bool__(self) -> bool:
        """Tell whether there is anything to tell."""
        return bool(self._gaps)

    def note(self, lost: Loss, why: str) -> None:
        """
        Note a dropped event.

        If that was itself a gap, what it told is kept, but only where it may fare
        better next time.
        """
        session_id, producer_id, sequence, told = lost
        if told is not None:
            if why not in _FOR_NOW:
                return
            # An agent may emit such an event with whatever it likes in it.
            with contextlib.suppress(KeyError, ValueError):
                key = _Key(session_id, told["producer_id"], told["reason"])
                self._widen(key, _Gap(*map(_count, _COUNTS(told))))
        key = _Key(session_id, producer_id, why)
        self._widen(key, _Gap(sequence, sequence, 1))

    def take(self, count: int) -> list[AuditEvent]:
        """Return up to `count` gap events and forget their gaps."""
        keys = list(islice(self._gaps, count))
        return [_event(key, self._gaps.pop(key)) for key in keys]

    def _widen(self, key: _Key, by: _Gap) -> None:
        gap = self._gaps.get(key)
        if gap is not None:
            gap.first = min(gap.first, by.first)
            gap.last = max(gap.last, by.last)
            gap.dropped += by.dropped
        elif len(self._gaps) < self._limit:
            self._gaps[key] = by


def _count(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError
    return int(text)


def _event(key: _Key, gap: _Gap) -> AuditEvent:
    return AuditEvent(
        source_event_type="gap",
        event_type="gap",
        session_id=key.session_id,
        severity="warning",
        attributes={
            "producer_id": key.producer_id,
            "from_sequence": str(gap.first),
            "to_sequence": str(gap.last),
            "dropped": str(gap.dropped),
            "reason": key.reason,
        },
    )
