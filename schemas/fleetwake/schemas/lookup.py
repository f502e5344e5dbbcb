"""Finds the schema that a record was written with, by what its frame names."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple, Protocol

from fastavro.schema import fingerprint, to_parsing_canonical_form

from fleetwake.schemas.errors import UnsupportedSchemaError
from fleetwake.schemas.layout import plain_schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

__all__ = ["PackagedSchemas", "Schema", "SchemaLookup"]


class Schema(NamedTuple):
    """
    A schema as JSON text, with its full name and its fingerprint.

    The fingerprint is the CRC-64-AVRO of the Parsing Canonical Form, in the eight
    little-endian bytes of the single-object encoding. Defaults, docs and logical
    types are not part of it.
    """

    name: str
    text: str
    fingerprint: bytes

    @classmethod
    def parse(cls, text: str) -> Schema:
        """
        Make the schema of `text`; computes its name and fingerprint.

        Raises:
            UnsupportedSchemaError: `text` is not a schema that we read.
        """
        try:
            plain = plain_schema(text)
        except ValueError as error:
            raise UnsupportedSchemaError(f"{text:.40}...", str(error)) from error
        # What makes a schema plain is not part of its canonical form.
        canonical = to_parsing_canonical_form(plain)
        digest = bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))
        return cls(plain["name"], text, digest)


class SchemaLookup(Protocol):
    """Answers from memory, so that decoding never waits for the network."""

    def by_fingerprint(self, fingerprint: bytes, /) -> Schema | None:
        """Find by the eight bytes of a single-object frame."""
        ...

    def by_id(self, schema_id: int, /) -> Schema | None:
        """Find by the id of a Confluent frame."""
        ...


class PackagedSchemas:
    """The schemas in this package: the current ones and all that were released."""

    def __init__(self) -> None:
        self._schemas = {schema.fingerprint: schema for schema in released()}
        self._schemas |= {schema.fingerprint: schema for schema in current().values()}

    def by_fingerprint(self, fingerprint: bytes, /) -> Schema | None:
        """Find by the eight bytes of a single-object frame."""
        return self._schemas.get(fingerprint)

    def by_id(self, schema_id: int, /) -> Schema | None:  # noqa: ARG002 - the port
        """Return None: ids are given by a registry."""
        return None


@cache
def current() -> dict[str, Schema]:
    """Return what we write, by the record's name (without its namespace)."""
    folder = files("fleetwake.schemas") / "avsc"
    schemas = map(_read, folder.iterdir())
    return {schema.name.rpartition(".")[2]: schema for schema in schemas}


@cache
def released() -> tuple[Schema, ...]:
    """Return every version that ever left the house, by record and version."""
    folder = files("fleetwake.schemas") / "released"
    return tuple(_read(path) for path in _versions(folder))


def _versions(folder: Traversable) -> Iterator[Traversable]:
    for record in sorted(folder.iterdir(), key=lambda path: path.name):
        yield from sorted(record.iterdir(), key=lambda path: int(path.name[1:-5]))


def _read(path: Traversable) -> Schema:
    return Schema.parse(path.read_text(encoding="utf-8"))
