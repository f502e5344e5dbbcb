"""What the loops service tells of itself, beside what every service does."""

from __future__ import annotations

from prometheus_client import Counter

__all__ = ["ALERTS", "DUPLICATES", "FORGOTTEN", "RULES_READ", "UNUSABLE"]

ALERTS = Counter(
    "fleetwake_loops_alerts_total",
    "Alert records published: an episode opened, escalated or resolved.",
    ["rule", "state", "level"],
)
DUPLICATES = Counter(
    "fleetwake_loops_duplicates_total", "Events that had been seen before."
)
FORGOTTEN = Counter(
    "fleetwake_loops_sessions_forgotten_total",
    "Sessions dropped because they were idle, or because there were too many.",
    ["why"],
)
RULES_READ = Counter(
    "fleetwake_loops_rules_read_total",
    "Times that a changed rules file was read: taken, or refused (the rules stay).",
    ["result"],
)
UNUSABLE = Counter(
    "fleetwake_loops_unusable_events_total",
    "Events whose session_id or event_id is too long for an alert.",
)
