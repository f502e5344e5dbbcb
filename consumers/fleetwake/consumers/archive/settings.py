"""Where the archive is and how its files are cut."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # pydantic reads it

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from fleetwake.consumers.home import home
from fleetwake.consumers.runtime.service import FlushPolicy
from fleetwake.producer.settings import SettingsBase

__all__ = ["ArchiveSettings"]

_MIB = 1024 * 1024


class ArchiveSettings(SettingsBase):
    """Settings of the archive. Environment: `FLEETWAKE_ARCHIVE_...`."""

    model_config = SettingsConfigDict(
        env_prefix="FLEETWAKE_ARCHIVE_", toml_table_header=("archive",)
    )

    folder: Path = Field(
        default_factory=lambda: home() / "archive",
        description="Where the Parquet files go. Its file system must have hard links.",
    )
    max_records: int = Field(
        default=500_000,
        ge=1,
        description="A partition's file is written at so many records,",
    )
    max_bytes: int = Field(
        default=64 * _MIB,
        ge=1,
        description="or at so many bytes of record values. Memory is about three "
        "times this for each partition that has fallen behind,",
    )
    max_age_s: float = Field(
        default=10.0, gt=0, description="or this many seconds after its first record."
    )
    zstd_level: int = Field(default=3, ge=1, le=22, description="Compression level.")
    keep_bytes: bool = Field(
        default=True,
        description="Keep every record's value as it came, so that its digest can be "
        "recomputed and a decoder's fault be undone. Unreadable records keep theirs "
        "always.",
    )

    @property
    def flush_policy(self) -> FlushPolicy:
        """When a partition's file is written."""
        return FlushPolicy(
            max_records=self.max_records,
            max_bytes=self.max_bytes,
            max_age_s=self.max_age_s,
        )
