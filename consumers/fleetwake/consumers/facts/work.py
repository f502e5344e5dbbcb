"""What a session has begun and not ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from fleetwake.consumers.facts.kinds import STOPPED
from fleetwake.schemas.records import OpenWork

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetwake.consumers.facts.batches import Several
    from fleetwake.consumers.facts.kinds import Meaning
    from fleetwake.consumers.facts.rows import Row

__all__ = ["GROUPS", "Work"]

GROUPS: Final = {"tool": 1, "model": 2, "delegation": 4}
"""What beginnings and ends are looked for in."""

_MOST: Final = 16
_ASKED: Final = "confirmation"


_Key: TypeAlias = "tuple[str, str | int]"


class Work:
    """
    Open calls, questions to a person, model requests and delegations, oldest first.

    Ends find their beginning by the id of the call or span; without one, the oldest
    of that name. Beyond 16 the oldest is forgotten: sources that tell no ends must
    not fill the memory.
    """

    __slots__ = ("_open",)

    def __init__(self, work: Iterable[OpenWork] = ()) -> None:
        self._open: dict[_Key, OpenWork] = {}
        for one in work:
            self._put(one)

    @property
    def all(self) -> tuple[OpenWork, ...]:
        """What is open, oldest first."""
        return tuple(self._open.values())

    def fits(self, some: Several) -> bool:
        """Tell whether work that begins and ends unseen would leave all as it is."""
        if len(self._open) + some.deepest > _MOST:
            return False
        if not self._open:
            return True
        if any(GROUPS[group] & some.lone for group, _ in self._open):
            return False
        names = {name for group, name in self._open if GROUPS[group] & some.paired}
        if any(isinstance(one, int) for one in names):
            return False
        return not names or names.isdisjoint(some.ids[some.pairs].to_pylist())

    def take(self, row: Row, means: Meaning) -> OpenWork | None:
        """Begin, end or clear what an event means; return what a call's end ended."""
        kind, role = means.work, means.role
        if role == "clears":
            # What was open when a turn or the session began or ended is not any more.
            self._open.clear()
        elif role == "asks":
            self._ask(row)
        elif kind == "tool":
            name = (row.tool_call_id, row.tool_name)
            if role == "ends":
                return self._end(kind, *name)
            self._begin(kind, *name, row)
        elif role == "begins":
            named = row.model if kind == "model" else row.agent_to
            self._begin(kind, row.span_id, named, row)
        else:
            named = row.agent_to if kind == "delegation" else None
            self._end(kind, row.span_id, named)
        return None

    def _ask(self, row: Row) -> None:
        """A person was asked, or has answered: an allowed call goes on."""
        name = (row.tool_call_id, row.tool_name)
        if (
            row.event_type == "tool.confirmation"
            or row.outcome == "requires_confirmation"
        ):
            self._begin(_ASKED, *name, row)
            return
        asked = self._end(_ASKED, *name)
        if asked is not None and row.outcome not in STOPPED:
            self._begin(
                "tool",
                asked.work_id or None,
                asked.name,
                row._replace(arguments_digest=asked.arguments_digest),
            )

    def _begin(
        self, kind: str, work_id: str | None, name: str | None, row: Row
    ) -> None:
        """Open it; a call that was open before goes on, perhaps as a question."""
        before = None
        if work_id or kind == _ASKED:
            before = self._end(kind, work_id, name)
        digest, since = row.arguments_digest, row.occurred_at
        if before is not None:
            digest = before.arguments_digest if digest is None else digest
            name = name or before.name
            since = before.since if before.kind == kind else since
        elif len(self._open) == _MOST:
            del self._open[next(iter(self._open))]
        self._put(
            OpenWork(
                work_id=work_id or "",
                kind=kind,
                name=name,
                since=since,
                arguments_digest=digest,
            )
        )

    def _end(self, kind: str, work_id: str | None, name: str | None) -> OpenWork | None:
        """Close and return it; None if its beginning was not seen."""
        if not self._open:
            return None
        group = _group(kind)
        if work_id and (found := self._open.pop((group, work_id), None)):
            return found
        for key, one in self._open.items():
            if (
                key[0] == group
                and not (work_id and one.work_id)
                and (name is None or one.name is None or one.name == name)
            ):
                return self._open.pop(key)
        return None

    def _put(self, one: OpenWork) -> None:
        group, name = _group(one.kind), one.work_id
        # Those without an id are told apart by numbers, of which one is free.
        numbers = (n for n in range(_MOST + 1) if (group, n) not in self._open)
        self._open[group, name or next(numbers)] = one


def _group(kind: str) -> str:
    """A call that waits for a person is still that call."""
    return "tool" if kind == _ASKED else kind
