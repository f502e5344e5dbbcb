"""The counts of each rule where a rules file says nothing; docs/loops.md says why."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from fleetwake.consumers.loops.limits import NEVER, Limit

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CALL_RULES", "PRESETS", "TEXT_RULES"]

_DEFAULT: Final = {
    "exact_repeat": Limit(3, 5),
    "exact_repeat_error": Limit(3, 5),
    "exact_args": Limit(10, 20),
    "same_error": Limit(5, 10),
    "error_streak": Limit(8, 15),
    "unknown_tool": Limit(3, 5),
    "cycle": Limit(3, 5),
    "cycle_args": Limit(10, 20),
    "interleaved": Limit(4, 8),
    "no_progress": Limit(6, 10),
    "text_streak": Limit(3, 5),
    "text_repetition": Limit(8, NEVER),
    "condense_loop": Limit(5, 10),
}
# For fleets that nobody watches: sooner critical, at the price of more false alarms.
_STRICT: Final = _DEFAULT | {
    "exact_repeat": Limit(3, 4),
    "exact_repeat_error": Limit(2, 4),
    "exact_args": Limit(6, 12),
    "same_error": Limit(4, 7),
    "error_streak": Limit(6, 10),
    "unknown_tool": Limit(2, 3),
    "cycle": Limit(2, 3),
    "cycle_args": Limit(6, 12),
    "interleaved": Limit(4, 6),
    "no_progress": Limit(5, 8),
    "text_streak": Limit(2, 3),
    "condense_loop": Limit(3, 6),
}

PRESETS: Final[Mapping[str, Mapping[str, Limit]]] = MappingProxyType(
    {
        "default": MappingProxyType(_DEFAULT),
        "strict": MappingProxyType(_STRICT),
        "calute": MappingProxyType(_DEFAULT),
    }
)
"""Limits by rule. Of `calute` they are without use: it has one rule of its own."""

TEXT_RULES: Final = ("text_streak", "text_repetition", "condense_loop")
CALL_RULES: Final = tuple(name for name in _DEFAULT if name not in TEXT_RULES)
