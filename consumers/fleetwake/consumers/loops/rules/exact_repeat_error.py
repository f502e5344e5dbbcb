"""
One call that fails each time, and nothing else in between.

    A!  A!  A!                                              3 warn, 5 are critical

What the error says does not matter: real ones hold line numbers and counts of attempts
that grow (44 identical `cd` into a folder that is not there, each with another line
number). OpenHands v0 stops at 3, the SDK nudges at 3 and stops at 4, Hermes warns at 2
and blocks at 5. For tools that poll or page it is twice as many. A call that was
blocked failed.

Not caught: failing calls whose arguments vary (`same_error`, `error_streak`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetwake.consumers.loops.calls import NEVER_RAN, Call
from fleetwake.consumers.loops.rules.pattern import NO_LEVEL, Run
from fleetwake.consumers.loops.rules.rule import named

if TYPE_CHECKING:
    from fleetwake.consumers.loops.limits import Level, Limit

__all__ = ["ExactRepeatError"]


class ExactRepeatError(Run):
    """See the module's docstring."""

    __slots__ = ("_answer", "_has_varied", "_key")

    name = "exact_repeat_error"

    def __init__(self) -> None:
        super().__init__()
        self._key: int | None = None
        self._answer: int | None = None
        self._has_varied = False

    def take(self, call: Call) -> Level:
        """Count a failing call that is the one before once more."""
        if not call.has_failed or call.key is None:
            self._key = None
            self._begin(None)
            return NO_LEVEL
        if call.key != self._key:
            self._key, self._answer, self._has_varied = call.key, call.answer, False
            self._begin(call)
            return NO_LEVEL
        self.count += 1
        self._has_varied |= call.answer != self._answer
        limit = call.limits.exact_repeat_error
        return NO_LEVEL if self.count < limit.warning else limit.level(self.count)

    def limit(self, call: Call) -> Limit:
        """Return the tool's."""
        return call.limits.exact_repeat_error

    def reason(self, call: Call) -> str:
        """Say which tool, how often, and whether the error varied."""
        if self._has_varied:
            how = f"failed {self.count} times in a row, with errors that differ"
        elif self._answer == NEVER_RAN:
            how = f"was blocked {self.count} times in a row"
        else:
            how = f"failed the same way {self.count} times in a row"
        return f"{named(call)} with the same arguments {how}; nothing else was tried"
