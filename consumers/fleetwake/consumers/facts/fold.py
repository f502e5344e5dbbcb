"""One session's facts, from its events, alerts and verdicts."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Final

from fleetwake.consumers.facts.kinds import meaning_of
from fleetwake.consumers.facts.rows import IDENTITY
from fleetwake.consumers.facts.sequences import Sequences
from fleetwake.consumers.facts.states import (
    DEFAULT_SILENCE,
    SPARK_MINUTES,
    Silence,
    changes_at_ms,
    state_of,
)
from fleetwake.consumers.facts.work import Work
from fleetwake.schemas.records import OpenAlert, SessionFacts

if TYPE_CHECKING:
    from fleetwake.consumers.facts.batches import Several
    from fleetwake.consumers.facts.kinds import Meaning
    from fleetwake.consumers.facts.rows import Row
    from fleetwake.schemas.records import LoopAlert, OpenWork, Verdict

__all__ = ["MAX_COST_USD", "MAX_TOKENS", "TOKENS", "SessionFold"]

_MOST: Final = 16
MAX_TOKENS: Final = 1_000_000_000_000
MAX_COST_USD: Final = 10_000.0
"""Of one event. What is above, or below zero, is no count (docs/metrics.md)."""

_MAX_LONG: Final = 2**63 - 1

TOKENS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
)
_tokens_of: Final = attrgetter(*TOKENS)
_LEVELS: Final = {"warning": 0, "critical": 1, "block": 2}


class SessionFold:
    """
    The facts of one session, brought up to date event by event. Not thread-safe.

    An event at or below `applied_through`, or whose sequence its producer has passed,
    changes nothing. Alerts and verdicts are taken as the last word, so that they may
    come twice.
    """

    __slots__ = ("_facts", "_identity", "_minutes", "_sequences", "_silence", "_work")

    def __init__(self, facts: SessionFacts, silence: Silence) -> None:
        self._facts = facts
        self._silence = silence
        self._work = Work(facts.work)
        self._identity: tuple[str | None, ...] = ()
        self._sequences = Sequences(facts.sequences)
        self._minutes = [int(one) for one in facts.calls_by_minute.split(",") if one]

    @classmethod
    def new(
        cls, session_id: str, partition: int, silence: Silence = DEFAULT_SILENCE
    ) -> SessionFold:
        """Begin with a session of which nothing is known."""
        return cls(
            SessionFacts(session_id=session_id, source_partition=partition), silence
        )

    @classmethod
    def of(cls, facts: SessionFacts, silence: Silence = DEFAULT_SILENCE) -> SessionFold:
        """Go on from published facts, which belong to the fold from now on."""
        return cls(facts, silence)

    @property
    def state(self) -> str:
        """As last judged."""
        return self._facts.state

    @property
    def alerts(self) -> tuple[OpenAlert, ...]:
        """The alerts that are not resolved, the worst first."""
        return self._facts.alerts

    @property
    def applied_through(self) -> int:
        """The last offset that it holds."""
        return self._facts.applied_through

    @property
    def last_appended_at(self) -> int:
        """When the broker took the last event, UTC microseconds."""
        return self._facts.last_appended_at

    def facts(self) -> SessionFacts:
        """Return the facts as they are now: one object, which the fold changes."""
        facts = self._facts
        facts.work = self._work.all
        facts.sequences = self._sequences.all
        facts.calls_by_minute = ",".join(map(str, self._minutes))
        facts.activity, facts.activity_name, facts.activity_since = "", None, None
        if facts.work:
            last = facts.work[-1]
            facts.activity, facts.activity_name = last.kind, last.name
            facts.activity_since = last.since
        return facts

    def judge(self, now_ms: int) -> bool:
        """
        Say how the session is at `now_ms`, the wall clock's or the log's time.

        Returns whether its state has changed.
        """
        facts = self._facts
        facts.work = self._work.all
        before = facts.state, facts.state_since
        facts.state, facts.state_since = state_of(facts, now_ms, self._silence)
        return before != (facts.state, facts.state_since)

    def changes_at_ms(self, now_ms: int) -> int | None:
        """Return when to judge it again if nothing happens before; None: never."""
        return changes_at_ms(self._facts, now_ms, self._silence)

    def take(self, row: Row) -> bool:
        """Take the next event; False if it was counted before."""
        facts = self._facts
        if row.offset <= facts.applied_through:
            return False
        facts.applied_through = row.offset
        if not self._sequences.take(row.producer_id, row.sequence):
            return False
        self._seen(row)
        means = meaning_of(row.event_type, row.outcome)
        begun = self._work.take(row, means) if means.role else None
        if means.is_call:
            self._count_minute(row.timestamp_ms // 60_000, 1)
            self._repeat(row, begun)
        if means.is_failed_call:
            facts.failures_in_a_row += 1
        elif means.is_good_call:
            facts.failures_in_a_row = 0
        self._spend(row)
        self._note(row, means)
        return True

    def take_all(self, some: Several) -> bool:
        """Take events as what they add up to; False: they must come one by one."""
        facts = self._facts
        if (
            some.first_offset <= facts.applied_through
            or not self._work.fits(some)
            or not self._sequences.take_runs(some.sequences)
        ):
            return False
        facts.applied_through = some.last_offset
        self._see_all(some)
        for row in some.work:
            self._work.take(row, meaning_of(row.event_type, row.outcome))
        for minute, calls in some.minutes:
            self._count_minute(minute, calls)
        self._repeat_all(some)
        before = 0 if some.has_good_call else facts.failures_in_a_row
        facts.failures_in_a_row = before + some.failures_in_a_row
        facts.failures += some.failures
        if some.error is not None:
            self._failed(*some.error)
        facts.turns += some.turns
        if some.turn_since is not None:
            [facts.turn_since] = some.turn_since
        if some.heartbeat_at is not None:
            facts.heartbeat_at = some.heartbeat_at
        facts.model = some.model or facts.model
        self._spend_all(some)
        facts.blocked_calls += some.blocked_calls
        for standing, since in some.stands:
            self._stand(standing, since)
        return True

    def hear_alert(self, alert: LoopAlert) -> None:
        """Take an alert of the session as it is now."""
        facts = self._facts
        alerts = [one for one in facts.alerts if one.alert_id != alert.alert_id]
        if alert.state != "resolved":
            alerts.append(
                OpenAlert(
                    alert_id=alert.alert_id,
                    kind=alert.kind,
                    level=alert.level,
                    rule=alert.rule,
                    since=alert.first_occurred_at,
                )
            )
        alerts.sort(key=_weight)
        facts.alerts = tuple(alerts[:_MOST])

    def hear_verdict(self, verdict: Verdict) -> None:
        """Take the blocks of the session as they are now."""
        self._facts.blocks = verdict.blocks[:_MOST]

    def _seen(self, row: Row) -> None:
        """Note who, where and when."""
        facts = self._facts
        appended_at = row.timestamp_ms * 1000
        if not facts.events:
            facts.first_occurred_at = row.occurred_at
            facts.first_appended_at = appended_at
        facts.events += 1
        # Compared, not min and max: a call costs ten times as much.
        if row.occurred_at < facts.first_occurred_at:  # noqa: PLR1730  # see above
            facts.first_occurred_at = row.occurred_at
        if row.occurred_at > facts.last_occurred_at:  # noqa: PLR1730  # see above
            facts.last_occurred_at = row.occurred_at
        if appended_at > facts.last_appended_at:  # noqa: PLR1730  # see above
            facts.last_appended_at = appended_at
        if row.identity is not self._identity:
            self._identify(row.identity)

    def _see_all(self, some: Several) -> None:
        facts = self._facts
        if not facts.events:
            facts.first_occurred_at = some.first_occurred_at
            facts.first_appended_at = some.first_ms * 1000
        facts.events += some.events
        last_appended_at = some.last_ms * 1000
        # Compared, not min and max, as above.
        if some.first_occurred_at < facts.first_occurred_at:  # noqa: PLR1730  # see above
            facts.first_occurred_at = some.first_occurred_at
        if some.last_occurred_at > facts.last_occurred_at:  # noqa: PLR1730  # see above
            facts.last_occurred_at = some.last_occurred_at
        if last_appended_at > facts.last_appended_at:  # noqa: PLR1730  # see above
            facts.last_appended_at = last_appended_at
        for identity in some.identities:
            if identity != self._identity:
                self._identify(identity)

    def _identify(self, identity: tuple[str | None, ...]) -> None:
        self._identity = identity
        for name, value in zip(IDENTITY, identity, strict=True):
            if value is not None:
                setattr(self._facts, name, value)

    def _note(self, row: Row, means: Meaning) -> None:
        """Note what counts, and what is overtaken by the next of its kind."""
        facts = self._facts
        if means.is_failure:
            facts.failures += 1
            self._failed(row.error_kind, row.error_type, row.occurred_at)
        if means.turn:
            facts.turns += means.turn == "starts"
            facts.turn_since = row.occurred_at if means.turn == "starts" else None
        elif means.is_heartbeat:
            facts.heartbeat_at = row.timestamp_ms * 1000
        elif means.is_response:
            facts.model = row.model or facts.model
        facts.blocked_calls += means.is_blocked
        if means.stands is not None:
            self._stand(means.stands, row.occurred_at)

    def _repeat(self, row: Row, begun: OpenWork | None) -> None:
        """Count a call, and how often it came in a row."""
        facts = self._facts
        facts.calls += 1
        tool = row.tool_name or (begun.name if begun else None)
        digest = row.arguments_digest
        if digest is None and begun is not None:
            digest = begun.arguments_digest
        is_same = digest is not None and (
            (tool, digest) == (facts.repeated_tool, facts.repeated_digest)
        )
        facts.repeats = facts.repeats + 1 if is_same else 1
        facts.repeated_tool, facts.repeated_digest = tool, digest

    def _repeat_all(self, some: Several) -> None:
        facts, repeated = self._facts, some.repeated
        if not some.calls or repeated is None:
            return
        facts.calls += some.calls
        goes_on = (
            some.repeats == some.calls
            and repeated[1] is not None
            and repeated == (facts.repeated_tool, facts.repeated_digest)
        )
        facts.repeats = some.repeats + (facts.repeats if goes_on else 0)
        facts.repeated_tool, facts.repeated_digest = repeated

    def _failed(self, kind: str | None, name: str | None, at: int) -> None:
        facts = self._facts
        facts.last_error_kind, facts.last_error_type = kind, name
        facts.last_error_at = at

    def _spend(self, row: Row) -> None:
        """Add tokens and cost, of whatever event has any."""
        facts = self._facts
        claims = _tokens_of(row)
        for name, claimed in zip(TOKENS, claims, strict=True) if any(claims) else ():
            if claimed is not None and 0 < claimed <= MAX_TOKENS:
                # A sum that no record can hold would stop the service.
                total = min(getattr(facts, name) + claimed, _MAX_LONG)
                setattr(facts, name, total)
        if row.cost_usd is not None and 0 <= row.cost_usd <= MAX_COST_USD:
            facts.cost_usd += row.cost_usd

    def _spend_all(self, some: Several) -> None:
        facts = self._facts
        for name, claimed in zip(TOKENS, some.tokens, strict=True):
            if claimed:
                total = min(getattr(facts, name) + claimed, _MAX_LONG)
                setattr(facts, name, total)
        # One by one: what doubles add up to depends on the order.
        for cost in some.costs:
            facts.cost_usd += cost

    def _stand(self, standing: str, since: int) -> None:
        """Note what an event says of the session by itself."""
        facts = self._facts
        if standing == "error":
            standing = facts.standing or "failed"
        if standing != facts.standing:
            facts.standing, facts.standing_since = standing, since

    def _count_minute(self, minute: int, calls: int) -> None:
        facts = self._facts
        if not self._minutes:
            self._minutes, facts.last_call_minute = [0], minute
        if minute > facts.last_call_minute:
            passed = min(SPARK_MINUTES, minute - facts.last_call_minute)
            self._minutes = (self._minutes + [0] * passed)[-SPARK_MINUTES:]
            facts.last_call_minute = minute
        self._minutes[-1] += calls


def _weight(alert: OpenAlert) -> tuple[int, int, str]:
    return -_LEVELS.get(alert.level, 0), alert.since, alert.alert_id
