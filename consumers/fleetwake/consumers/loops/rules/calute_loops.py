"""
What Calute's own detector would say, of any source (FLEETWAKE_LOOPS_RULES=calute).

One detector for each turn, with Calute's defaults; answers do not matter to it. It is
told of the calls that began: Calute tells its own of those that it blocks, too.
Arguments are compared by their digests, to which 1 and 1.0 are equal; those that are
not known are equal to none. An episode lasts until its turn has a call that is in no
pattern, or until the session's next turn begins.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from fleetwake.consumers.loops.calute import LoopDetector, LoopEvent, LoopSeverity
from fleetwake.consumers.loops.rules.rule import Level, Limit, Rule, named

if TYPE_CHECKING:
    from collections.abc import Hashable

    from fleetwake.consumers.loops.calls import Call
    from fleetwake.consumers.loops.rules.rule import Findings

__all__ = ["CaluteLoops"]

_MAX_TURNS: Final = 8
"""Of a session that overlap; the one that was silent for longest is forgotten."""

_LEVELS: Final = {
    LoopSeverity.WARNING: Level.WARNING,
    LoopSeverity.CRITICAL: Level.CRITICAL,
}


class CaluteLoops(Rule):
    """See the module's docstring."""

    __slots__ = ("_raised_by", "_turns")

    name = "calute_loops"
    version = 1

    def __init__(self, offset: int) -> None:
        super().__init__(offset, Limit(warning=0))
        self._turns: OrderedDict[str | None, _Turn] = OrderedDict()
        self._raised_by: _Turn | None = None

    def called(self, call: Call) -> Findings:
        """Ask the detector of the call's turn."""
        turn = self._turn(call)
        event = turn.take(call)
        if event.severity is LoopSeverity.OK:
            return self._resolve() if turn is self._raised_by else ()
        self._raised_by = self._raised_by or turn
        return self._raise(
            _LEVELS[event.severity],
            turn.first_of(event.pattern),
            event.call_count,
            _reason(call, event),
            preview=event.pattern == "same_call" and turn.is_preview,
        )

    def reset(self, offset: int) -> Findings:
        """Forget all turns."""
        self._turns.clear()
        return super().reset(offset)

    def _turn(self, call: Call) -> _Turn:
        name = call.turn_id
        turn = self._turns.get(name)
        if turn is None:
            turn = self._turns[name] = _Turn(call)
            if len(self._turns) > _MAX_TURNS:
                _, forgotten = self._turns.popitem(last=False)
                if forgotten is self._raised_by:
                    # Its next good call will not come: this one ends the episode.
                    self._raised_by = turn
            self.needed = min(one.first.cut for one in self._turns.values())
        self._turns.move_to_end(name)
        return turn

    def _resolve(self) -> Findings:
        self._raised_by = None
        return super()._resolve()


class _Turn:
    """A detector, and where its patterns began."""

    __slots__ = ("_detector", "_pair", "_same", "first", "is_preview", "last")

    def __init__(self, first: Call) -> None:
        self._detector = LoopDetector()
        self.first = self.last = self._same = self._pair = first
        self.is_preview = False
        """Of the identical calls in a row, one at least is known by a cut preview."""

    def take(self, call: Call) -> LoopEvent:
        """Judge the next call."""
        if call.key is None or call.key != self.last.key:
            self._same, self.is_preview = call, False
        self.is_preview |= call.is_preview
        if call.tool_name == self.last.tool_name:
            self._pair = call
        self.last = call
        arguments: Hashable = object() if call.key is None else call.key
        return self._detector.record(call.tool_name or "", arguments)

    def first_of(self, pattern: str) -> Call:
        """Return the first call of a pattern that the last call is in."""
        return {"same_call": self._same, "pingpong": self._pair}.get(
            pattern, self.first
        )


def _reason(call: Call, event: LoopEvent) -> str:
    match event.pattern:
        case "same_call":
            return (
                f"{named(call)} was called {event.call_count} times in a row with "
                "the same arguments"
            )
        case "pingpong":
            return (
                f"{named(call)} and another tool were called in turn, with "
                f"{event.call_count} changes"
            )
        case _:
            return f"{event.call_count} tools were called in one turn"
