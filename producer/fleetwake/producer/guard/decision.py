"""What a guard answers, and what it raises."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple

from fleetwake.schemas.errors import FleetwakeError

__all__ = ["Action", "Decision", "SessionBlockedError"]

Action = Literal["allow", "warn", "block"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Decision(NamedTuple):
    """
    Whether a call may be made, by the newest verdict.

    `until` is in UTC microseconds; None: until somebody releases the session. `scope`
    is what is stopped: `session` or `tool:NAME`. `known` is False where the verdicts
    were not confirmed lately: what is then allowed is allowed for want of an answer.
    `age_s` is how long ago they were; None: not yet.
    """

    action: Action
    reason: str | None = None
    until: int | None = None
    alert_id: str | None = None
    scope: str | None = None
    known: bool = True
    age_s: float | None = None


class SessionBlockedError(FleetwakeError):
    """Raised instead of a call that a verdict stops. `release` says how it ends."""

    def __init__(self, session_id: str, tool_name: str, decision: Decision) -> None:
        self.session_id = session_id
        self.tool_name = tool_name
        self.decision = decision
        self.reason = decision.reason
        self.until = decision.until
        self.alert_id = decision.alert_id
        self.release = _release(decision)
        super().__init__(
            f"{tool_name} was not called, session {session_id} is stopped: "
            f"{decision.reason or 'no reason was given'}. {self.release}"
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Cross processes, as tools in a pool need it."""
        return type(self), (self.session_id, self.tool_name, self.decision)


def _release(decision: Decision) -> str:
    alert = f" (alert {decision.alert_id})" if decision.alert_id else ""
    if decision.until is None:
        return f"It ends when somebody releases it{alert}."
    end = _EPOCH + timedelta(microseconds=decision.until)
    return f"It ends at {end:%Y-%m-%d %H:%M:%S} UTC, or when released before{alert}."
