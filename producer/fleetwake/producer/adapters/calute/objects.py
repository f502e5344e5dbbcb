"""What an event says that is an object, of whatever class."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import lru_cache
from types import MemberDescriptorType
from typing import Final, cast

from fleetwake.producer.adapters.calute.mapping import ENVELOPE
from fleetwake.producer.adapters.calute.types import fields_of

__all__ = ["letter_of", "record_of"]

_MAX_LETTER_BYTES: Final = 1024 * 1024
_REQUIRED: Final = ENVELOPE[:2]

# Calute's, by all of its names, and ours.
_PACKAGES: Final = frozenset({"calute", "xerxes_agent", "xerxes", "fleetwake"})


def record_of(event: object) -> dict[str, object]:
    """
    Return what `event` says, by field; no deeper, and nothing is copied.

    A class that has a `to_dict` of its own says by it what belongs to the event; if
    that fails, and of all others, the attributes are read. May raise what they do.
    """
    if isinstance(event, Mapping):
        record = dict(cast("Mapping[str, object]", event))
    else:
        record = _told_by(event) or _attributes_of(event)
    return {name: _plain(value) for name, value in record.items()}


def letter_of(event: object) -> bytes:
    """Return the event as JSON for a dead letter: its type, if nothing can be read."""
    try:
        text = json.dumps(record_of(event), default=str)
    except Exception:  # noqa: BLE001  # whatever the object is
        text = json.dumps(type(event).__name__)
    return text.encode()[:_MAX_LETTER_BYTES]


def _told_by(event: object) -> dict[str, object] | None:
    kind: type = type(event)
    if _only_copies(kind):
        return None
    with contextlib.suppress(Exception):
        to_dict = getattr(event, "to_dict", None)
        said = to_dict() if callable(to_dict) else None
        if isinstance(said, Mapping):
            return _present(event, _REQUIRED) | cast("dict[str, object]", dict(said))
    return None


def _attributes_of(event: object) -> dict[str, object]:
    kind: type = type(event)
    record = _present(event, _names_of(kind)) | getattr(event, "__dict__", {})
    for name in fields_of(_plain(record.get("event_type"))):
        if name not in record:
            # A property, which may raise; or a constant of the class.
            with contextlib.suppress(Exception):
                record[name] = getattr(event, name)
    return record


def _plain(value: object) -> object:
    # By its type: an object may raise when it is asked for its class.
    return cast("Enum", value).value if issubclass(type(value), Enum) else value


def _present(event: object, names: tuple[str, ...]) -> dict[str, object]:
    return {name: getattr(event, name) for name in names if hasattr(event, name)}


@lru_cache(maxsize=256)
def _only_copies(kind: type) -> bool:
    """Tell whether `to_dict` is Calute's: a deep copy, which fails of a lock."""
    owner = next((one for one in kind.__mro__ if "to_dict" in vars(one)), kind)
    package = owner.__module__.partition(".")[0]
    return owner.__name__ == "AuditEvent" and package in _PACKAGES


@lru_cache(maxsize=256)
def _names_of(kind: type) -> tuple[str, ...]:
    names = [one.name for one in fields(kind)] if is_dataclass(kind) else ENVELOPE
    slots = (
        name
        for one in reversed(kind.__mro__)
        for name, value in vars(one).items()
        if isinstance(value, MemberDescriptorType) and not name.startswith("_")
    )
    return tuple(dict.fromkeys((*names, *slots)))
