"""The embedded broker: a real Apache Kafka, with Python packages only."""

from __future__ import annotations

from fleetwake.consumers.broker.cluster import EmbeddedCluster
from fleetwake.consumers.broker.errors import (
    BrokerError,
    BrokerRunningError,
    BrokerStartError,
    DownloadError,
    JavaNotFoundError,
    PortInUseError,
)
from fleetwake.consumers.broker.jars import Progress, kafka_jars
from fleetwake.consumers.broker.launcher import EmbeddedKafka
from fleetwake.consumers.broker.lock import Running, running
from fleetwake.consumers.broker.settings import BrokerSettings

__all__ = [
    "BrokerError",
    "BrokerRunningError",
    "BrokerSettings",
    "BrokerStartError",
    "DownloadError",
    "EmbeddedCluster",
    "EmbeddedKafka",
    "JavaNotFoundError",
    "PortInUseError",
    "Progress",
    "Running",
    "kafka_jars",
    "running",
]
