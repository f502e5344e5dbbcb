"""Which findings are one loop, and the life of its alert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fleetwake.consumers.loops.rules.rule import Finding, Findings, Level

if TYPE_CHECKING:
    from fleetwake.consumers.loops.calls import Call
    from fleetwake.consumers.loops.limits import Mode
    from fleetwake.consumers.loops.rules.pattern import Pattern
    from fleetwake.consumers.loops.rules.rule import Origin

__all__ = ["Clock", "Episodes", "Sighting"]


class Clock(NamedTuple):
    """How many calls were placed and how many judged."""

    placed: int
    judged: int


class Sighting(NamedTuple):
    """A rule judges a call to be part of a loop, which lasts until the clock says."""

    pattern: Pattern
    level: Level
    until: Clock


@dataclass(slots=True, eq=False)
class _Episode:
    rule: type[Pattern]
    """Under which it was opened: its alert's."""
    first: Origin
    mode: Mode
    held: int
    level: Level = Level.NONE
    pattern: type[Pattern] | None = None
    """That said the reason."""
    repeats: int = 0
    reason: str = ""
    claims: int = 0


@dataclass(slots=True)
class _Claim:
    episode: _Episode
    placed: int
    judged: int


class Episodes:
    """
    The open episodes of a session, by what they claim.

    Which claims are alive depends on the latest sightings only, so that a bounded
    replay opens an episode with the same call.
    """

    __slots__ = ("_claims",)

    def __init__(self) -> None:
        self._claims: dict[int | str, _Claim] = {}

    def __bool__(self) -> bool:
        """Whether any is open."""
        return bool(self._claims)

    @property
    def held(self) -> list[int]:
        """The offsets from which on the open ones can be built again."""
        return [claim.episode.held for claim in self._claims.values()]

    def take(self, seen: list[Sighting], call: Call, now: Clock, held: int) -> Findings:
        """
        Take what rules see in a call, the worst first; return what changed.

        `held` is the offset from which on an episode that opens now is built again.
        """
        found: list[Finding] = []
        fresh: list[Sighting] = []
        for one in seen:
            names = one.pattern.claims(call)
            episode = self._claimed(names)
            if episode is None:
                fresh.append(one)
            else:
                self._join(episode, names, one, call, found)
        self._expire(now, found)
        for one in fresh:
            pattern, names = one.pattern, one.pattern.claims(call)
            episode = self._claimed(names) or _Episode(
                type(pattern), pattern.origin(call), pattern.limit(call).mode, held
            )
            self._join(episode, names, one, call, found)
        return tuple(found)

    def resolve(self) -> Findings:
        """Close all."""
        open_ones = dict.fromkeys(claim.episode for claim in self._claims.values())
        self._claims.clear()
        return tuple(_finding("resolved", one) for one in open_ones)

    def _claimed(self, names: tuple[int | str, ...]) -> _Episode | None:
        for name in names:
            claim = self._claims.get(name)
            if claim is not None:
                return claim.episode
        return None

    def _join(
        self,
        episode: _Episode,
        names: tuple[int | str, ...],
        one: Sighting,
        call: Call,
        found: list[Finding],
    ) -> None:
        """Let a sighting keep the episode open and raise its level."""
        pattern = one.pattern
        if one.level > episode.level:
            state = "escalated" if episode.level else "open"
            episode.level, episode.pattern = one.level, type(pattern)
            episode.repeats, episode.reason = pattern.count, pattern.reason(call)
            found.append(_finding(state, episode))
        elif type(pattern) is episode.pattern:
            episode.repeats = max(episode.repeats, pattern.count)
        for name in names:
            self._claim(name, episode, one.until)

    def _claim(self, name: int | str, episode: _Episode, until: Clock) -> None:
        claim = self._claims.get(name)
        if claim is None:
            claim = self._claims[name] = _Claim(episode, 0, 0)
            episode.claims += 1
        claim.placed = max(claim.placed, until.placed)
        claim.judged = max(claim.judged, until.judged)

    def _expire(self, now: Clock, found: list[Finding]) -> None:
        over = [
            name
            for name, claim in self._claims.items()
            if claim.placed < now.placed and claim.judged < now.judged
        ]
        for name in over:
            episode = self._claims.pop(name).episode
            episode.claims -= 1
            if not episode.claims:
                found.append(_finding("resolved", episode))


def _finding(state: str, episode: _Episode) -> Finding:
    return Finding(
        episode.rule,
        state,
        episode.level,
        episode.first,
        episode.repeats,
        episode.reason,
        episode.mode,
    )
