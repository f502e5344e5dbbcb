"""
What each ATOF record becomes, and what it counts as.

docs/integrations/atof.md has this table. An end of a call counts as a call, a failed
one as a failure as well; so does a model's error. Ends of scopes and turns count as
nothing, whatever their outcome: what failed within has been told. What tells a fact
once more is `custom`, without an outcome.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TYPES", "EventTypeRow"]


class EventTypeRow(NamedTuple):
    """What a record becomes."""

    event_type: str
    when: str
    """Which records these are, in words."""
    counts_as: str = "nothing"


_Row = EventTypeRow

TYPES: Final[Mapping[str, EventTypeRow]] = MappingProxyType(
    {
        "scope.start turn": _Row(
            "turn.start",
            "category `agent`, in no turn; or the gateway's role `turn`",
            "resets detectors",
        ),
        "scope.end turn": _Row("turn.end", "its end"),
        "scope.start delegation": _Row(
            "delegation.start", "category `agent`, inside of a turn: no turn of its own"
        ),
        "scope.end delegation": _Row("delegation.end", "its end"),
        "scope.start session": _Row("session.start", "the gateway's role `session`"),
        "scope.end session": _Row("session.end", "its end", "resets detectors"),
        "scope.start tool": _Row(
            "tool.attempt", "category `tool`; data are the arguments", "a call begins"
        ),
        "scope.end tool": _Row(
            "tool.complete", "its end; data are the result", "a call ends"
        ),
        "scope.end tool failed": _Row(
            "tool.failure", "its end, with an error", "a call ends; a failure"
        ),
        "scope.start llm": _Row("model.request", "category `llm`"),
        "scope.end llm": _Row("model.response", "its end", "tokens, cost"),
        "scope.end llm failed": _Row(
            "model.error", "its end, with an error", "a failure"
        ),
        "scope.start scope": _Row(
            "scope.start", "any other category, also one that nobody knows yet"
        ),
        "scope.end scope": _Row("scope.end", "its end"),
        "scope": _Row("custom", "a scope that neither starts nor ends"),
        "mark": _Row("mark", "any other mark"),
        "mark rejected": _Row(
            "tool.blocked",
            "data say `rejected`; its name is the tool's",
            "a call ends; a block",
        ),
        "mark rejected model": _Row(
            "policy.decision",
            "the same, after a guardrail's scope that judged a model's call",
            "a block",
        ),
        "mark session.start": _Row("session.start", "of this name"),
        "mark session.start again": _Row(
            "custom", "of this name, in a scope of role `session`: a second view"
        ),
        "mark session.end": _Row("session.end", "of this name", "resets detectors"),
        "mark session.end again": _Row(
            "custom", "of this name, in a scope of role `session`: a second view"
        ),
        "repeat": _Row("custom", "told before, or a second start or end of a scope"),
    }
)
"""By kind, phase and the part that a scope plays, and what sets the case apart."""
