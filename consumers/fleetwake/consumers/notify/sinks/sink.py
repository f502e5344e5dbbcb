"""What a sink is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.consumers.notify.notice import Answer, Notice

__all__ = ["Gathers", "Sink"]

Gathers = Literal["never", "late", "always"]
"""When one message may be of many alerts: `late` is after a wait for the pace."""


class Sink(Protocol):
    """Somebody to tell. Belongs to one event loop; one call of `send` at a time."""

    @property
    def gathers(self) -> Gathers:
        """When it takes more than one notice."""
        ...

    @property
    def most(self) -> int:
        """How many notices it takes at once at most."""
        ...

    async def send(self, notices: Sequence[Notice], /) -> Answer:
        """Tell of `notices`, one or more, in one message. The caller has a deadline."""
        ...

    async def close(self) -> None:
        """Close what is open."""
        ...
