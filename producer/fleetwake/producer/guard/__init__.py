"""
The brake: `LoopGuard` asks, before each call of a tool, whether the session may go on.

    guard = LoopGuard(session_id)
    with guard.call("web_search"):
        result = web_search(query)

docs/guard.md says what it promises, and what it does when Kafka is away.
"""

from __future__ import annotations

from fleetwake.producer.guard.decision import Decision, SessionBlockedError
from fleetwake.producer.guard.loop_guard import LoopGuard
from fleetwake.producer.guard.verdicts import GuardStatistics, Verdicts

__all__ = [
    "Decision",
    "GuardStatistics",
    "LoopGuard",
    "SessionBlockedError",
    "Verdicts",
]
