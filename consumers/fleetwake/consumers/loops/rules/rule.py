"""What a rule is, and the life of its episodes: opened, escalated, resolved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

if TYPE_CHECKING:
    from fleetwake.consumers.loops.calls import Answer, Call

__all__ = ["AnswerRun", "Finding", "Level", "Rule", "Thresholds", "named"]

_MAX_NAME_CHARS: Final = 80


class Level(IntEnum):
    """How bad it is; the names in lower case are those of `LoopAlert.level`."""

    NONE = 0
    WARNING = 1
    CRITICAL = 2


class Thresholds(NamedTuple):
    """From which count on a repetition has which level."""

    warning: int
    critical: int

    def level(self, count: int) -> Level:
        """Judge a count."""
        if count < self.warning:
            return Level.NONE
        return Level.CRITICAL if count >= self.critical else Level.WARNING


class Finding(NamedTuple):
    """A change of an episode, which becomes one LoopAlert record."""

    rule: type[Rule]
    state: str
    level: Level
    first: Call
    repeats: int
    reason: str


@dataclass(slots=True)
class _Episode:
    level: Level
    first: Call
    repeats: int
    reason: str


class Rule(ABC):
    """
    Watches one session for one pattern.

    `called` and `answered` see every call once, in the session's order; both return
    what changed. `needed` is an offset: reading the session from there on builds the
    present state again, whatever stood before. For that it lies one call before the
    pattern, so that the reader sees where the pattern began.
    """

    __slots__ = ("_episode", "needed")

    name: ClassVar[str]
    version: ClassVar[int]
    """Raised when the rule would answer differently: it is part of alert ids."""

    def __init__(self, offset: int) -> None:
        self.needed = offset
        self._episode: _Episode | None = None

    @abstractmethod
    def called(self, call: Call) -> Finding | None:
        """Take the next call, not yet answered."""

    @abstractmethod
    def answered(self, call: Call) -> Finding | None:
        """Take the answer of a call that was taken before."""

    @abstractmethod
    def reset(self, offset: int) -> Finding | None:
        """Start anew at `offset`: what came before explains nothing any more."""

    def _raise(
        self, level: Level, first: Call, repeats: int, reason: str, *, preview: bool
    ) -> Finding | None:
        """Open or escalate the episode; None where its level stays."""
        if preview:
            # A cut preview says that two calls look alike, not that they are equal.
            level = min(level, Level.WARNING)
        episode = self._episode
        if episode is None:
            episode = self._episode = _Episode(level, first, repeats, reason)
            return self._finding("open", episode)
        episode.repeats = max(episode.repeats, repeats)
        if level <= episode.level:
            return None
        episode.level, episode.reason = level, reason
        return self._finding("escalated", episode)

    def _resolve(self) -> Finding | None:
        """Close the episode, if there is one."""
        episode, self._episode = self._episode, None
        return self._finding("resolved", episode) if episode else None

    def _finding(self, state: str, episode: _Episode) -> Finding:
        return Finding(
            type(self),
            state,
            episode.level,
            episode.first,
            episode.repeats,
            episode.reason,
        )


class AnswerRun:
    """
    How many calls in a row had the same answer, from `first` on.

    Made with the first call of a pattern, which may have been answered already.
    """

    __slots__ = ("answer", "first", "has_varied", "length")

    def __init__(self, first: Call) -> None:
        self.answer: Answer = None
        self.length = 0
        self.first = first
        self.has_varied = False
        if first.is_answered:
            self.add(first)

    def add(self, call: Call) -> None:
        """
        Take the next answer.

        A call that did not run has the answer of the one before (docs/loops.md). An
        answer that is not known is equal to none.
        """
        answer = call.answer
        if self.length and answer and "not run" in (answer, self.answer):
            self.length += 1
            if self.answer == "not run":
                self.answer = answer
        elif answer and answer == self.answer:
            self.length += 1
        else:
            self.has_varied |= bool(self.length and answer)
            self.answer = answer
            self.first = call
            self.length = 1 if answer else 0

    @property
    def in_words(self) -> str:
        """The answer, as the end of a sentence."""
        if self.answer == "failed":
            return "and failed each time"
        if self.answer == "not run":
            return "and was blocked each time"
        return "and the same answer"


def named(call: Call) -> str:
    """The tool of a call, for humans: names come from agents and are hostile text."""
    name = call.row.tool_name or "a tool without a name"
    shown = "".join(char for char in name[:1000] if char.isprintable())
    if len(shown) > _MAX_NAME_CHARS:
        shown = shown[: _MAX_NAME_CHARS - 1] + "…"
    return f"`{shown}`"
