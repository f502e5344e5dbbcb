"""A trace event, read as far as all kinds have it in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleetwake.producer.adapters.agent_framework.runs import Run, Runs
    from fleetwake.producer.adapters.agent_framework.told import Told
    from fleetwake.producer.adapters.reading import Reading

__all__ = ["Kind", "Seen"]


class Seen(NamedTuple):
    """A record, what was read of it, and what is known of the runs before it."""

    kind: str
    at: int
    run_id: str | None
    agent_id: str | None
    span_id: str | None
    context: Mapping[str, object]
    payload: Mapping[str, object]
    reading: Reading
    runs: Runs

    @property
    def run(self) -> Run:
        """Its run."""
        return self.runs.get(self.run_id)

    def text(self, name: str) -> str | None:
        """Return a text of the payload."""
        return self.reading.text(self.payload, name)

    def tool(self, of: Mapping[str, object]) -> str | None:
        """Return the name of the tool that a part of it is about."""
        read = self.reading.text
        return read(of, "tool_name") or read(self.context, "tool_name")


Kind: TypeAlias = "Callable[[Seen], Told]"
"""What reads the kinds of an event."""
