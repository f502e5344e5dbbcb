"""
The border for events that come as JSON lines. Needs pydantic.

Names are those of `audit_event.avsc`. Nothing is coerced and no other name is taken,
but for JSON's sake

- digests are 16 hex digits or an integer,
- times are an integer, UTC microseconds since the epoch, or an RFC 3339 text with a
  zone (its digits after the microseconds are cut),
- `payload` is text, or any JSON, which becomes compact JSON text,
- NaN, Infinity and -Infinity, which are no JSON but are often met, are null in
  `duration_ms` and `cost_usd`, and text in the payload.

What a producer stamps may be left out: all but `event_type` and `session_id`.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
)

from fleetwake.schemas.checks import MAX_TIME_US
from fleetwake.schemas.codec import EVENT_COLUMNS
from fleetwake.schemas.errors import InvalidEventError
from fleetwake.schemas.event import (
    DIGEST_BASES,
    ERROR_KINDS,
    EVENT_TYPES,
    OUTCOMES,
    SEVERITIES,
    AuditEvent,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetwake.schemas.layout import Column

__all__ = ["EventModel", "event_of", "parse_event", "to_json"]

_RFC_3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DIGEST: Final = re.compile(r"[0-9a-fA-F]{16}")
_NOT_FINITE: Final = frozenset({"NaN", "Infinity", "-Infinity"})
_DIGESTS: Final = frozenset(
    column.name for column in EVENT_COLUMNS if column.name.endswith("_digest")
)


def parse_event(line: str | bytes) -> AuditEvent:
    """
    Make an event of one line of JSON. What is absent gets its default.

    Raises:
        InvalidEventError: it is not an event; names the field, or `event` where the
            line is no JSON object. Never quotes the value.
    """
    try:
        fields = json.loads(line, parse_constant=str, parse_float=_float)
    except (ValueError, RecursionError) as error:
        raise InvalidEventError("event", f"it is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidEventError("event", "it is no JSON object")
    return event_of(fields)


def event_of(fields: Mapping[str, Any]) -> AuditEvent:
    """
    Make an event of parsed JSON, in which NaN and Infinity are texts.

    Raises:
        InvalidEventError: as `parse_event`.
    """
    try:
        model = EventModel.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(map(str, first["loc"]))[:100] or "event"
        raise InvalidEventError(
            field, first["msg"].removeprefix("Value error, ")
        ) from None
    return AuditEvent(**dict(model))


def to_json(event: AuditEvent, *, with_nulls: bool = False) -> str:
    """
    Return the event as one line of ASCII JSON, which `parse_event` reads back.

    Nulls are left out unless wanted, digests are 16 hex digits, times are microseconds.
    All that is not ASCII is escaped, so that a terminal may show it.
    """
    present: dict[str, Any] = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in event._asdict().items()
    }
    if not with_nulls:
        present = {name: one for name, one in present.items() if one is not None}
    for name in _DIGESTS & present.keys():
        if present[name] is not None:
            present[name] = f"{present[name] & 0xFFFF_FFFF_FFFF_FFFF:016x}"
    present["attributes"] = dict(event.attributes)
    return json.dumps(present, separators=(",", ":"))


def _float(literal: str) -> float | str:
    number = float(literal)
    return number if math.isfinite(number) else json.dumps(number)


def _time(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not _RFC_3339.fullmatch(value):
        raise ValueError("it is no RFC 3339 time with a zone")
    return (datetime.fromisoformat(value.upper()) - _EPOCH) // timedelta(microseconds=1)


def _digest(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not _DIGEST.fullmatch(value):
        raise ValueError("it has not 16 hex digits")
    return int.from_bytes(bytes.fromhex(value), "big", signed=True)


def _finite(value: object) -> object:
    return None if isinstance(value, str) and value in _NOT_FINITE else value


def _not_empty(value: str) -> str:
    if not value:
        raise ValueError("it is empty")
    return value


def _payload(value: object) -> object:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"))


_INT32: Final = Field(ge=-(2**31), lt=2**31)
_INT64: Final = Field(ge=-(2**63), lt=2**63)
_TYPES: Final[dict[str, Any]] = {
    "string": str,
    "int": Annotated[int, _INT32],
    "long": Annotated[int, _INT64],
    "time": Annotated[int, Field(ge=0, le=MAX_TIME_US), BeforeValidator(_time)],
    "double": Annotated[float | None, BeforeValidator(_finite)],
    "map": dict[str, str],
}
_CLOSED: Final[dict[str, Any]] = {
    "event_type": Literal[tuple(sorted(EVENT_TYPES))],
    "severity": Literal[SEVERITIES],
    "outcome": Literal[tuple(sorted(OUTCOMES))],
    "error_kind": Literal[tuple(sorted(ERROR_KINDS))],
    "digest_basis": Literal[tuple(sorted(DIGEST_BASES))],
}


def _field(column: Column) -> tuple[Any, Any]:
    kind: Any = _CLOSED.get(column.name, _TYPES[column.kind])
    if column.name in _DIGESTS:
        kind = Annotated[int, _INT64, BeforeValidator(_digest)]
    elif column.name == "payload":
        kind = Annotated[str | None, BeforeValidator(_payload)]
    if column.name == "event_type":
        return kind, ...
    if column.name == "session_id":
        # Not min_length, which refuses the lone surrogates that all texts may have.
        return Annotated[kind, AfterValidator(_not_empty)], ...
    return (kind | None if column.nullable else kind), column.default


_FIELDS: Final[dict[str, Any]] = {
    column.name: _field(column) for column in EVENT_COLUMNS
}
EventModel: Final[type[BaseModel]] = create_model(
    "EventModel",
    __config__=ConfigDict(strict=True, extra="forbid", frozen=True),
    **_FIELDS,
)
"""The event as pydantic sees it: for `model_json_schema()` and web borders."""
