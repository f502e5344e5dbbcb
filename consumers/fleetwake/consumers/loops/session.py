"""One session: its calls, its rules, and what of the log they still need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetwake.consumers.loops.calls import Calls, says_not_run
from fleetwake.consumers.loops.rows import ASK, NOT_RUN, TURN, USER, Row
from fleetwake.consumers.loops.rules.call_loops import CallLoops
from fleetwake.consumers.loops.rules.calute_loops import CaluteLoops
from fleetwake.consumers.loops.rules.condense_loop import CondenseLoop
from fleetwake.consumers.loops.rules.text_repetition import TextRepetition
from fleetwake.consumers.loops.rules.text_streak import TextStreak

if TYPE_CHECKING:
    from fleetwake.consumers.loops.calls import Call
    from fleetwake.consumers.loops.rules.rule import Finding, Watch
    from fleetwake.consumers.loops.ruleset import RuleSet

__all__ = ["Session"]

_MAX_PRODUCERS: Final = 16
_TEXT_RULES: Final = (TextStreak, TextRepetition, CondenseLoop)


class Session:
    """
    The state of a session, a function of its own events in the log's order.

    `last` is its latest event. An event whose sequence its producer has passed is a
    duplicate. After a restart that is known of a producer only from `needed` on: of
    several that write one session at once, a duplicate of the one that was silent
    for longest may count twice.
    """

    __slots__ = (
        "_calls",
        "_judge_of",
        "_rules",
        "_sequences",
        "_watches",
        "is_live",
        "last",
    )

    def __init__(self, first: Row, rules: RuleSet) -> None:
        self.last = first
        self.is_live = True
        self._calls = Calls()
        self._sequences: dict[str, int] = {}
        self._rules = rules
        self._watches = _watches(first.offset, rules)
        self._judge_of = self._watches[0]
        """The rest hears of no answers."""

    @property
    def needed(self) -> int:
        """The offset from which on its state can be built again."""
        return min([watch.needed for watch in self._watches])

    def is_duplicate(self, row: Row) -> bool:
        """Tell whether `row` was seen before, and remember it."""
        if row.sequence <= 0:
            return False
        sequences = self._sequences
        if row.sequence <= sequences.get(row.producer_id, 0):
            return True
        if row.producer_id not in sequences and len(sequences) == _MAX_PRODUCERS:
            del sequences[next(iter(sequences))]
        sequences[row.producer_id] = row.sequence
        return False

    def adopt(self, rules: RuleSet) -> None:
        """Go on by other rules: their limits hold from the next event on."""
        self._rules = rules
        for watch in self._watches:
            if isinstance(watch, _TEXT_RULES):
                watch.limit = rules.limits[watch.name]

    def take(self, row: Row) -> list[Finding]:
        """Take the next event and return what changed."""
        self.last = row
        if row.kind > NOT_RUN:
            return self._heard(row)
        if row.kind == ASK:
            # An attempt that hides its arguments tells less than its answer will.
            if row.arguments_digest is None or self._calls.is_waiting(row):
                return []
            return self._place(row)[1]
        return self._take_answer(row)

    def reset(self, offset: int) -> list[Finding]:
        """Forget all and return what that resolves."""
        self._calls.clear()
        return [one for watch in self._watches for one in watch.reset(offset)]

    def _heard(self, row: Row) -> list[Finding]:
        if row.kind in (USER, TURN):
            self._calls.clear()
        return [one for watch in self._watches for one in watch.heard(row)]

    def _take_answer(self, row: Row) -> list[Finding]:
        calls = self._calls
        call = calls.find(row, self._rules.of(row.agent_id, row.tool_name))
        found: list[Finding] = []
        if call is None:
            if row.arguments_digest is None and says_not_run(row):
                # A call that was vetoed before it was attempted breaks no loop.
                return found
            call, found = self._place(row)
        elif call.is_answered:
            return found
        calls.answer(call, row)
        return self._judge(found)

    def _place(self, row: Row) -> tuple[Call, list[Finding]]:
        limits = self._rules.of(row.agent_id, row.tool_name)
        call = self._calls.place(row, limits)
        found = self._judge([])
        if call.number:
            for watch in self._watches:
                found += watch.called(call)
        return call, found

    def _judge(self, found: list[Finding]) -> list[Finding]:
        for call in self._calls.judged():
            found += self._judge_of.answered(call)
        return found


def _watches(offset: int, rules: RuleSet) -> tuple[Watch, ...]:
    if rules.preset == "calute":
        return (CaluteLoops(offset),)
    return (
        CallLoops(offset, rules.memory),
        *(rule(offset, rules.limits[rule.name]) for rule in _TEXT_RULES),
    )
