"""What one sink is to be told, and what became of an attempt to."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol
from uuid import UUID, uuid5

from fleetwake.schemas.records import Delivery

if TYPE_CHECKING:
    from weakref import ref

    from fleetwake.schemas.records import LoopAlert

__all__ = [
    "FINAL",
    "Answer",
    "Notice",
    "Outcome",
    "Owner",
    "dedup_key",
    "delivery_of",
    "notice_id",
]

Outcome = Literal["delivered", "retried", "refused", "gave_up", "dropped"]

FINAL: Final = frozenset({"delivered", "refused", "gave_up", "dropped"})
"""After these a notice is not tried again, by any process."""

_NAMESPACE: Final = UUID("c0a1b4f2-6d0e-5b43-9a3a-8d2f1b7c5e64")
"""Of notice ids. Never change it: all that is remembered would be told again."""


_MAX_KEY: Final = 255
"""PagerDuty's, and longer than any id of ours."""


_MAX_WORD: Final = 64


class Owner(Protocol):
    """Who has put a notice in a queue."""

    def settled(self, notice: Notice, /) -> None:
        """Take note that the end of a notice is in the deliveries topic."""
        ...


class Answer(NamedTuple):
    """
    What became of an attempt.

    `retried`: it may succeed later, not before `retry_after_s` where that is given.
    `error` holds no word of what was sent, received or configured.
    """

    outcome: Literal["delivered", "retried", "refused"]
    status_code: int | None = None
    error: str | None = None
    retry_after_s: float | None = None


@dataclass(eq=False, slots=True, kw_only=True)
class Notice:
    """
    A change of an alert that a sink is to be told of.

    `offset` and `appended_ms` are those of its record in `partition` of the alerts
    topic. `due_at` is a monotonic time. `alone`: not in one message with others,
    because such a message was refused. When the owner is gone its partition is another
    process's, which tells the same.
    """

    notice_id: str
    alert: LoopAlert
    partition: int
    offset: int
    appended_ms: int
    owner: ref[Owner]
    attempts: int = 0
    due_at: float = 0.0
    in_flight: bool = False
    alone: bool = False

    @property
    def age_s(self) -> float:
        """Seconds since the alert was published."""
        return time.time() - self.appended_ms / 1000

    def settle(self) -> None:
        """Tell the owner, if there still is one, that this is at its end."""
        owner = self.owner()
        if owner is not None:
            owner.settled(self)


def notice_id(alert: LoopAlert, sink: str) -> str:
    """Make the id of a change and a sink: the same in every process and attempt."""
    identity = f"{alert.alert_id}\x1f{alert.state}\x1f{alert.level}\x1f{sink}"
    return str(uuid5(_NAMESPACE, identity))


def dedup_key(alert_id: str) -> str:
    """The alert's id; its digest where that is longer than sinks take."""
    if len(alert_id) <= _MAX_KEY:
        return alert_id
    return "sha256:" + hashlib.sha256(alert_id.encode()).hexdigest()


def delivery_of(
    notice: Notice,
    sink: str,
    outcome: Outcome,
    answer: Answer | None = None,
    *,
    started: float | None = None,
) -> Delivery:
    """
    Make the record of an attempt, or of an end without one.

    `started` is the wall clock's time of the attempt.
    """
    now = time.time()
    return Delivery(
        delivery_id=notice.notice_id,
        alert_id=notice.alert.alert_id,
        state=notice.alert.state[:_MAX_WORD],
        level=notice.alert.level[:_MAX_WORD],
        sink=sink,
        attempt=notice.attempts,
        outcome=outcome,
        status_code=answer.status_code if answer else None,
        error=answer.error if answer else None,
        attempted_at=int((now if started is None else started) * 1e6),
        duration_ms=0.0 if started is None else max(0.0, (now - started) * 1e3),
    )
