"""The spool against a list: whatever happens, it holds what the list holds."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from tests.spooling import adopted, new_spool, records

from fleetwake.producer.spool import Spool, Spooled, SpoolError, SpoolFullError
from fleetwake.producer.spool.records import decode, encode

MAX_BYTES = 400_000


class SpoolMachine(RuleBasedStateMachine):
    """Model: the batches that were appended and neither settled nor dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(tempfile.mkdtemp(prefix="spool-"))
        self._deaths = 0
        self._sequence = 1
        self._model: dict[int, list[Spooled]] = {}
        self._spool: Spool | None = None

    @initialize(durable=st.booleans())
    def begin(self, *, durable: bool) -> None:
        self._spool = new_spool(
            self._folder / "0", max_bytes=MAX_BYTES, durable=durable
        )

    @property
    def spool(self) -> Spool:
        assert self._spool is not None
        return self._spool

    def teardown(self) -> None:
        if self._spool is not None:
            self._spool.close()
        shutil.rmtree(self._folder)

    @rule(count=st.integers(1, 30), size=st.sampled_from([0, 40, 700, 5000]))
    def append(self, count: int, size: int) -> None:
        given = records(self._sequence, count, size=size)
        self._sequence += count
        before = self.spool.bytes
        try:
            number = self.spool.append(given)
        except SpoolFullError:
            assert before + len(encode(given)) > MAX_BYTES // 2
        else:
            assert number > max(self._model, default=0)
            self._model[number] = given

    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        numbers = data.draw(st.sets(st.sampled_from([*self._model, 1, 10**6])))
        self.spool.settle(numbers)
        for number in numbers:
            self._model.pop(number, None)

    @rule(needed=st.integers(1, 100_000), data=st.data())
    def drop(self, needed: int, data: st.DataObject) -> None:
        spare = data.draw(st.sets(st.sampled_from([*self._model, 1])))
        dropped = self.spool.drop_oldest(needed, spare=spare)
        expected: list[Spooled] = []
        freed = 0
        for number in [one for one in self._model if one not in spare]:
            if freed >= needed:
                break
            expected += self._model[number]
            freed += len(encode(self._model.pop(number)))

        assert expected == dropped

    @rule(back=st.integers(0, 100))
    def drop_old(self, back: int) -> None:
        limit = records(self._sequence, 1)[0].recorded_at - back
        dropped = self.spool.drop_before(limit)
        old = [
            number
            for number, given in self._model.items()
            if given[0].recorded_at < limit
        ]

        assert [one for number in old for one in self._model.pop(number)] == dropped

    @rule(count=st.integers(1, 30))
    def append_to_a_full_disk(self, count: int) -> None:
        def refuse(*_: object) -> None:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

        with mock.patch("fleetwake.producer.spool.table.insert", refuse):
            try:
                self.spool.append(records(self._sequence, count))
            except SpoolError:
                pass
            else:
                raise AssertionError

    @rule()
    def end_and_be_adopted(self) -> None:
        path = self.spool.path
        self.spool.close()
        if self._model:
            self._adopt(path)
        else:
            assert not path.exists()
            self._spool = new_spool(self._folder / "0", max_bytes=MAX_BYTES)

    @rule()
    def be_killed_and_adopted(self) -> None:
        self._deaths += 1
        folder = self._folder / str(self._deaths)
        folder.mkdir()
        path = self.spool.path
        for one in (path, path.with_name(f"{path.name}-wal")):
            if one.exists():
                shutil.copy(one, folder / one.name)
        self.spool.close()
        self._adopt(folder / path.name)

    def _adopt(self, path: Path) -> None:
        self._spool = adopted(path)
        self._spool._max_bytes = MAX_BYTES

    @precondition(lambda self: self._spool is not None)
    @rule(max_bytes=st.sampled_from([1, 3000, 10**6]), data=st.data())
    def read_from_somewhere(self, max_bytes: int, data: st.DataObject) -> None:
        after = data.draw(st.sampled_from([0, *self._model]))
        behind = [(n, given) for n, given in self._model.items() if n > after]
        batches = self.spool.read(after, max_bytes=max_bytes)

        assert behind[: len(batches)] == [(one.number, one.records) for one in batches]
        assert bool(behind) == bool(batches)
        assert sum(one.size for one in batches[1:]) <= max_bytes

    @invariant()
    def it_holds_what_the_list_holds(self) -> None:
        if self._spool is None:
            return
        found = self._spool.read(0, max_bytes=10**9)

        assert list(self._model.items()) == [(one.number, one.records) for one in found]
        assert sum(map(len, self._model.values())) == self._spool.events
        assert sum(one.size for one in found) == self._spool.bytes
        assert (found[0].recorded_at if found else None) == (
            self._spool.oldest_recorded_at
        )
        assert self._spool.unreadable == (0, 0)
        assert self._spool.path.stat().st_size <= MAX_BYTES


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


def test_frames_are_found_between_any_bytes() -> None:
    """A frame is whole or it is not: nothing around it matters."""
    from hypothesis import given

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(st.binary(max_size=40), min_size=4, max_size=4),
        st.text(max_size=10),
        st.binary(max_size=300),
    )
    def check(noise: list[bytes], session_id: str, value: bytes) -> None:
        given_records = [
            one._replace(session_id=session_id, value=value) for one in records(1, 3)
        ]
        frames = [encode([one]) for one in given_records]
        mixed = b"".join(
            before + frame for before, frame in zip(noise, [*frames, b""], strict=True)
        )

        assert given_records == decode(mixed)

    check()


def test_any_flipped_byte_costs_one_record_at_most() -> None:
    """A record that decodes is the one that was given."""
    given_records = records(1, 3, size=30)
    frames = encode(given_records)
    for at in range(len(frames)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(frames)
            damaged[at] ^= flip
            found = decode(bytes(damaged))

            assert len(found) == 2
            assert all(one in given_records for one in found)
