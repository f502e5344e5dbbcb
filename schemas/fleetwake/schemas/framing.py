"""
The two wire framings, told apart by the first byte, so that one topic may hold both.

- Avro single-object encoding: 0xC3 0x01, the eight bytes of the schema's fingerprint,
  the datum. What we write without a registry.
- Confluent wire format: 0x00, the id that a registry gave in four big-endian bytes,
  the datum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetwake.schemas.errors import (
    TruncatedFrameError,
    UnknownFramingError,
    UnknownSchemaError,
)

if TYPE_CHECKING:
    from fleetwake.schemas.lookup import Schema, SchemaLookup

__all__ = ["CONFLUENT", "confluent_header", "single_object_header", "unframe"]

_SINGLE_OBJECT: Final = b"\xc3\x01"
_SINGLE_OBJECT_BYTES: Final = 10
CONFLUENT: Final = b"\x00"
_CONFLUENT_BYTES: Final = 5


def single_object_header(schema: Schema) -> bytes:
    """Return what stands before each datum in the single-object encoding."""
    return _SINGLE_OBJECT + schema.fingerprint


def confluent_header(schema_id: int) -> bytes:
    """Return what stands before each datum in the Confluent wire format."""
    return CONFLUENT + schema_id.to_bytes(4, "big")


def unframe(value: bytes, lookup: SchemaLookup) -> tuple[Schema, int]:
    """
    Return the schema that the frame header names, and where the datum begins.

    Raises:
        UnknownFramingError, TruncatedFrameError: it has no frame header.
        UnknownSchemaError: `lookup` does not know the schema.
    """
    if value[:1] == CONFLUENT:
        size = _CONFLUENT_BYTES
    elif _SINGLE_OBJECT.startswith(value[:2]):
        size = _SINGLE_OBJECT_BYTES
    else:
        raise UnknownFramingError(value)
    if len(value) < size:
        raise TruncatedFrameError(len(value), size)
    if size == _CONFLUENT_BYTES:
        schema_id = int.from_bytes(value[1:size], "big")
        schema, reference = lookup.by_id(schema_id), f"id:{schema_id}"
    else:
        fingerprint = value[2:size]
        schema = lookup.by_fingerprint(fingerprint)
        reference = f"fingerprint:{fingerprint.hex()}"
    if schema is None:
        raise UnknownSchemaError(reference)
    return schema, size
