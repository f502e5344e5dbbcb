"""The first thread of a producer: encodes what the intake holds, and has it stored."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Final

from fleetwake.producer.encoder import TooLargeError
from fleetwake.producer.intake import Entry, Flush, Letter, loss
from fleetwake.producer.spool import Spooled
from fleetwake.schemas.errors import FleetwakeError
from fleetwake.schemas.topics import DEAD_LETTERS, EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetwake.producer.encoder import Encoder
    from fleetwake.producer.framing import Framing
    from fleetwake.producer.intake import Intake
    from fleetwake.producer.outbox import Outbox
    from fleetwake.producer.statistics import ErrorLog

__all__ = ["Writer"]

# Records of one commit at most.
_COMMIT: Final = 200

# The writer looks so often for more before it waits to be woken, if that is so soon.
_LOOKS: Final = 5
_SOON_S: Final = 0.05

# Events that are encoded at a stretch while there is little to do.
_SLICE: Final = 4


class _Load:
    """Records for one commit, and the bytes that they took in the intake."""

    __slots__ = ("held", "records")

    def __init__(self) -> None:
        self.records: list[Spooled] = []
        self.held = 0

    def add(self, record: Spooled, held: int) -> None:
        """Take one more."""
        self.records.append(record)
        self.held += held


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
        # Of these we hold the oldest, unless older ones are in memory further on.
        too_many = self._outbox.has_spool and self._intake.is_over()
        events, letters = _Load(), _Load()
        for number, one in enumerate(taken):
            # Lets in the agent's threads that wait for the interpreter's lock, which
            # they would get after 5 ms. Not under load: there it doubles the costs.
            if len(taken) < _COMMIT and not number % _SLICE:
                time.sleep(0)
            if isinstance(one, Entry):
                if too_many:
                    self._intake.drop([loss(one)], one.size, "queue_full")
                elif (record := self._encode(one)) is not None:
                    events.add(record, one.size)
            elif isinstance(one, Letter):
                if (record := self._encode_letter(one)) is not None:
                    letters.add(record, one.size)
            else:
                self._put(events, letters)
                self._outbox.mark(one)
        self._put(events, letters)

    def _put(self, *loads: _Load) -> None:
        # Letters by themselves: a missing topic must not hold up events in the spool.
        for load in loads:
            if load.records:
                self._outbox.put(load.records, load.held)
                load.records, load.held = [], 0

    def _encode_letter(self, one: Letter) -> Spooled | None:
        try:
            record = self._encoder.dead_letter(one.letter)
        except BaseException as error:  # noqa: BLE001  # any value may be in it
            self._errors.note("not_encodable", type(error).__name__)
            self._intake.drop([None], one.size, "not_encodable")
        else:
            return Spooled(DEAD_LETTERS.name, *record[:3], one.recorded_at, "", "", 0)
        return None

    def _encode(self, entry: Entry) -> Spooled | None:
        try:
            key, value, headers = self._encoder(entry)
        except TooLargeError as error:
            self._errors.note("too_large", error)
            self._intake.drop([loss(entry)], entry.size, "too_large")
        except BaseException as error:  # noqa: BLE001  # a redactor may raise any
            # Not its text, if we do not know who wrote it: it may hold content.
            known = isinstance(error, FleetwakeError)
            self._errors.note("not_encodable", error if known else type(error).__name__)
            self._intake.drop([loss(entry)], entry.size, "not_encodable")
        else:
            return Spooled(
                EVENTS.name,
                key,
                value,
                headers,
                entry.recorded_at,
                key.decode(),
                entry.producer_id,
                entry.sequence,
            )
        return None
