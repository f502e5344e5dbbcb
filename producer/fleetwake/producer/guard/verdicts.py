"""The verdicts as a process knows them: its answers, and what these are worth."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleetwake.producer.guard.decision import Decision
from fleetwake.producer.guard.table import BlockTable, ends_after, now_us
from fleetwake.schemas.records import WARN
from fleetwake.schemas.text import well_formed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetwake.producer.guard.decision import Action
    from fleetwake.schemas.records import Block

__all__ = ["GuardStatistics", "Verdicts"]

logger = logging.getLogger("fleetwake.producer")
logger.addHandler(logging.NullHandler())

_SESSION: Final = "session"
_TOOL: Final = "tool:"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardStatistics:
    """What became of the calls of this process, and how well its verdicts are known."""

    known: bool
    age_s: float | None
    """Since the verdicts were confirmed last; None: not yet."""
    sessions: int
    """Those with an active block or warning, in the whole fleet."""
    stopped: int
    """Calls that were not made."""
    warned: int
    failed_open: int
    """Answers that let a call pass because the verdicts were not known."""
    unreadable: int
    """Verdicts that could not be decoded; their sessions may go on."""
    evicted: int
    """Sessions that were forgotten because too many are blocked; these may go on."""
    last_error: str | None


class Verdicts:
    """
    Answers for any session from memory. Thread-safe; never raises, never waits.

    Not known until `confirm`, and when that is longer ago than `stale_after_s`: then
    the last blocks that were known still hold, and all else fails open.
    """

    def __init__(self, *, stale_after_s: float = 10.0) -> None:
        self._stale_after_s = stale_after_s
        self._table = BlockTable()
        self._confirmed_at = -math.inf
        self._counts: Counter[str] = Counter()
        self._is_open = False
        self._known = threading.Event()
        self._lock = threading.RLock()
        self.last_error: str | None = None

    def check(self, session_id: str, tool_name: str | None = None) -> Decision:
        """Answer for a tool, or for the session as a whole. About 1 us."""
        age_s = time.monotonic() - self._confirmed_at
        table = self._table
        blocks = table.get(session_id)
        is_known = age_s <= self._stale_after_s and not (
            blocks is None and (table.evicted or session_id in table)
        )
        action, block = _strongest(blocks, tool_name) if blocks else ("allow", None)
        if not is_known and action != "block":
            self._fail_open()
        age = None if age_s == math.inf else age_s
        if block is None:
            return Decision(action, known=is_known, age_s=age)
        scope = block.scope.removeprefix(WARN)
        return Decision(
            action, block.reason, block.until, block.alert_id, scope, is_known, age
        )

    def confirm(self, table: BlockTable, at: float) -> None:
        """Answer from `table`, which was complete at the monotonic time `at`."""
        self._table = table
        self._confirmed_at = at
        if time.monotonic() - at > self._stale_after_s:
            return
        self._known.set()
        with self._lock:
            was_open, self._is_open = self._is_open, False
        if was_open:
            logger.info("Verdicts are known again.")

    def count(self, what: str) -> None:
        """Count for `statistics`: stopped, warned, failed_open or unreadable."""
        with self._lock:
            self._counts[what] += 1

    def wait(self, timeout_s: float) -> bool:
        """Wait until the verdicts are known for the first time; False: they are not."""
        return self._known.wait(timeout_s)

    def statistics(self) -> GuardStatistics:
        """Return the counts of now."""
        age_s = time.monotonic() - self._confirmed_at
        with self._lock:
            counts = Counter(self._counts)
        return GuardStatistics(
            known=age_s <= self._stale_after_s,
            age_s=None if age_s == math.inf else age_s,
            sessions=len(self._table),
            stopped=counts["stopped"],
            warned=counts["warned"],
            failed_open=counts["failed_open"],
            unreadable=counts["unreadable"],
            evicted=self._table.evicted,
            last_error=self.last_error,
        )

    def renew(self) -> None:
        """Be usable in a forked child: another thread may have held the lock."""
        self._lock = threading.RLock()
        self._known = threading.Event()

    def _fail_open(self) -> None:
        self.count("failed_open")
        if self._is_open:
            return
        with self._lock:
            was_open, self._is_open = self._is_open, True
        if not was_open:
            problem = self.last_error or "they are still being read"
            logger.warning("Calls go on without a verdict: %s.", problem)


def _strongest(
    blocks: Mapping[str, Block], tool_name: str | None
) -> tuple[Action, Block | None]:
    now = now_us()
    scopes = [_SESSION]
    if tool_name is not None:
        scopes.append(_TOOL + well_formed(tool_name))
    for action, prefix in _ACTIONS:
        for scope in scopes:
            block = blocks.get(prefix + scope)
            if block is not None and ends_after(block, now):
                return action, block
    if tool_name is None:
        for scope, block in blocks.items():
            if scope.startswith(_TOOL) and ends_after(block, now):
                return "warn", block
    return "allow", None


_ACTIONS: Final[tuple[tuple[Action, str], ...]] = (("block", ""), ("warn", WARN))
