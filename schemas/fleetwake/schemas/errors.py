"""
The errors of fleetwake.

    FleetwakeError
    ├── InvalidEventError           an event that must not be published
    ├── InvalidRecordError          a record that is set aside, the rest goes on
    │   ├── UnknownFramingError
    │   ├── TruncatedFrameError
    │   ├── OversizedFrameError
    │   ├── DigestMismatchError
    │   ├── UnknownSchemaError
    │   ├── UnsupportedSchemaError
    │   ├── MalformedBodyError
    │   ├── TrailingBytesError
    │   └── TombstoneError
    ├── RetriableError              pause this partition, try again
    └── ConfigurationError          exit code 2

Anything else that leaves a processor stops the service, and nothing is committed
(docs/decisions/0004).
"""

from __future__ import annotations

__all__ = [
    "ConfigurationError",
    "DigestMismatchError",
    "FleetwakeError",
    "InvalidEventError",
    "InvalidRecordError",
    "MalformedBodyError",
    "OversizedFrameError",
    "RetriableError",
    "TombstoneError",
    "TrailingBytesError",
    "TruncatedFrameError",
    "UnknownFramingError",
    "UnknownSchemaError",
    "UnsupportedSchemaError",
]


class FleetwakeError(Exception):
    """The root of all errors that fleetwake raises on purpose."""


class ConfigurationError(FleetwakeError):
    """Raised at start when a setting cannot be used. Names the setting."""


class InvalidEventError(FleetwakeError):
    """Raised when an event cannot be encoded as the schema demands."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"event field {field!r}: {problem}")
        self.field = field


class RetriableError(FleetwakeError):
    """Raised when the same call may succeed later."""

    def __init__(self, message: str, *, after_s: float = 1.0) -> None:
        super().__init__(message)
        self.after_s = after_s


class InvalidRecordError(FleetwakeError):
    """
    Raised when one record cannot be read, whoever tries.

    `reason` is a short stable word for metrics and dead-letter headers.
    """

    reason = "invalid"


class UnknownFramingError(InvalidRecordError):
    """Raised when the first bytes are neither of the two wire framings."""

    reason = "unknown_framing"

    def __init__(self, head: bytes) -> None:
        super().__init__(
            f"the value starts with 0x{head[:2].hex()}: expected 0xc301 (Avro "
            "single-object) or 0x00 (Confluent wire format)"
        )


class TruncatedFrameError(InvalidRecordError):
    """Raised when a value ends inside its frame header."""

    reason = "truncated_frame"

    def __init__(self, size: int, needed: int) -> None:
        super().__init__(f"the value has {size} bytes: its frame header needs {needed}")


class OversizedFrameError(InvalidRecordError):
    """Raised when a value is larger than a reader takes."""

    reason = "oversized_frame"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the value has {size} bytes: the limit is {limit}")


class DigestMismatchError(InvalidRecordError):
    """Raised when a value is not the one that its digest header was made of."""

    reason = "digest_mismatch"

    def __init__(self) -> None:
        super().__init__("the value does not have the SHA-256 that its header names")


class UnknownSchemaError(InvalidRecordError):
    """
    Raised when no look-up knows the writer schema that a frame names.

    `reference` is `fingerprint:` and the 16 hex digits of the bytes in the frame, or
    `id:` and a registry's number.
    """

    reason = "unknown_schema"

    def __init__(self, reference: str) -> None:
        super().__init__(f"no schema is known for {reference}")
        self.reference = reference


class UnsupportedSchemaError(InvalidRecordError):
    """Raised when a writer schema is known, and is not one that we read."""

    reason = "unsupported_schema"

    def __init__(self, reference: str, problem: str) -> None:
        super().__init__(f"the schema {reference} cannot be read: {problem}")
        self.reference = reference


class MalformedBodyError(InvalidRecordError):
    """Raised when a body is not a datum of its writer schema."""

    reason = "malformed_body"

    def __init__(self, problem: str) -> None:
        super().__init__(f"the body is not a datum of its schema: {problem}")


class TrailingBytesError(InvalidRecordError):
    """Raised when bytes follow the datum."""

    reason = "trailing_bytes"

    def __init__(self, extra: int) -> None:
        super().__init__(f"{extra} bytes follow the datum")


class TombstoneError(InvalidRecordError):
    """Raised when a record of a topic that is never compacted has no value."""

    reason = "tombstone"

    def __init__(self) -> None:
        super().__init__("the record has no value")
