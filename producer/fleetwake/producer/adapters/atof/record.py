"""One ATOF record, its fields read as far as they can be trusted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, cast
from uuid import UUID

from fleetwake.producer.adapters.mapping import UnmappableError
from fleetwake.producer.adapters.times import micros, micros_of_epoch
from fleetwake.schemas.text import well_formed

__all__ = [
    "MAX_TEXT",
    "AtofRecord",
    "is_uuid",
    "named",
    "object_of",
    "read",
    "short_text",
    "text_of",
]

MAX_TEXT: Final = 1_024
"""Code points of a name or an id. Longer names are cut, longer ids are not used."""

_UUID: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ANY_UUID: Final = re.compile(
    "[0-9A-Fa-f]{32}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-.{12}"
)
_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


class AtofRecord(NamedTuple):
    """What there is to know of a record without those before it."""

    kind: str
    phase: str
    """`start` or `end` of a scope; whatever it says there, or nothing."""
    category: str
    uuid: str
    parent: str | None
    root: str | None
    """Relay's propagation_root_uuid: outermost agent scope, or the implicit root."""
    at: int
    name: str
    metadata: Mapping[str, object]
    profile: Mapping[str, object]
    notes: list[str]
    """What had to be repaired; the mapping adds to it."""

    @property
    def source_type(self) -> str:
        """The record's type in its own words."""
        return ".".join(filter(None, (self.kind, self.phase, self.category)))


def read(record: Mapping[str, object]) -> AtofRecord:
    """
    Read the fields that make the event; those of a wrong type become notes.

    Takes all that either of the upstream readers takes: any text for an uuid, unknown
    versions, categories and fields, attributes on a mark.

    Raises:
        UnmappableError: kind_unusable, uuid_unusable, name_unusable, or the time's.
    """
    kind, name, uuid = record.get("kind"), record.get("name"), record.get("uuid")
    if not isinstance(kind, str) or kind not in ("scope", "mark"):
        raise UnmappableError("kind_unusable", "the kind is neither scope nor mark")
    if not isinstance(uuid, str) or not 0 < len(uuid) <= MAX_TEXT:
        raise UnmappableError(
            "uuid_unusable", f"the uuid is no text of 1 to {MAX_TEXT} characters"
        )
    if not isinstance(name, str):
        raise UnmappableError("name_unusable", "the name is no text")
    notes: list[str] = []
    return AtofRecord(
        kind=kind,
        phase=_text(record, "scope_category", notes) if kind == "scope" else "",
        category=_text(record, "category", notes),
        uuid=_canonical(uuid),
        parent=_id(record, "parent_uuid", notes),
        root=_id(record, "propagation_root_uuid", notes),
        at=_time(record.get("timestamp")),
        name=_short(name, "name", notes),
        metadata=object_of(record.get("metadata")),
        profile=object_of(record.get("category_profile")),
        notes=notes,
    )


def named(fields: Mapping[str, object], name: str) -> object:
    """Return a field with dots in its name, which a sink may have replaced by `_`."""
    value = fields.get(name)
    return fields.get(name.replace(".", "_")) if value is None else value


def object_of(value: object) -> Mapping[str, object]:
    """Return a JSON object, an empty one for anything else."""
    return (
        cast("Mapping[str, object]", value) if isinstance(value, Mapping) else _NOTHING
    )


def text_of(value: object) -> str | None:
    """Return text that a column can hold; None for anything else and for no text."""
    if not isinstance(value, str) or not value:
        return None
    return value if value.isascii() else well_formed(value)


def short_text(value: object) -> str | None:
    """Return the same, cut to `MAX_TEXT`."""
    text = text_of(value)
    return text[:MAX_TEXT] if text else None


def is_uuid(identity: str) -> bool:
    """Tell whether an id is unique by itself; others repeat from run to run."""
    return _UUID.fullmatch(identity) is not None


def _time(value: object) -> int:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    at = micros_of_epoch(cast("int", value)) if is_number else micros(value)
    if not at:
        # The envelope's 0 stands for a time that is not given.
        raise UnmappableError("timestamp_out_of_range", "the timestamp is 0")
    return at


def _text(record: Mapping[str, object], field: str, notes: list[str]) -> str:
    value = record.get(field)
    if isinstance(value, str):
        return _short(value, field, notes)
    if value is not None:
        notes.append(f"{field}_not_text")
    return ""


def _short(value: str, field: str, notes: list[str]) -> str:
    if len(value) > MAX_TEXT:
        notes.append(f"{field}_cut")
        value = value[:MAX_TEXT]
    return text_of(value) or ""


def _id(record: Mapping[str, object], field: str, notes: list[str]) -> str | None:
    value = record.get(field)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        notes.append(f"{field}_unusable")
        return None
    return _canonical(value)


def _canonical(identity: str) -> str:
    """Give one spelling to an uuid, so that start and end find each other."""
    if not _UUID.fullmatch(identity) and _ANY_UUID.fullmatch(identity):
        try:
            return str(UUID(identity))
        except ValueError:
            return identity
    return identity if identity.isascii() else well_formed(identity)
