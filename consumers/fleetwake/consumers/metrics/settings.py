"""How long windows are kept, and how many rows there may be."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from fleetwake.producer.settings import SettingsBase

__all__ = ["MetricsSettings"]


class MetricsSettings(SettingsBase):
    """Settings of the metrics service. Environment: `FLEETWAKE_METRICS_...`."""

    model_config = SettingsConfigDict(
        env_prefix="FLEETWAKE_METRICS_", toml_table_header=("metrics",)
    )

    retention_h: float = Field(
        default=25.0,
        gt=0,
        description="Windows that lie further back than the newest event stay as they "
        "were published; events that still come for them are counted as late.",
    )
    max_rows_per_window: int = Field(
        default=1000,
        ge=1,
        description="Pairs of agent and tool in one window of one partition, about 400 "
        "bytes each for the time that the window is kept. Further pairs are counted "
        "together, as agent `other` and tool `other`.",
    )
    max_series: int = Field(
        default=1000,
        ge=1,
        description="Pairs of agent and tool on the Prometheus endpoint, as above.",
    )
