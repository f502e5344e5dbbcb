"""What stands in a producer's queue: events, dead letters and flushes."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, NamedTuple

from fleetwake.producer.gaps import loss_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleetwake.producer.content import Content
    from fleetwake.producer.dead_letter import DeadLetter
    from fleetwake.producer.gaps import Loss
    from fleetwake.schemas.event import AuditEvent

__all__ = ["Entry", "Flush", "Letter", "first_at", "loss", "resolve"]


class Entry(NamedTuple):
    """An accepted event and its stamps."""

    event: AuditEvent
    attributes: Mapping[str, str]
    size: int
    producer_id: str
    sequence: int
    recorded_at: int
    content: Content | None = None


class Letter(NamedTuple):
    """An accepted dead letter."""

    letter: DeadLetter
    size: int
    recorded_at: int


class Flush:
    """A place in the queue; its future is resolved when all before it is settled."""

    __slots__ = ("future", "ordinal", "unsettled")

    size = 0

    def __init__(self) -> None:
        self.future: Future[bool] = Future()
        self.ordinal = 0
        self.unsettled = 0


def loss(entry: Entry) -> Loss:
    """Return what of an event tells its loss."""
    return loss_of(entry.event, entry.producer_id, entry.sequence)


def first_at(some: Iterable[Entry | Letter | Flush]) -> int | None:
    """Return when the first of them was accepted, in us; flushes are not."""
    waiting = (one for one in some if not isinstance(one, Flush))
    return next((one.recorded_at for one in waiting), None)


def resolve(future: Future[bool], *, result: bool) -> None:
    """Set a result unless there is one, or nobody waits any longer."""
    with contextlib.suppress(InvalidStateError):
        future.set_result(result)
