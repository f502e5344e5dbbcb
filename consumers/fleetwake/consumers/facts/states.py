"""From facts to one word: how a session is, and since when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from fleetwake.schemas.records import Block, SessionFacts

__all__ = [
    "DEFAULT_SILENCE",
    "SPARK_MINUTES",
    "STATES",
    "Silence",
    "calls_until",
    "changes_at_ms",
    "state_of",
]

STATES: Final = (
    "looping",
    "blocked",
    "waiting",
    "failed",
    "lost",
    "working",
    "idle",
    "ended",
)
"""All states, in the order in which a person wants to see them."""

SPARK_MINUTES: Final = 30


class Silence(NamedTuple):
    """How long nothing may come, by the broker's append time, in milliseconds."""

    idle_ms: int = 300_000
    """With nothing open: idle."""

    lost_ms: int = 900_000
    """With something open, and no person asked: lost."""

    heartbeat_ms: int = 600_000
    """After a heartbeat, whatever is open: lost."""


DEFAULT_SILENCE: Final = Silence()


def state_of(  # noqa: PLR0911  # one for each state
    facts: SessionFacts, now_ms: int, silence: Silence = DEFAULT_SILENCE
) -> tuple[str, int]:
    """Return the state at `now_ms`, and the UTC microseconds at which it began."""
    # What weighs most first.
    if facts.standing == "ended":
        return "ended", facts.standing_since
    if blocks := [one.since for one in facts.blocks if _holds(one, now_ms)]:
        return "blocked", min(blocks)
    if loops := [one.since for one in facts.alerts if one.kind == "loop"]:
        return "looping", min(loops)
    if facts.standing:
        return facts.standing, facts.standing_since
    lost_at = _lost_at_ms(facts, silence)
    if lost_at is not None and now_ms >= lost_at:
        return "lost", facts.last_appended_at
    if asked := [one.since for one in facts.work if one.kind == "confirmation"]:
        return "waiting", min(asked)
    if not facts.work and now_ms >= _silent_at_ms(facts, silence.idle_ms):
        return "idle", facts.last_appended_at
    return "working", facts.turn_since or facts.first_occurred_at


def changes_at_ms(
    facts: SessionFacts, now_ms: int, silence: Silence = DEFAULT_SILENCE
) -> int | None:
    """Return when time alone may change the state next; None: it cannot."""
    moments = [-(-one.until // 1000) for one in facts.blocks if one.until is not None]
    if facts.standing != "ended":
        lost_at = _lost_at_ms(facts, silence)
        if lost_at is not None:
            moments.append(lost_at)
        if not facts.work:
            moments.append(_silent_at_ms(facts, silence.idle_ms))
    return min([one for one in moments if one > now_ms], default=None)


def calls_until(facts: SessionFacts, now_ms: int) -> list[int]:
    """Return the calls of each of the 30 minutes up to that of `now_ms`."""
    numbers = [int(one) for one in facts.calls_by_minute.split(",") if one.isdigit()]
    numbers += [0] * min(
        SPARK_MINUTES, max(0, now_ms // 60_000 - facts.last_call_minute)
    )
    numbers = numbers[-SPARK_MINUTES:]
    return [0] * (SPARK_MINUTES - len(numbers)) + numbers


def _holds(block: Block, now_ms: int) -> bool:
    """Tell whether it stops the whole session now: one that warns has its own scope."""
    is_over = block.until is not None and block.until <= now_ms * 1000
    return block.scope == "session" and not is_over


def _silent_at_ms(facts: SessionFacts, silence_ms: int) -> int:
    return facts.last_appended_at // 1000 + silence_ms


def _lost_at_ms(facts: SessionFacts, silence: Silence) -> int | None:
    if facts.heartbeat_at == facts.last_appended_at:
        return _silent_at_ms(facts, silence.heartbeat_ms)
    if facts.work and all(one.kind != "confirmation" for one in facts.work):
        return _silent_at_ms(facts, silence.lost_ms)
    return None
