"""
What agents embed: `AuditProducer` publishes audit events to Kafka.

Settings are in `fleetwake.producer.settings`, a log for your own tests in
`fleetwake.producer.testing`.
"""

from __future__ import annotations

from fleetwake.producer.client import AsyncAuditProducer, AuditProducer
from fleetwake.producer.statistics import DeliveryStatistics

__all__ = ["AsyncAuditProducer", "AuditProducer", "DeliveryStatistics"]
