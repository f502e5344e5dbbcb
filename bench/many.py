"""
Events by the million: each body is encoded once, and later only patched.

What tells events apart is written anew into every copy of a body, in its place: id,
times, sequence, session, call. So they come and go as those of `bench.events` do, for
1 us each instead of 30.
"""

from __future__ import annotations

import time
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import numpy as np

from bench.events import events
from bench.patches import digits, varint
from fleetwake.consumers.runtime.service import Records
from fleetwake.schemas.codec import SHA256_HEADER, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.patches import Bytes, Longs
    from fleetwake.schemas.event import AuditEvent

__all__ = ["EVENTS_PER_S", "batches"]

EVENTS_PER_S: Final = 3_000
"""Of event time, so that windows come and go as in a fleet at work."""

_BODIES: Final = 30_000
_STEP: Final = 3
"""Events that tell of one call, see `bench.events`."""

_OF_A_GENERATION: Final = 100_000
"""After so many events all sessions are new."""

_ID: Final = b"00000000-0000-4000-8000-000000000000"
_OCCURRED: Final = 1_700_000_000_000_001
_RECORDED: Final = 1_700_000_000_000_002
_SEQUENCE: Final = 2**21
"""The first: those of 100 million events take as many bytes."""

_HEX: Final = np.frombuffer(b"0123456789abcdef", np.uint8)
_DIGITS: Final = np.array([at for at, one in enumerate(_ID) if one != ord("-")])


def batches(
    total: int, size: int, sessions: int = 0, tools: int = 0, *, digests: bool = False
) -> Iterator[Records]:
    """
    Yield records of one partition.

    `sessions` and `tools`: each event is of one of so many; 0: as in `bench.events`.
    """
    bodies = _Bodies(sessions, tools)
    started_us = time.time_ns() // 1000
    for first in range(0, total, size):
        n = np.arange(first, min(first + size, total))
        at_us = started_us + n * 1_000_000 // EVENTS_PER_S
        values = bodies.values(n, at_us)
        yield Records(
            n.tolist(),
            (at_us // 1000).tolist(),
            [b""] * len(n),
            values,
            [
                ((SHA256_HEADER, sha256(value).digest()),) if digests else ()
                for value in values
            ],
        )


class _Bodies:
    """Encoded events, one after the other, and where in them what is to be patched."""

    def __init__(self, sessions: int, tools: int) -> None:
        self._rng = np.random.default_rng(5)
        self._sessions, self._tools = sessions, tools
        named = {"tool_name": "tool-00000"} if tools else {}
        made = [
            _marked(one._replace(**named) if one.tool_name else one)
            for one in events(_BODIES)
        ]
        self._bodies = np.array([np.frombuffer(body, np.uint8) for body in made], "O")
        self._at = {
            name: np.array([body.find(mark) for body in made])
            for name, mark in {
                "id": _ID,
                "occurred": bytes(varint(np.array([_OCCURRED]), 8)[0]),
                "recorded": bytes(varint(np.array([_RECORDED]), 8)[0]),
                "sequence": b"\x0abench",
                "session": b"session-",
                "call": b"call-",
                "tool": b"tool-0",
            }.items()
        }

    def values(self, n: Longs, at_us: Longs) -> list[bytes]:
        """Return the bodies of events by their numbers and times."""
        of = n % _BODIES
        some = self._bodies[of].tolist()
        ends = np.cumsum([len(one) for one in some])
        starts = np.append(0, ends[:-1])
        text = np.concatenate(some)

        def patch(name: str, skip: int, found: Bytes) -> None:
            at = self._at[name][of]
            rows = np.flatnonzero(at >= 0)
            places = (starts + at + skip)[rows, None] + np.arange(found.shape[1])
            text[places] = found[rows]

        count, step = len(n), n // _STEP * _STEP
        patch("id", 0, self._ids(count))
        patch("occurred", 0, varint(at_us, 8))
        patch("recorded", 0, varint(at_us, 8))
        patch("sequence", 6, varint(_SEQUENCE + n, 4))
        if self._sessions:
            patch("session", 8, digits(self._any(self._sessions, count), 11))
        else:
            patch("session", 8, digits(step // _OF_A_GENERATION, 5))
        patch("call", 5, digits(step, 8))
        if self._tools:
            patch("tool", 5, digits(self._any(self._tools, count), 5))
        whole = text.tobytes()
        return [whole[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]

    def _any(self, below: int, count: int) -> Longs:
        return self._rng.integers(below, size=count)

    def _ids(self, count: int) -> Bytes:
        """Return UUIDs of version 4 as text."""
        ids = np.tile(np.frombuffer(_ID, np.uint8), (count, 1))
        ids[:, _DIGITS] = _HEX[self._rng.integers(16, size=(count, len(_DIGITS)))]
        ids[:, 14] = ord("4")
        ids[:, 19] = _HEX[self._rng.integers(8, 12, size=count)]
        return ids


def _marked(event: AuditEvent) -> bytes:
    return encode(
        event._replace(
            event_id=_ID.decode(),
            occurred_at=_OCCURRED,
            recorded_at=_RECORDED,
            producer_id="bench",
            sequence=_SEQUENCE,
        )
    )
