"""What a raw file says of itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Final

__all__ = ["FORMAT", "Footer"]

FORMAT: Final = 1
"""Of names, footers, columns and `record_sha256`. A reader of 1 refuses others."""

_PREFIX = "fleetwake."


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """
    Parquet key-value metadata, each name after `fleetwake.`.

    The file covers the offsets from `start_offset` to `end_offset`, both included;
    `rows` of them had a record, and `invalid_rows` of these could not be read. `gap`
    says why a file has no rows: `retention` removed the records before they were
    archived. `schema_fingerprint` is that of the AuditEvent schema that the columns
    come from (CRC-64-AVRO, hex), `writer` the version of fleetwake, `created_at` ISO
    8601 in UTC.
    """

    format: int = FORMAT
    topic: str
    partition: int
    start_offset: int
    end_offset: int
    rows: int
    invalid_rows: int = 0
    gap: str = ""
    schema_fingerprint: str
    writer: str
    created_at: str

    def to_metadata(self) -> dict[str, str]:
        """Make the key-value metadata of the file."""
        return {_PREFIX + name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: dict[bytes, bytes]) -> Footer:
        """
        Read it back.

        Raises:
            KeyError: a part is missing.
            ValueError: a part is not what it must be, or of another format.
        """
        text = {
            one.name: metadata[(_PREFIX + one.name).encode()].decode()
            for one in fields(cls)
        }
        if text["format"] != str(FORMAT):
            raise ValueError(f"format {text['format']} is not {FORMAT}")
        return cls(
            topic=text["topic"],
            partition=int(text["partition"]),
            start_offset=int(text["start_offset"]),
            end_offset=int(text["end_offset"]),
            rows=int(text["rows"]),
            invalid_rows=int(text["invalid_rows"]),
            gap=text["gap"],
            schema_fingerprint=text["schema_fingerprint"],
            writer=text["writer"],
            created_at=text["created_at"],
        )
