"""What can go wrong with the embedded broker."""

from __future__ import annotations

from fleetwake.schemas.errors import ConfigurationError, FleetwakeError

__all__ = [
    "BrokerError",
    "BrokerRunningError",
    "BrokerStartError",
    "DownloadError",
    "JavaNotFoundError",
    "PortInUseError",
]


class BrokerError(FleetwakeError):
    """The root of what goes wrong with the embedded broker."""


class DownloadError(BrokerError):
    """Raised when Apache Kafka cannot be downloaded. Trying again may help."""


class BrokerRunningError(BrokerError):
    """Raised when a broker already runs on the data folder."""


class BrokerStartError(BrokerError):
    """Raised when the broker ends, or does not answer, after its start."""


class PortInUseError(BrokerError, ConfigurationError):
    """Raised before the start when another process listens on a port."""


class JavaNotFoundError(BrokerError, ConfigurationError):
    """Raised when there is no Java that can run Apache Kafka."""
