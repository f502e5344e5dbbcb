"""
Loops: finds sessions that go in circles, on the stream.

Delivery guarantees: one alert per episode, whatever is killed and whenever. An
episode's id is made of its rule, its session and its first event, and each change of
it (open, escalated, resolved) is published and acknowledged before the offset of the
record that caused it is committed. A crash in between publishes the same record once
more: readers keep the last of each id. State lives in the log: `flush` holds back the
offset of the oldest call that a live session still needs, and after a restart the
records from there on are read again, silently up to the committed offset. That holds
within the runtime's replay cap (`FLEETWAKE_RUNTIME_MAX_REPLAY_RECORDS`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleetwake.consumers.runtime.service import Service

__all__ = ["service"]


def service() -> Service:
    """
    Make the service from the settings of the environment.

    Raises:
        pydantic.ValidationError: a setting cannot be used.
    """
    from fleetwake.consumers.loops.loops import Loops
    from fleetwake.consumers.loops.settings import LoopsSettings

    return Loops(LoopsSettings())
