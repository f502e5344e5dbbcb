"""Settings of the embedded broker."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # pydantic reads the annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from fleetwake.consumers.home import home
from fleetwake.producer.settings import SettingsBase

__all__ = ["BrokerSettings"]


class BrokerSettings(SettingsBase):
    """Settings of the embedded broker. Environment: `FLEETWAKE_BROKER_...`."""

    model_config = SettingsConfigDict(
        env_prefix="FLEETWAKE_BROKER_", toml_table_header=("broker",)
    )

    data_dir: Path = Field(
        default_factory=lambda: home() / "broker",
        description="Where topics are kept. Default: `broker` in FLEETWAKE_HOME.",
    )
    port: int = Field(
        default=19092, ge=1, le=65535, description="Where clients connect, on loopback."
    )
    controller_port: int = Field(
        default=19093, ge=1, le=65535, description="Kafka's own use, on loopback."
    )
    heap_mb: int = Field(default=512, ge=128, description="Java heap of the broker.")
