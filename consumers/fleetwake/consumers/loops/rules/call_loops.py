"""
The rules over calls together: one loop is one alert, whatever rules see it.

Each rule counts (`pattern`) and may judge a call to be a loop. What it judges has a
name: its tools. A loop that has no episode yet opens one, under the rule with the
highest level; of equal ones the first in this order, the most specific:

    unknown_tool, exact_repeat_error, exact_repeat, cycle, exact_args, cycle_args,
    same_error, interleaved, no_progress, error_streak

As long as it is open, whatever other rules find of the same tools belongs to it: they
can escalate it and keep it open, but open none. It resolves with the first call that no
rule finds anything in; where other calls lie in between, some calls later (`linger`).
What a rule of calls in a row has judged does not count for the others (it is
explained), so that the loop is not told again when it is over. Rules in shadow mode
have episodes of their own, and explain nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetwake.consumers.loops.limits import WINDOW
from fleetwake.consumers.loops.rules.cycle import Cycle
from fleetwake.consumers.loops.rules.cycle_args import CycleArgs
from fleetwake.consumers.loops.rules.episodes import Clock, Episodes, Sighting
from fleetwake.consumers.loops.rules.error_streak import ErrorStreak
from fleetwake.consumers.loops.rules.exact_args import ExactArgs
from fleetwake.consumers.loops.rules.exact_repeat import ExactRepeat
from fleetwake.consumers.loops.rules.exact_repeat_error import ExactRepeatError
from fleetwake.consumers.loops.rules.interleaved import Interleaved
from fleetwake.consumers.loops.rules.no_progress import NoProgress
from fleetwake.consumers.loops.rules.rule import Findings, Level, Watch
from fleetwake.consumers.loops.rules.same_error import SameError
from fleetwake.consumers.loops.rules.unknown_tool import UnknownTool
from fleetwake.consumers.loops.rules.window import Window
from fleetwake.consumers.loops.tools import ToolClass

if TYPE_CHECKING:
    from fleetwake.consumers.loops.calls import Call
    from fleetwake.consumers.loops.rules.pattern import Pattern

__all__ = ["CallLoops"]

_RULES: Final[tuple[type[Pattern], ...]] = (
    *(UnknownTool, ExactRepeatError, ExactRepeat, Cycle, ExactArgs, CycleArgs),
    *(SameError, Interleaved, NoProgress, ErrorStreak),
)
_ORDER: Final = {rule.name: place for place, rule in enumerate(_RULES)}
_STRIDE: Final = 16
"""Calls from one offset that is remembered to the next."""


class CallLoops(Watch):
    """
    The rules of one session.

    While no episode is open, `needed` is the offset of a call so far back that no rule
    remembers it; while one is, of a call so far before its opening.
    """

    __slots__ = (
        "_blind",
        "_judged",
        "_last_preview",
        "_marks",
        "_memory",
        "_placed",
        "_runs",
        "_shadows",
        "_streaks",
        "_told",
        "_window",
        "_windowed",
    )

    def __init__(self, offset: int, memory: int) -> None:
        super().__init__(offset)
        self._memory = memory
        self._placed = self._judged = 0
        self._marks = [offset]
        self._told = Episodes()
        self._shadows = Episodes()
        self._start(offset)

    def called(self, call: Call) -> Findings:
        """Take the next call: where answers do not matter."""
        if call.tool_class is ToolClass.NEUTRAL:
            return ()
        placed = self._placed = self._placed + 1
        if not placed % _STRIDE:
            self._mark(call)
        if call.is_preview:
            self._last_preview = placed
        seen: list[Sighting] = []
        for pattern in self._blind:
            level = pattern.take(call)
            if level:
                seen.append(Sighting(pattern, level, Clock(placed, 0)))
        return self._tell(seen, call)

    def answered(self, call: Call) -> Findings:
        """Take a call with its answer."""
        if not call.number or call.tool_class is ToolClass.NEUTRAL:
            return ()
        judged = self._judged = self._judged + 1
        if call.is_preview:
            self._last_preview = self._placed
        seen: list[Sighting] = []
        is_explained = False
        for run in self._runs:
            level = run.take(call)
            if level:
                seen.append(Sighting(run, level, Clock(0, judged)))
                is_explained |= run.limit(call).mode != "shadow"
        for blind in self._blind:
            blind.answered(call)
        self._window.take(call, is_explained=is_explained)
        for windowed in self._windowed:
            level = windowed.take(call)
            if level:
                until = Clock(0, judged + windowed.linger)
                seen.append(Sighting(windowed, level, until))
        for streak in self._streaks:
            level = streak.take(call, is_explained=is_explained)
            if level:
                seen.append(Sighting(streak, level, Clock(0, judged + streak.linger)))
        return self._tell(seen, call)

    def reset(self, offset: int) -> Findings:
        """Forget the calls."""
        found = (*self._told.resolve(), *self._shadows.resolve())
        self._start(offset)
        return found

    def _start(self, offset: int) -> None:
        self.needed = offset
        self._marks = [offset]
        self._placed = self._judged = 0
        self._last_preview = -WINDOW
        self._window = Window()
        self._runs = UnknownTool(), ExactRepeatError(), ExactRepeat(), Cycle()
        self._blind = ExactArgs(), CycleArgs()
        self._windowed = Interleaved(self._window), NoProgress(self._window)
        self._streaks = SameError(), ErrorStreak()

    def _mark(self, call: Call) -> None:
        self._marks.append(call.cut)
        if len(self._marks) > self._memory // _STRIDE + 2:
            del self._marks[0]
        self._hold()

    def _hold(self) -> None:
        self.needed = min([self._marks[0], *self._told.held, *self._shadows.held])

    def _tell(self, seen: list[Sighting], call: Call) -> Findings:
        told, shadows = self._told, self._shadows
        if not seen and not told and not shadows:
            return ()
        if self._placed - self._last_preview < WINDOW:
            # A cut preview says that two calls look alike, not that they are equal.
            seen = [one._replace(level=Level.WARNING) for one in seen]
        if len(seen) > 1:
            seen.sort(key=_rank)
        now, held = Clock(self._placed, self._judged), self._marks[0]
        unsaid = [one for one in seen if _in_shadow(one, call)]
        aloud = [one for one in seen if one not in unsaid] if unsaid else seen
        found = told.take(aloud, call, now, held) if told or aloud else ()
        if shadows or unsaid:
            found += shadows.take(unsaid, call, now, held)
        if found:
            self._hold()
        return found


def _rank(one: Sighting) -> tuple[int, int]:
    return -one.level, _ORDER[one.pattern.name]


def _in_shadow(one: Sighting, call: Call) -> bool:
    return one.pattern.limit(call).mode == "shadow"
