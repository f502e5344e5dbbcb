"""
Reads a schema as a list of columns, and refuses what we do not read.

A writer schema comes from outside (a registry, the schemas topic) and is as hostile
as a record: an array of nulls turns five bytes into 20 million items, a timestamp in
milliseconds into a wrong year. So a schema may hold the types of docs/spec.md only:
string, int, long (also as timestamp-micros), double, boolean, map of string, these
with null, and for records other than AuditEvent arrays of one flat record. Each of
them takes at least one byte per value, so that no datum can be much larger than its
body.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

from fastavro.schema import SchemaParseException, parse_schema

__all__ = ["Column", "Json", "Kind", "columns", "kind_of", "plain_schema", "promotes"]

Json: TypeAlias = Any
"""A piece of a schema as `json.loads` gives it."""

Kind = Literal["string", "int", "long", "time", "double", "boolean", "map", "array"]
"""The types of a column; `time` is a long of UTC microseconds since the epoch."""

MAX_SCHEMA_CHARS: Final = 262_144
MAX_FIELDS: Final = 1_000

_PRIMITIVES: Final = frozenset({"string", "int", "long", "double", "boolean"})
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_PROMOTIONS: Final = frozenset(
    {
        ("int", "long"),
        ("int", "double"),
        ("long", "double"),
        # The same bytes; the fingerprint does not tell them apart either.
        ("long", "time"),
        ("time", "long"),
    }
)
_TIME: Final = {"type": "long", "is_time": True}


class Column(NamedTuple):
    """One field of a flat record. `default` is None where the schema gives none."""

    name: str
    kind: Kind
    nullable: bool
    default: Json


def plain_schema(text: str) -> dict[str, Json]:
    """
    Return the schema without logical types, docs, aliases and namespaces.

    The bytes of a datum are the same with and without them, but fastavro would make
    a datetime of each timestamp, and fail on those after the year 9999. A timestamp
    becomes a long with `is_time`, which no Avro library knows.

    Raises:
        ValueError: it holds something else than the types above.
    """
    if len(text) > MAX_SCHEMA_CHARS:
        raise ValueError(f"{len(text)} characters, the limit is {MAX_SCHEMA_CHARS}")
    try:
        plain = _plain_record(json.loads(text))
        parse_schema(plain)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except SchemaParseException as error:
        raise ValueError(str(error)) from error
    return plain


def columns(schema: dict[str, Json]) -> tuple[Column, ...]:
    """Return the columns of a plain schema, in the order of its fields."""
    return tuple(
        Column(
            field["name"],
            kind_of(field["type"]),
            isinstance(field["type"], list),
            field.get("default"),
        )
        for field in schema["fields"]
    )


def kind_of(schema: Json) -> Kind:
    """Return the kind of a plain type; a union has that of its other branch."""
    if isinstance(schema, list):
        schema = next(branch for branch in schema if branch != "null")
    if isinstance(schema, dict):
        schema = "time" if schema == _TIME else schema["type"]
    return cast("Kind", schema)


def promotes(writer: Kind, reader: Kind) -> bool:
    """Tell whether a reader of `reader` can read what was written as `writer`."""
    return writer == reader or (writer, reader) in _PROMOTIONS


def _plain_record(schema: Json, namespace: str = "") -> dict[str, Json]:
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise ValueError("it is not a record")
    name, namespace = schema.get("name"), schema.get("namespace", namespace)
    if not isinstance(name, str) or not isinstance(namespace, str):
        raise ValueError("its name is not text")  # noqa: TRY004 - one error for all
    if "." not in name and namespace:
        name = f"{namespace}.{name}"
    fields = schema.get("fields")
    if not isinstance(fields, list) or not 0 < len(fields) <= MAX_FIELDS:
        raise ValueError(f"{name} needs 1 to {MAX_FIELDS} fields")
    plain = [_plain_field(field, name.rpartition(".")[0]) for field in fields]
    if len({field["name"] for field in plain}) < len(plain):
        raise ValueError(f"{name} has two fields of one name")
    return {"type": "record", "name": name, "fields": plain}


def _plain_field(field: Json, namespace: str) -> dict[str, Json]:
    name = field.get("name") if isinstance(field, dict) else None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError("a field has no name, or one that Avro does not allow")
    plain = {"name": name, "type": _plain_type(field.get("type"), name, namespace)}
    if "default" in field:
        plain["default"] = field["default"]
    return plain


def _plain_type(schema: Json, field: str, namespace: str) -> Json:
    if isinstance(schema, list):
        if len(schema) == 2 and schema.count("null") == 1:  # noqa: PLR2004 - a pair
            return [
                branch if branch == "null" else _plain_value(branch, field, namespace)
                for branch in schema
            ]
        raise ValueError(f"field {field!r} is a union of more than null and a type")
    return _plain_value(schema, field, namespace)


def _plain_value(schema: Json, field: str, namespace: str) -> Json:
    if not isinstance(schema, dict):
        schema = {"type": schema}
    kind, logical = schema.get("type"), schema.get("logicalType")
    if logical is not None and (kind, logical) != ("long", "timestamp-micros"):
        raise ValueError(f"field {field!r} has the logical type {logical!r}")
    if logical is not None:
        return _TIME
    if isinstance(kind, str) and kind in _PRIMITIVES:
        return kind
    if kind == "map" and schema.get("values") == "string":
        return {"type": "map", "values": "string"}
    if kind == "array":
        return {"type": "array", "items": _plain_record(schema.get("items"), namespace)}
    raise ValueError(f"field {field!r} has a type that is not read: {kind!r:.80}")
