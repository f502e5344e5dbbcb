"""The first thread of a producer: encodes what the intake holds, and has it stored."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Final

from fleetwake.producer.encoder import TooLargeError
from fleetwake.producer.entry import Entry, Flush, Letter, loss
from fleetwake.producer.parcel import Parcel
from fleetwake.schemas.errors import FleetwakeError
from fleetwake.schemas.topics import DEAD_LETTERS, EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetwake.producer.encoder import Encoder
    from fleetwake.producer.framing import Framing
    from fleetwake.producer.intake import Intake
    from fleetwake.producer.outbox import Outbox
    from fleetwake.producer.statistics import ErrorLog
    from fleetwake.producer.transport import OutgoingRecord

__all__ = ["Writer"]

# Records of one commit at most.
_COMMIT: Final = 200

# The writer looks so often for more before it waits to be woken, if that is so soon.
_LOOKS: Final = 5
_SOON_S: Final = 0.05

# Events that are encoded at a stretch while there is little to do.
_SLICE: Final = 4


class Writer:
    """
    Encodes and stores until it is stopped.

    It looks every `commit_s` while events come, so that one commit serves many.
    Under load the commits follow each other, `_COMMIT` records each.
    """

    def __init__(
        self,
        intake: Intake,
        encoder: Encoder,
        framing: Framing,
        outbox: Outbox,
        *,
        commit_s: float,
        errors: ErrorLog,
        tend: Callable[[], bool],
        tend_every_s: float | None,
        deliver: Callable[[], None],
    ) -> None:
        self._intake = intake
        self._encoder = encoder
        self._framing = framing
        self._outbox = outbox
        self._commit_s = commit_s
        self._errors = errors
        self._tend = tend
        self._tend_every_s = tend_every_s
        self._deliver = deliver
        self._stop_at = math.inf
        # Looks in succession that found nothing.
        self._quiet = _LOOKS

    def run(self) -> None:
        """Work until `stop`. The body of a thread."""
        self._framing.choose(self._intake)
        while (left_s := self._stop_at - time.monotonic()) > 0:
            taken = self._intake.take(_COMMIT)
            try:
                self._store(taken)
                if self._tend() or taken:
                    self._deliver()
            except Exception as error:  # noqa: BLE001  # the next ones may fare better
                name = type(error).__name__
                self._errors.note("worker", name, level=logging.CRITICAL)
            self._quiet = 0 if taken else self._quiet + 1
            if not taken:
                self._pause(left_s)

    def _pause(self, left_s: float) -> None:
        """
        Let events come together; after a while without any, sleep until one comes.

        A thread that is woken by `emit` competes for the interpreter's lock with the
        agent, just while that is busy: so in a stretch of work it wakes by itself.
        """
        if self._quiet <= _LOOKS and self._commit_s <= _SOON_S:
            self._intake.wait(min(left_s, self._commit_s))
        elif self._intake.rest():
            rung = self._intake.wait(self._patience_s(left_s))
            if rung and not self._intake.closed:
                time.sleep(self._commit_s)

    def stop(self, *, after_s: float = 0.0) -> None:
        """End by then. From any thread."""
        self._stop_at = min(self._stop_at, time.monotonic() + after_s)
        self._outbox.stop(after_s=after_s)
        self._intake.ring()

    def finish(self) -> None:
        """Store what is left, where that outlives the process. After `run`."""
        self._outbox.stop()
        while self._outbox.has_spool and (taken := self._intake.take(_COMMIT)):
            self._store(taken)

    def _patience_s(self, left_s: float) -> float | None:
        if self._tend_every_s is not None:
            return min(left_s, self._tend_every_s)
        return None if left_s == math.inf else left_s

    def _store(self, taken: Sequence[Entry | Letter | Flush]) -> None:
        # Lets in the agent's threads that wait for the interpreter's lock, which they
        # would get after 5 ms. Not under load: there it doubles the costs.
        step = _SLICE if len(taken) < _COMMIT else _COMMIT
        events: list[Entry] = []
        letters: list[Letter] = []
        for one in taken:
            if isinstance(one, Entry):
                events.append(one)
            elif isinstance(one, Letter):
                letters.append(one)
            else:
                self._put(events, letters, step)
                self._outbox.mark(one)
                events, letters = [], []
        self._put(events, letters, step)

    def _put(
        self, events: Sequence[Entry], letters: Sequence[Letter], step: int
    ) -> None:
        # Of these we hold the oldest, unless older ones are in memory further on.
        if events and self._outbox.has_spool and self._intake.is_over():
            held = sum(one.size for one in events)
            self._intake.drop([loss(one) for one in events], held, "queue_full")
        elif events:
            self._put_events(events, step)
        # Letters by themselves: a missing topic must not hold up events in the spool.
        if letters:
            self._put_letters(letters)

    def _put_events(self, events: Sequence[Entry], step: int) -> None:
        kept: list[Entry] = []
        records: list[OutgoingRecord] = []
        for begin in range(0, len(events), step):
            if step < _COMMIT:
                time.sleep(0)
            some = events[begin : begin + step]
            for one, answer in zip(some, self._encoder.batch(some), strict=True):
                if isinstance(answer, BaseException):
                    self._lose(one, answer)
                else:
                    kept.append(one)
                    records.append(answer)
        if kept:
            parcel = Parcel(
                EVENTS.name,
                records,
                [one.recorded_at for one in kept],
                [one.producer_id for one in kept],
                [one.sequence for one in kept],
            )
            self._outbox.put(parcel, sum([one.size for one in kept]))

    def _lose(self, entry: Entry, error: BaseException) -> None:
        reason = "too_large" if isinstance(error, TooLargeError) else "not_encodable"
        # Not its text, if we do not know who wrote it: it may hold content.
        known = isinstance(error, FleetwakeError)
        self._errors.note(reason, error if known else type(error).__name__)
        self._intake.drop([loss(entry)], entry.size, reason)

    def _put_letters(self, letters: Sequence[Letter]) -> None:
        kept: list[Letter] = []
        records: list[OutgoingRecord] = []
        for one in letters:
            try:
                records.append(self._encoder.dead_letter(one.letter))
            except BaseException as error:  # noqa: BLE001  # any value may be in it
                self._errors.note("not_encodable", type(error).__name__)
                self._intake.drop([None], one.size, "not_encodable")
            else:
                kept.append(one)
        if kept:
            count = len(kept)
            recorded_at = [one.recorded_at for one in kept]
            parcel = Parcel(
                DEAD_LETTERS.name, records, recorded_at, [""] * count, [0] * count
            )
            self._outbox.put(parcel, sum(one.size for one in kept))
