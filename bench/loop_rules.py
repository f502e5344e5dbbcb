"""
What the rules for loops cost: time per event, bytes per session.

    python -m bench.loop_rules

Each mix is one session's calls, answers known, again and again through `Session.take`:
no decoding, no columns. `worst` opens and escalates episodes all the time.
"""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
from typing import TYPE_CHECKING, Any, Final

from fleetwake.consumers.loops.rows import ANSWER, ASK, FAILURE, Row
from fleetwake.consumers.loops.ruleset import RuleSet
from fleetwake.consumers.loops.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

_CALLS: Final = 50_000
_SESSIONS: Final = 2_000
_TOOLS: Final = ("grep", "read_file", "bash", "edit", "get_status", "search")
_Step = tuple[str, int, int, int]
"""Tool, arguments, answer, kind of the answer."""


def novel(number: int) -> _Step:
    """Return a call that nothing looks like."""
    return _TOOLS[number % 6], number, number * 7919, ANSWER


def looping(number: int) -> _Step:
    """Return one call with one answer, for ever."""
    del number
    return "grep", 1, 2, ANSWER


def cycling(number: int) -> _Step:
    """Return five calls in turn, and something else after 40 of them."""
    if number % 41 == 40:
        return "bash", number, number, ANSWER
    return "read_file", number % 5, number % 5, ANSWER


def worst(number: int) -> _Step:
    """Return a mix that every rule counts, and episodes that come and go."""
    pick = random.Random(number).randrange(10)
    if pick < 3:
        return "grep", pick, 7, ANSWER
    if pick < 6:
        return "search", number % 4, 7, ANSWER
    if pick < 9:
        return "bash", number % 3, 9, FAILURE
    return "read_file", number, number, ANSWER


def digest(number: int) -> int:
    """Spread a number over signed 64 bits, as digests are."""
    return (number * 0x9E37_79B9_7F4A_7C15) % 2**64 - 2**63


def rows(step: Callable[[int], _Step], calls: int, session: str = "s") -> list[Row]:
    """Return attempts and answers of so many calls."""
    empty: dict[str, Any] = dict.fromkeys(Row._fields)
    made: list[Row] = []
    for number in range(calls):
        tool, arguments, answer, kind = step(number)
        common: dict[str, Any] = {
            "session_id": session,
            "producer_id": "p",
            "tool_name": tool,
            "tool_call_id": f"call-{number}",
            "fingerprint_version": 1,
            "digest_basis": "full",
            "outcome": "unknown",
            "timestamp_ms": 0,
            "occurred_at": number,
        }
        asked: dict[str, Any] = {"kind": ASK, "arguments_digest": digest(arguments)}
        answered: dict[str, Any] = {
            "kind": kind,
            "outcome_digest": digest(~answer),
            "result_chars": 40,
            "error_class_digest": digest(answer) if kind == FAILURE else None,
        }
        for more in (asked, answered):
            offset = len(made)
            place: dict[str, Any] = {
                "offset": offset,
                "sequence": offset + 1,
                "event_id": f"01234567-89ab-7def-8123-{offset:012x}",
            }
            made.append(Row(**empty | common | more | place))
    return made


def microseconds(step: Callable[[int], _Step]) -> tuple[float, int]:
    """Return the time per event, and how many findings there were."""
    script = rows(step, _CALLS)
    best, found = float("inf"), 0
    for _ in range(3):
        session = Session(script[0], RuleSet())
        found = 0
        gc.disable()
        began = time.process_time()
        for row in script:
            if not session.is_duplicate(row):
                found += len(session.take(row))
        best = min(best, time.process_time() - began)
        gc.enable()
    return best / len(script) * 1e6, found


def bytes_per_session(step: Callable[[int], _Step], calls: int) -> float:
    """Return what a session holds after so many calls."""
    rules = RuleSet()
    tracemalloc.start()
    sessions: list[Session] = []
    for number in range(_SESSIONS):
        script = rows(step, calls, f"session-{number}")
        session = Session(script[0], rules)
        for row in script:
            session.is_duplicate(row)
            session.take(row)
        sessions.append(session)
        del script
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / _SESSIONS


def main() -> None:
    """Print both tables."""
    for step in (novel, looping, cycling, worst):
        cost, found = microseconds(step)
        print(f"{step.__name__:8} {cost:6.2f} us/event, {found} findings")
    for calls in (1, 5, 20, 100):
        size = bytes_per_session(novel, calls)
        print(f"{calls:4} calls: {size:6.0f} bytes a session")
    print(f"worst, 100 calls: {bytes_per_session(worst, 100):6.0f} bytes a session")


if __name__ == "__main__":
    main()
