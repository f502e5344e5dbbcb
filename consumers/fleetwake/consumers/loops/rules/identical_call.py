"""
Identical calls in a row: one tool, the same arguments, nothing else in between.

With the same answer each time, or failing each time whatever the text, nothing can
come of it: 3 warn, 5 are critical (docs/loops.md). Where the answers differ or are not
known it takes 10 and 20, and a tool that is there for waiting or for paging may go on
for ever while its answers differ.

Not caught: what is interleaved with other calls, and arguments that vary.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from fleetwake.consumers.loops.rules.rule import AnswerRun, Finding, Rule, named

if TYPE_CHECKING:
    from fleetwake.consumers.loops.calls import Call
    from fleetwake.consumers.loops.rules.rule import Thresholds

__all__ = ["IdenticalCall"]

_WAITS: Final = re.compile("poll|status|wait|sleep|watch|scroll|next", re.IGNORECASE)
"""Names of tools that are called again and again for good (docs/loops.md)."""


class IdenticalCall(Rule):
    """See the module's docstring."""

    __slots__ = ("_calls", "_first", "_last", "_run", "_same", "_varying")

    name = "identical_call"
    version = 1

    def __init__(self, offset: int, *, same: Thresholds, varying: Thresholds) -> None:
        super().__init__(offset)
        self._same = same
        self._varying = varying
        self._first: Call | None = None
        self._last: Call | None = None
        self._calls = 0
        self._run: AnswerRun | None = None
        """None up to the second call: most are not repeated."""

    def called(self, call: Call) -> Finding | None:
        """Count the call, or start anew with it."""
        first, last = self._first, self._last
        self._last = call
        if first is None or last is None or call.key is None or call.key != last.key:
            return self._restart(call, last)
        self._calls += 1
        if self._run is None:
            self._run = AnswerRun(first)
        if self._calls < self._varying.warning:
            return None
        if self._run.has_varied and _WAITS.search(call.row.tool_name or ""):
            return None
        return self._raise(
            self._varying.level(self._calls),
            first,
            self._calls,
            f"{named(call)} was called {self._calls} times in a row with the same "
            "arguments; the answers differ or are not known",
            preview=first.is_preview or call.is_preview,
        )

    def answered(self, call: Call) -> Finding | None:
        """Compare the answer with the one before."""
        run, first = self._run, self._first
        if run is None or first is None or call.number < first.number:
            return None
        run.add(call)
        if run.length < self._same.warning:
            return None
        return self._raise(
            self._same.level(run.length),
            run.first,
            run.length,
            f"{named(call)} was called {run.length} times in a row with the same "
            f"arguments {run.in_words}",
            preview=first.is_preview or call.is_preview,
        )

    def reset(self, offset: int) -> Finding | None:
        """Forget the calls."""
        self._first = self._last = self._run = None
        self.needed = offset
        return self._resolve()

    def _restart(self, call: Call, before: Call | None) -> Finding | None:
        if before is not None:
            self.needed = before.cut
        self._first = call
        self._calls = 1
        self._run = None
        return self._resolve() if self._episode else None
