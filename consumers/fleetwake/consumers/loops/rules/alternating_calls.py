"""
Two calls in turn: A B A B A B, each with its own arguments and its own answer.

Three laps warn, five are critical (docs/loops.md). An answer that changes is progress
and starts the count anew. Where answers are not known at all, laps count as identical
calls with unknown answers do: 10 and 20.

Not caught: longer periods, and laps with other calls in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetwake.consumers.loops.rules.rule import AnswerRun, Finding, Rule, named

if TYPE_CHECKING:
    from fleetwake.consumers.loops.calls import Call
    from fleetwake.consumers.loops.rules.rule import Thresholds

__all__ = ["AlternatingCalls"]

_LAP = 2


class AlternatingCalls(Rule):
    """See the module's docstring."""

    __slots__ = ("_before", "_calls", "_first", "_last", "_runs", "_same", "_unknown")

    name = "alternating_calls"
    version = 1

    def __init__(self, offset: int, *, same: Thresholds, unknown: Thresholds) -> None:
        super().__init__(offset)
        self._same = same
        self._unknown = unknown
        self._first: Call | None = None
        self._last: Call | None = None
        self._before: Call | None = None
        self._calls = 0
        self._runs: tuple[AnswerRun, AnswerRun] | None = None
        """None up to the third call: most come in no pattern."""

    def called(self, call: Call) -> Finding | None:
        """Count the call, or start anew with it and the one before."""
        last, before = self._last, self._before
        self._last, self._before = call, last
        if (
            last is None
            or before is None
            or self._calls < _LAP
            or call.key != before.key
        ):
            return self._restart(call, last, before)
        self._calls += 1
        if self._runs is None:
            self._runs = AnswerRun(before), AnswerRun(last)
        laps = self._calls // _LAP
        if laps < self._unknown.warning or any(run.has_varied for run in self._runs):
            return None
        return self._found(self._unknown, laps, "; the answers are not known")

    def answered(self, call: Call) -> Finding | None:
        """Compare the answer with the one of the lap before."""
        runs, first = self._runs, self._first
        if runs is None or first is None or call.number < first.number:
            return None
        runs[(call.number - first.number) % _LAP].add(call)
        laps = min(runs[0].length, runs[1].length)
        if laps < self._same.warning:
            return None
        return self._found(self._same, laps, " and the same answers")

    def reset(self, offset: int) -> Finding | None:
        """Forget the calls."""
        self._first = self._last = self._before = self._runs = None
        self._calls = 0
        self.needed = offset
        return self._resolve()

    def _restart(
        self, call: Call, last: Call | None, before: Call | None
    ) -> Finding | None:
        if last is None or None in (last.key, call.key) or call.key == last.key:
            self._first, self._calls, witness = call, 1, last
        else:
            self._first, self._calls, witness = last, _LAP, before
        if witness is not None:
            self.needed = witness.cut
        self._runs = None
        return self._resolve() if self._episode else None

    def _found(self, limits: Thresholds, laps: int, ending: str) -> Finding | None:
        first, last, before = self._first, self._last, self._before
        if first is None or last is None or before is None or self._runs is None:
            return None
        starts = [run.first for run in self._runs if run.length]
        return self._raise(
            limits.level(laps),
            min(starts, key=lambda call: call.number, default=first),
            laps,
            f"{named(before)} and {named(last)} were called in turn, {laps} times "
            f"each, with the same arguments{ending}",
            preview=before.is_preview or last.is_preview,
        )
