"""When a repetition is a loop, and how long a session is remembered."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from fleetwake.consumers.loops.rules.rule import Thresholds
from fleetwake.producer.settings import SettingsBase

__all__ = ["LoopsSettings"]


class LoopsSettings(SettingsBase):
    """
    Settings of the loops service. Environment: `FLEETWAKE_LOOPS_...`.

    Where the counts come from: docs/loops.md. Changing one makes other alerts, so do it
    between deployments.
    """

    model_config = SettingsConfigDict(
        env_prefix="FLEETWAKE_LOOPS_", toml_table_header=("loops",)
    )

    rules: Literal["fleetwake", "calute"] = Field(
        default="fleetwake",
        description="Which rules: ours, or what Calute's own detector would say "
        "(docs/loops.md). The other counts are of ours.",
    )
    identical_warning: int = Field(
        default=3,
        ge=2,
        description="Identical calls in a row with the same answer: warning.",
    )
    identical_critical: int = Field(
        default=5,
        ge=2,
        description="Identical calls in a row with the same answer: critical.",
    )
    varying_warning: int = Field(
        default=10,
        ge=2,
        description="The same where answers differ or are unknown: warning.",
    )
    varying_critical: int = Field(
        default=20,
        ge=2,
        description="The same where answers differ or are unknown: critical.",
    )
    alternating_warning: int = Field(
        default=3, ge=2, description="Laps of two calls in turn, same answers: warning."
    )
    alternating_critical: int = Field(
        default=5,
        ge=2,
        description="Laps of two calls in turn, same answers: critical.",
    )
    idle_s: float = Field(
        default=1800.0,
        gt=0,
        description="A session that is silent for so long, by the broker's append "
        "time, starts anew.",
    )
    idle_records: int = Field(
        default=500_000,
        ge=1,
        description="The same by records of its partition, so that no silent session "
        "holds back more of the log. At most the runtime's max_replay_records.",
    )
    max_sessions: int = Field(
        default=20_000,
        ge=1,
        description="Sessions of a partition in memory, about 4 KB each; beyond it the "
        "one that was silent for longest is forgotten.",
    )

    @property
    def identical(self) -> Thresholds:
        """Of identical calls with the same answer."""
        return Thresholds(self.identical_warning, self.identical_critical)

    @property
    def varying(self) -> Thresholds:
        """Of identical calls whose answers differ or are not known."""
        return Thresholds(self.varying_warning, self.varying_critical)

    @property
    def alternating(self) -> Thresholds:
        """Of laps of two calls."""
        return Thresholds(self.alternating_warning, self.alternating_critical)

    @model_validator(mode="after")
    def _warn_first(self) -> Self:
        for name in ("identical", "varying", "alternating"):
            limits: Thresholds = getattr(self, name)
            if limits.warning > limits.critical:
                raise ValueError(f"{name}_warning is above {name}_critical")
        return self
