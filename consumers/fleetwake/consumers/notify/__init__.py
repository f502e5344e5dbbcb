"""
Notify: tells people and their systems of alerts.

Delivery guarantees: every change of an alert (its state and level) that a sink's
filters take is told to that sink at least once, in the order of the alert, or noted as
`refused`, `dropped` or `gave_up` in the deliveries topic and counted. What was told is
in that topic too, under an id made of alert, state, level and sink: after a restart, a
rebalance, or a replay of the alerts it is not told again. A crash between an answer and
its record repeats one message, under the same id, which PagerDuty, Alertmanager and
webhooks deduplicate by.

Sinks never wait for each other, and reading never waits for a sink: each has a queue
of its own, bounded (the oldest are dropped), a pace, and a breaker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleetwake.consumers.runtime.service import Service

__all__ = ["service"]


def service() -> Service:
    """
    Make the service from the settings of the environment and the file.

    Raises:
        ConfigurationError: a setting cannot be used.
    """
    from fleetwake.consumers.notify.notify import Notify
    from fleetwake.consumers.notify.settings import load
    from fleetwake.producer.lookup import NetworkSchemas
    from fleetwake.producer.settings import KafkaSettings

    return Notify(load(), NetworkSchemas(KafkaSettings()))
