"""Input that could not become an event: kept with its reason and origin."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DeadLetter"]

_NOWHERE: Final[Mapping[str, str]] = MappingProxyType({})


class DeadLetter(NamedTuple):
    """
    What a source gave and nobody could map. Goes to the dead-letters topic.

    Its record has the bytes as they came, redacted, cut at 1 MiB, and as headers
    fleetwake-reason, fleetwake-error and one `fleetwake-origin-<name>` for each entry
    of `origin` (source, file, line, ...).
    """

    value: bytes
    reason: str
    """A word for counting: not_json, timestamp_without_zone, ..."""
    error: str
    """What is wrong, for a person. Quotes no content."""
    origin: Mapping[str, str] = _NOWHERE
    key: str = ""
    """The Kafka key: the session where it is known."""
