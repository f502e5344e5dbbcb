"""The active blocks of all sessions, as one reading of the verdicts topic has them."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetwake.schemas.records import Block

__all__ = ["BlockTable", "Blocks", "ends_after", "now_us"]

Blocks: TypeAlias = "Mapping[str, Block] | None"
"""By scope, the block that lasts longest. None: the newest verdict is not readable."""

_MAX_REASON_CHARS: Final = 1_000
_SWEEP_S: Final = 10.0


class BlockTable:
    """
    Written by one thread, read by all: each change is one operation on a dict.

    Bounded: beyond `max_blocks` the sessions that were blocked first are forgotten,
    and counted in `evicted`.
    """

    def __init__(self, max_blocks: int = 100_000) -> None:
        self._sessions: dict[str, Blocks] = {}
        self._max_blocks = max_blocks
        self._size = 0
        self._swept_at = time.monotonic()
        self.get = self._sessions.get
        self.evicted = 0

    def __len__(self) -> int:
        """Return the number of sessions that are not free to go on."""
        return len(self._sessions)

    def __contains__(self, session_id: str) -> bool:
        """Tell whether there is anything about a session."""
        return session_id in self._sessions

    def put(self, session_id: str, blocks: Sequence[Block] | None) -> None:
        """Replace all that is known of a session: what its newest verdict says."""
        self._size -= self._weight(session_id)
        if blocks is None:
            self._sessions[session_id] = None
        elif lasting := _by_scope(blocks):
            self._sessions[session_id] = lasting
        else:
            self._sessions.pop(session_id, None)
        self._size += self._weight(session_id)
        while self._size > self._max_blocks:
            oldest = next(iter(self._sessions))
            self._size -= self._weight(oldest)
            del self._sessions[oldest]
            self.evicted += 1

    def sweep(self) -> None:
        """Forget, now and then, the sessions whose blocks have all ended."""
        if time.monotonic() - self._swept_at < _SWEEP_S:
            return
        self._swept_at = time.monotonic()
        now = now_us()
        for session_id, blocks in tuple(self._sessions.items()):
            if blocks and not any(ends_after(one, now) for one in blocks.values()):
                self._size -= self._weight(session_id)
                del self._sessions[session_id]

    def _weight(self, session_id: str) -> int:
        blocks = self._sessions.get(session_id, ())
        return 1 if blocks is None else len(blocks)


def ends_after(block: Block, now: int) -> bool:
    """Tell whether a block is active at `now`, UTC microseconds."""
    return block.until is None or now < block.until


def now_us() -> int:
    """Return the local clock's time in UTC microseconds."""
    return time.time_ns() // 1000


def _by_scope(blocks: Sequence[Block]) -> dict[str, Block]:
    lasting: dict[str, Block] = {}
    for block in blocks:
        other = lasting.get(block.scope)
        if other is None or _end(other) < _end(block):
            lasting[block.scope] = replace(
                block, reason=block.reason[:_MAX_REASON_CHARS]
            )
    return lasting


def _end(block: Block) -> float:
    return math.inf if block.until is None else block.until
