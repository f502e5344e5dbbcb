"""
What a writer refuses, and what it mends, before Avro sees a record.

fastavro writes 3.7 into a long as 3 and True as 1, and takes any text for an outcome.
An event comes here only when the fast `writer` does not take it, and is looked at field
by field, for the field at fault.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

from fleetwake.schemas.errors import InvalidEventError
from fleetwake.schemas.event import (
    DIGEST_BASES,
    ERROR_KINDS,
    EVENT_TYPES,
    OUTCOMES,
    REQUIRED_FIELDS,
    SEVERITIES,
    AuditEvent,
)
from fleetwake.schemas.layout import columns, kind_of, plain_schema
from fleetwake.schemas.lookup import current
from fleetwake.schemas.records import LISTS
from fleetwake.schemas.text import well_formed

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from fleetwake.schemas.layout import Json, Kind

__all__ = [
    "BOUNDS",
    "CLOSED",
    "MAX_TIME_US",
    "check_datum",
    "check_event",
    "event_datum",
    "mend_doubles",
    "mend_texts",
    "own_schema",
    "record_datum",
]

MAX_TIME_US: Final = 253_402_300_799_999_999
"""The last microsecond of the year 9999, where Python's and SQL's times end."""


@cache
def own_schema(name: str) -> dict[str, Json]:
    """Return the plain form of what we write for `name`; not to be changed."""
    return plain_schema(current()[name].text)


_SCHEMA: Final = own_schema("AuditEvent")
_COLUMNS: Final = columns(_SCHEMA)
_EXACT: Final[dict[str, frozenset[type]]] = {
    "string": frozenset({str}),
    "int": frozenset({int}),
    "long": frozenset({int}),
    "time": frozenset({int}),
    "double": frozenset({float}),
    "boolean": frozenset({bool}),
    "map": frozenset({dict, MappingProxyType}),
}
BOUNDS: Final[dict[str, tuple[int, int]]] = {
    "int": (-(2**31), 2**31 - 1),
    "long": (-(2**63), 2**63 - 1),
    "time": (0, MAX_TIME_US),
}
_DOUBLES: Final = tuple(c.name for c in _COLUMNS if c.kind == "double")
CLOSED: Final[dict[str, frozenset[str | None]]] = {
    "event_type": frozenset(EVENT_TYPES),
    "severity": frozenset(SEVERITIES),
    "outcome": frozenset(OUTCOMES),
    "error_kind": ERROR_KINDS | {None},
    "digest_basis": DIGEST_BASES | {None},
}
_WORDS: Final = {
    "string": "text",
    "int": "a 32-bit integer",
    "long": "a 64-bit integer",
    "time": "a time between the years 1970 and 9999 in microseconds",
    "double": "a finite number",
    "boolean": "a boolean",
    "map": "a map of text",
}


def event_datum(event: AuditEvent) -> dict[str, Json]:
    """
    Return the event as fastavro takes it.

    NaN and the infinities become null: JSON has no such numbers, and one of them in
    a sum spoils it for good.

    Raises:
        InvalidEventError: a field is empty, of a wrong type, or not in its closed set.
    """
    datum = event._asdict()
    mend_doubles(datum)
    check_event(datum)
    return datum


def record_datum(record: DataclassInstance) -> dict[str, Json]:
    """
    Return any other record as fastavro takes it.

    Raises:
        InvalidEventError: a field is of a wrong type, or a number that Avro lacks.
    """
    name = type(record).__name__
    # `asdict` copies every value, and to check field by field costs as much again.
    datum: dict[str, Json] = {one: getattr(record, one) for one in _names(type(record))}
    for one in LISTS.get(name, ()):
        datum[one] = [asdict(item) for item in datum[one]]
    if not _is_plain(name, datum):
        check_datum(own_schema(name), datum)
    for one, schema in _lists(name):
        for item in datum[one]:
            check_datum(schema, item)
    return datum


def check_event(datum: dict[str, Json]) -> None:
    """
    Find the field at fault, slowly.

    Raises:
        InvalidEventError: as `event_datum`.
    """
    check_datum(_SCHEMA, datum)
    for name, allowed in CLOSED.items():
        if datum[name] not in allowed:
            expected = ", ".join(sorted(value for value in allowed if value))
            raise InvalidEventError(name, f"{datum[name]!r:.80} is none of: {expected}")
    for name in REQUIRED_FIELDS:
        if not datum[name] or (isinstance(datum[name], int) and datum[name] < 0):
            raise InvalidEventError(name, "it must be filled")


def check_datum(schema: dict[str, Json], datum: dict[str, Json]) -> None:
    """
    Hold each value against its type.

    Raises:
        InvalidEventError: one does not fit.
    """
    for field in schema["fields"]:
        _check_value(field["type"], datum[field["name"]], field["name"])


def mend_doubles(datum: dict[str, Json]) -> None:
    """Make null of NaN and the infinities in an event, in place."""
    for name in _DOUBLES:
        value = datum[name]
        if isinstance(value, float) and not math.isfinite(value):
            datum[name] = None


def mend_texts(datum: dict[str, Json]) -> dict[str, Json]:
    """Return the datum with all its texts well formed, however deep they stand."""
    return cast("dict[str, Json]", _mended(datum))


@cache
def _names(record: type[DataclassInstance]) -> tuple[str, ...]:
    return tuple(one.name for one in fields(record))


@cache
def _plan(record: str) -> tuple[tuple[str, frozenset[type], int, int], ...]:
    """Say what each field but lists may be: types, least and greatest number."""
    return tuple(
        (
            one.name,
            _EXACT[one.kind] | ({type(None)} if one.nullable else frozenset()),
            *BOUNDS.get(one.kind, (0, 0)),
        )
        for one in columns(own_schema(record))
        if one.kind in _EXACT
    )


@cache
def _lists(record: str) -> tuple[tuple[str, Json], ...]:
    return tuple(
        (field["name"], field["type"]["items"])
        for field in own_schema(record)["fields"]
        if field["name"] in LISTS.get(record, ())
    )


def _is_plain(record: str, datum: dict[str, Json]) -> bool:
    """Tell quickly that all fields but lists are what they must be."""
    for name, types, least, greatest in _plan(record):
        value = datum[name]
        if type(value) not in types:
            return False
        if type(value) is int and not least <= value <= greatest:
            return False
        if type(value) is float and not math.isfinite(value):
            return False
        if type(value) is dict and not all(map(_is_text, value.items())):
            return False
    return True


def _is_text(pair: tuple[object, object]) -> bool:
    return type(pair[0]) is str and type(pair[1]) is str


def _check_value(schema: Json, value: object, field: str) -> None:
    if isinstance(schema, list):
        if value is None:
            return
        schema = next(branch for branch in schema if branch != "null")
    kind = kind_of(schema)
    if kind == "array":
        for item in cast("list[dict[str, Json]]", value):
            check_datum(schema["items"], item)
    elif not _fits(kind, value):
        raise InvalidEventError(field, f"{type(value).__name__} is not {_WORDS[kind]}")
    elif isinstance(value, (int, float)) and not _holds(kind, value):
        raise InvalidEventError(field, f"the number is not {_WORDS[kind]}")


def _fits(kind: Kind, value: object) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "map":
            return isinstance(value, Mapping) and all(
                isinstance(text, str) for pair in value.items() for text in pair
            )
        case "boolean":
            return isinstance(value, bool)
        case "double":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case _:
            return isinstance(value, int) and not isinstance(value, bool)


def _holds(kind: Kind, number: float) -> bool:
    match kind:
        case "double":
            return -sys.float_info.max <= number <= sys.float_info.max
        case "time":
            return 0 <= number <= MAX_TIME_US
        case "int":
            return -(2**31) <= number < 2**31
        case _:
            return -(2**63) <= number < 2**63


def _mended(value: Json) -> Json:
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, Mapping):
        return {_mended(key): _mended(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mended(item) for item in value]
    return value
