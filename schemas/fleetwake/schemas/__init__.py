"""
The contract: the event and the other records, and how they become bytes.

Opens no socket and starts no thread. Two modules are imported by who needs them:
`fleetwake.schemas.columnar` (pyarrow) and `fleetwake.schemas.models` (pydantic).
"""

from __future__ import annotations

from fleetwake.schemas.codec import (
    SHA256_HEADER,
    EventEncoder,
    PackagedSchemas,
    Schema,
    SchemaLookup,
    confluent_header,
    decode,
    decode_record,
    encode,
    encode_record,
    schema_of,
)
from fleetwake.schemas.errors import (
    ConfigurationError,
    FleetwakeError,
    InvalidEventError,
    InvalidRecordError,
    RetriableError,
)
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.records import (
    Block,
    Command,
    Delivery,
    LoopAlert,
    MetricWindow,
    SessionFacts,
    Signal,
    Verdict,
)
from fleetwake.schemas.text import well_formed

__all__ = [
    "SHA256_HEADER",
    "AuditEvent",
    "Block",
    "Command",
    "ConfigurationError",
    "Delivery",
    "EventEncoder",
    "FleetwakeError",
    "InvalidEventError",
    "InvalidRecordError",
    "LoopAlert",
    "MetricWindow",
    "PackagedSchemas",
    "RetriableError",
    "Schema",
    "SchemaLookup",
    "SessionFacts",
    "Signal",
    "Verdict",
    "confluent_header",
    "decode",
    "decode_record",
    "encode",
    "encode_record",
    "schema_of",
    "well_formed",
]
