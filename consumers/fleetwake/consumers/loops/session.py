"""One session: its calls, its rules, and what of the log they still need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetwake.consumers.loops.calls import Calls, answer_of
from fleetwake.consumers.loops.rows import ASK, RESET, Row
from fleetwake.consumers.loops.rules.alternating_calls import AlternatingCalls
from fleetwake.consumers.loops.rules.calute_loops import CaluteLoops
from fleetwake.consumers.loops.rules.identical_call import IdenticalCall

if TYPE_CHECKING:
    from fleetwake.consumers.loops.calls import Call
    from fleetwake.consumers.loops.rules.rule import Finding, Rule
    from fleetwake.consumers.loops.settings import LoopsSettings

__all__ = ["Session"]

_MAX_PRODUCERS: Final = 16


class Session:
    """
    The state of a session, a function of its own events in the log's order.

    `last` is its latest event. An event whose sequence its producer has passed is a
    duplicate. After a restart that is known of a producer only from `needed` on: of
    several that write one session at once, a duplicate of the one that was silent
    for longest may count twice.
    """

    __slots__ = ("_calls", "_rules", "_sequences", "is_live", "last")

    def __init__(self, first: Row, settings: LoopsSettings) -> None:
        self.last = first
        self.is_live = True
        self._calls = Calls()
        self._sequences: dict[str, int] = {}
        self._rules = _rules(first.offset, settings)

    @property
    def needed(self) -> int:
        """The offset from which on its state can be built again."""
        return min(rule.needed for rule in self._rules)

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

    def take(self, row: Row) -> list[Finding]:
        """Take the next event and return what changed."""
        self.last = row
        if row.kind == RESET:
            return self.reset(row.offset)
        if row.kind == ASK:
            # An attempt that hides its arguments tells less than its answer will.
            if row.arguments_digest is None or self._calls.is_waiting(row):
                return []
            return self._called(self._calls.place(row))
        return self._take_answer(row)

    def reset(self, offset: int) -> list[Finding]:
        """Forget all calls and return what that resolves."""
        self._calls.clear()
        return [one for rule in self._rules if (one := rule.reset(offset))]

    def _take_answer(self, row: Row) -> list[Finding]:
        answer = answer_of(row)
        call = self._calls.find(row)
        found: list[Finding] = []
        if call is None:
            if answer == "not run" and row.arguments_digest is None:
                # A call that was vetoed before it was attempted breaks no loop.
                return found
            call = self._calls.place(row)
            found = self._called(call)
        elif call.is_answered:
            return found
        call.is_preview |= row.digest_basis == "preview"
        self._calls.answer(call, answer)
        for rule in self._rules:
            one = rule.answered(call)
            if one is not None:
                found.append(one)
        return found

    def _called(self, call: Call) -> list[Finding]:
        found: list[Finding] = []
        if call.number:
            for rule in self._rules:
                one = rule.called(call)
                if one is not None:
                    found.append(one)
        return found


def _rules(offset: int, settings: LoopsSettings) -> tuple[Rule, ...]:
    if settings.rules == "calute":
        return (CaluteLoops(offset),)
    return (
        IdenticalCall(offset, same=settings.identical, varying=settings.varying),
        AlternatingCalls(offset, same=settings.alternating, unknown=settings.varying),
    )
