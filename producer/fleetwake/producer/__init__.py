"""
What agents embed: `AuditProducer` publishes audit events to Kafka.

Settings are in `fleetwake.producer.settings`, a log for your own tests in
`fleetwake.producer.testing`, what understands other systems in
`fleetwake.producer.adapters`.
"""

from __future__ import annotations

from fleetwake.producer.client import AsyncAuditProducer, AuditProducer
from fleetwake.producer.content import Content
from fleetwake.producer.dead_letter import DeadLetter
from fleetwake.producer.guard import Decision, LoopGuard, SessionBlockedError
from fleetwake.producer.statistics import DeliveryStatistics

__all__ = [
    "AsyncAuditProducer",
    "AuditProducer",
    "Content",
    "DeadLetter",
    "Decision",
    "DeliveryStatistics",
    "LoopGuard",
    "SessionBlockedError",
]
