"""
Which records are one call.

A call is seen as an attempt and an answer, as an attempt only, or as an answer only,
and may be answered more than once (completed, then replayed). It takes its place in
the session's order at the first record that names its arguments, and later records
find it by tool_call_id; where a source has no such id, an answer belongs to the
oldest unanswered attempt of its tool. So it counts once whatever the source gives.

Identical calls that were sent side by side in one round count once as well: that is a
fan-out, not a loop.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from fleetwake.consumers.loops.rows import FAILURE, NOT_RUN, Row

__all__ = ["Answer", "Call", "Calls", "answer_of"]

Answer: TypeAlias = "tuple[int, int | None] | Literal['failed', 'not run'] | None"
"""
What came back: the outcome's digest and its version, or that the call failed (texts
of errors may differ), or that it did not run. None is not known, and equals nothing.
"""

_NOT_RUN_OUTCOMES: Final = frozenset({"blocked", "denied", "invalidated"})
_FAILED_OUTCOMES: Final = frozenset({"failure", "timeout", "persistence_failed"})
_MAX_CALLS: Final = 32
"""
Of a session that overlap. More, and the oldest is forgotten: its answer, if it still
comes, is a call of its own. A source that tells attempts only fills this, at about
1 KB per call.
"""


class Call:
    """
    One call. Two calls are identical where their keys are equal and not None.

    `row` is its first record and `number` its place in the session, 0 if it does not
    count. At offset `cut` the session had no call in the air: whoever reads on from
    there sees whole calls.
    """

    __slots__ = ("answer", "cut", "is_answered", "is_preview", "key", "number", "row")

    def __init__(self, row: Row, number: int, cut: int) -> None:
        self.row = row
        self.number = number
        self.cut = cut
        self.key = (
            None
            if row.arguments_digest is None
            else (row.tool_name, row.arguments_digest, row.fingerprint_version)
        )
        self.answer: Answer = None
        self.is_answered = False
        self.is_preview = row.digest_basis == "preview"

    def is_twin(self, other: Call | None) -> bool:
        """Tell whether both are identical and were sent in one round."""
        return (
            other is not None
            and self.row.round_id == other.row.round_id
            and self.key is not None
            and self.key == other.key
        )


class Calls:
    """The latest calls of a session: those that overlap with the last one."""

    __slots__ = ("_calls", "_cut", "_in_the_air", "_last", "_number", "_placed")

    def __init__(self) -> None:
        self._calls: dict[str | int, Call] = {}
        self._in_the_air = 0
        self._last: Call | None = None
        self._number = 0
        self._placed = 0
        self._cut = 0

    def clear(self) -> None:
        """Forget all: an answer that comes later is a call of its own."""
        self._calls.clear()
        self._in_the_air = 0
        self._last = None

    def place(self, row: Row) -> Call:
        """Make the next call of the session."""
        if not self._in_the_air:
            self._calls.clear()
            self._cut = row.offset
        elif len(self._calls) >= _MAX_CALLS:
            self._drop_oldest()
        self._placed += 1
        call = Call(row, self._number + 1, self._cut)
        if row.round_id and call.is_twin(self._last):
            call.number = 0
        else:
            self._number += 1
            self._last = call
        name = row.tool_call_id or self._placed
        self._calls.pop(name, None)
        self._calls[name] = call
        self._in_the_air += 1
        return call

    def is_waiting(self, row: Row) -> bool:
        """Tell whether the call of an attempt is known and not answered."""
        call = self._calls.get(row.tool_call_id) if row.tool_call_id else None
        return call is not None and not call.is_answered

    def find(self, row: Row) -> Call | None:
        """Return the call that an answer belongs to, None if it is a new one."""
        if row.tool_call_id:
            return self._calls.get(row.tool_call_id)
        for call in self._calls.values():
            if (
                not call.is_answered
                and not call.row.tool_call_id
                and call.row.tool_name == row.tool_name
                and row.arguments_digest in (None, call.row.arguments_digest)
            ):
                return call
        return None

    def answer(self, call: Call, answer: Answer) -> None:
        """Note the first answer of a call."""
        call.answer = answer
        call.is_answered = True
        self._in_the_air -= 1

    def _drop_oldest(self) -> None:
        oldest = self._calls.pop(next(iter(self._calls)))
        if not oldest.is_answered:
            self._in_the_air -= 1
        self._cut = next(iter(self._calls.values())).row.offset


def answer_of(row: Row) -> Answer:
    """Say what a record of an answer says."""
    if row.kind == NOT_RUN or row.outcome in _NOT_RUN_OUTCOMES:
        return "not run"
    if row.kind == FAILURE or row.outcome in _FAILED_OUTCOMES:
        return "failed"
    if row.outcome_digest is None:
        return None
    return row.outcome_digest, row.fingerprint_version
