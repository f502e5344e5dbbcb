"""What a back-test reads: events as they stood in a log, and what is known of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetwake.schemas.event import AuditEvent

__all__ = ["LEVELS", "Entry", "Expected", "Recording"]

LEVELS: Final = ("none", "warning", "critical", "block")
"""Of alerts, from good to bad."""


class Entry(NamedTuple):
    """
    One event in the log, which took it at `at_ms`.

    `subject` is what is judged as one: a session, or a case of several sessions.
    `place` numbers the steps of a case, or the calls of a session, from 1: it is that
    of the latest one, 0 before the first.
    """

    event: AuditEvent
    at_ms: int
    subject: str
    place: int


class Expected(NamedTuple):
    """
    What is right for a subject, in places.

    A loop: its first alert of any level lies in `earliest` to `latest`, both
    inclusive. No loop: no alert is above `max_level`.
    """

    is_loop: bool
    pattern: str
    earliest: int = 1
    latest: int | None = None
    max_level: Literal["none", "warning", "critical"] = "none"


class Recording(NamedTuple):
    """
    One log of one partition.

    `expected` and `is_healthy` are by subject, where something is known of one; a
    healthy one did its task and came to its end by itself. `stepwise`: the service is
    to see one place at a time, so that what only time brings (a call that stalls) is
    told of the right one.
    """

    entries: Sequence[Entry]
    expected: Mapping[str, Expected]
    is_healthy: Mapping[str, bool]
    stepwise: bool
