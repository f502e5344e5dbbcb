"""Reading records whose types nobody vouches for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from hashlib import sha256
from types import MappingProxyType
from typing import Final, NamedTuple

from fleetwake.producer.adapters.mapping import REPAIRED
from fleetwake.producer.content import plain_json
from fleetwake.schemas.text import well_formed

__all__ = [
    "MAX_ID_CHARS",
    "EventTypeRow",
    "Reading",
    "error_kind",
    "json_text",
    "short_id",
]

_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
_MAX_LONG: Final = 2**63 - 1

MAX_ID_CHARS: Final = 1_024
"""Code points of a name or an id; see `short_id`."""

_DIGEST_CHARS: Final = 32
_ID_ENDINGS: Final = ("_id", "_name", "_type")
_ID_FIELDS: Final = frozenset(
    {
        *("kind", "type", "level", "scope", "model", "provider"),
        *("from_agent", "to_agent"),
    }
)
"""Fields whose text is a name or an id, whatever record they are of."""

_ERROR_KINDS: Final = {
    "TimeoutError": "timeout",
    "PermissionError": "permission",
    "FileNotFoundError": "not_found",
    "RateLimitError": "rate_limit",
    "ValidationError": "invalid_arguments",
}


class EventTypeRow(NamedTuple):
    """One row of a system's table: what a type of its records becomes."""

    event_type: str
    """The first time that the fact is told."""
    counts: str = ""
    """As what it counts, in words; empty: as nothing."""
    otherwise: Mapping[str, str] = MappingProxyType({})
    """What else it may become, and when."""


class Reading:
    """
    Reads the fields of one record, and notes those that cannot be what they should.

    A field of a wrong type is as good as none: the event goes without it, says so in
    the attribute `REPAIRED`, and has it in its payload.
    """

    __slots__ = ("_repaired",)

    def __init__(self) -> None:
        self._repaired: dict[str, None] = {}

    def note(self, word: str) -> None:
        """Note that something was repaired."""
        self._repaired[word] = None

    def text(self, of: Mapping[str, object], name: str) -> str | None:
        """Return a text that any codec can hold; of a name or an id its short one."""
        value = of.get(name)
        if value is None:
            return None
        if isinstance(value, Enum):
            value = value.value
        if not isinstance(value, str):
            self.note(name)
            return None
        if type(value) is not str:
            value = str.__str__(value)
        if len(value) > MAX_ID_CHARS and _is_id(name):
            self.note(f"{name}_cut")
            value = short_id(value)
        return value if value.isascii() else well_formed(value)

    def integer(self, of: Mapping[str, object], name: str) -> int | None:
        """Return a count, of what a column can hold."""
        value = of.get(name)
        if value is None:
            return None
        if type(value) is int and 0 <= value <= _MAX_LONG:
            return value
        self.note(name)
        return None

    def flag(self, of: Mapping[str, object], name: str) -> bool | None:
        """Return true or false."""
        value = of.get(name)
        if value is None or isinstance(value, bool):
            return value
        self.note(name)
        return None

    def mapping(self, of: Mapping[str, object], name: str) -> Mapping[str, object]:
        """Return an object; an empty one in place of null."""
        value = of.get(name)
        if isinstance(value, Mapping):
            return value
        if value is not None:
            self.note(name)
        return _NOTHING

    def array(self, of: Mapping[str, object], name: str) -> Sequence[object]:
        """Return an array; an empty one in place of null."""
        value = of.get(name)
        if isinstance(value, (list, tuple)):
            return value
        if value is not None:
            self.note(name)
        return ()

    def duration_ms(self, started_at: int | None, ended_at: int) -> float | None:
        """Return how long it took between two times in microseconds."""
        if started_at is None:
            return None
        if ended_at < started_at:
            self.note("negative_duration")
            return None
        return (ended_at - started_at) / 1000

    def attributes(self, named: Mapping[str, str | None]) -> dict[str, str]:
        """Return those that have a value, and what was repaired."""
        found = {name: value for name, value in named.items() if value is not None}
        if self._repaired:
            found[REPAIRED] = ",".join(self._repaired)
        return found


def short_id(text: str) -> str:
    """
    Return a name or an id of at most `MAX_ID_CHARS` code points.

    A longer one, which would make the event too large to be sent, becomes its head and
    half of its SHA-256: two that differ stay two.
    """
    if len(text) <= MAX_ID_CHARS:
        return text
    digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]
    return f"{text[: MAX_ID_CHARS - _DIGEST_CHARS - 1]}~{digest}"


def _is_id(name: str) -> bool:
    return name in _ID_FIELDS or name.endswith(_ID_ENDINGS)


def error_kind(error_type: str | None) -> str:
    """Return what an error is by the name of its class in Python."""
    return _ERROR_KINDS.get(error_type or "", "other")


def json_text(value: object) -> str:
    """Return a text as it is, and the JSON of anything else."""
    return value if isinstance(value, str) else plain_json(value)[0]
