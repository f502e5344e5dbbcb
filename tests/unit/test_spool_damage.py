"""
What a damaged spool gives up, and that it works on.

The list is that of Vector's `known_errors` tests, in terms of SQLite's pages.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest
from tests.spooling import (
    adopted,
    filled,
    new_spool,
    read_all,
    records,
    recovered,
    sequences,
)

from fleetwake.producer.spool import Spool, SpoolError, Unreadable, adopt, spools

if TYPE_CHECKING:
    from pathlib import Path

PAGE = 4096

# Batches of 20 records that take two pages and a cell in a leaf, which six share.
BATCHES, COUNT, SIZE = 40, 20, 400
ALL = list(range(1, BATCHES * COUNT + 1))
PER_PAGE = 11
"""The most records that touch a page of their own."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return filled(tmp_path / "spool", BATCHES, count=COUNT, size=SIZE)


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def page_types(path: Path) -> list[int]:
    return list(path.read_bytes()[::PAGE])


def wal(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def damaged(path: Path) -> Path:
    return path.with_name(f"{path.name}.damaged")


def killed(spool: Spool, folder: Path) -> Path:
    """Return the files as they would be after kill -9 now."""
    folder.mkdir()
    for one in (spool.path, wal(spool.path)):
        shutil.copy(one, folder / one.name)
    return folder / spool.path.name


def assert_works_on(path: Path) -> None:
    """Settle what is left, write, read, and leave nothing."""
    spool = adopted(path)
    spool.settle(range(1, 10_000))
    number = spool.append(records(5000, 3))
    (batch,) = spool.read(0, max_bytes=1 << 20)

    assert (number, records(5000, 3)) == (batch.number, batch.records)
    spool.settle([number])
    spool.close()
    assert not path.exists()


@pytest.mark.parametrize("fill", ["zeros", "scrambled"])
@pytest.mark.parametrize("page", [1, 2])
def test_the_first_page_or_the_root_costs_nothing(
    path: Path, page: int, fill: str
) -> None:
    """Header, schema and root hold no record, so none is lost with them."""
    data = bytes(PAGE) if fill == "zeros" else random.Random(1).randbytes(PAGE)
    overwrite(path, (page - 1) * PAGE, data)

    assert ALL == recovered(path)
    assert damaged(path).exists()
    assert_works_on(path)


@pytest.mark.parametrize("fill", ["zeros", "scrambled"])
def test_a_page_in_the_middle_costs_the_records_on_it(path: Path, fill: str) -> None:
    """Any one page of records costs these, counted, and the others stay in order."""
    original = path.read_bytes()
    types = page_types(path)
    for page in (index for index in range(2, 30) if types[index] == 0):
        path.write_bytes(original)
        data = bytes(PAGE) if fill == "zeros" else random.Random(page).randbytes(PAGE)
        overwrite(path, page * PAGE, data)
        spool = adopted(path)
        found = sequences(read_all(spool))

        assert sorted(set(found)) == found
        assert len(ALL) - PER_PAGE <= len(found) < len(ALL)
        assert Unreadable(len(ALL) - len(found), 1) == spool.unreadable
        spool.close()


def test_a_lost_leaf_costs_the_records_that_begin_in_it(path: Path) -> None:
    """Each batch of the leaf loses what it had there; the rest comes at the end."""
    leaf = page_types(path).index(0x0D, 3)
    overwrite(path, leaf * PAGE, bytes(PAGE))
    found = recovered(path)

    assert len(ALL) - 6 * COUNT // 2 <= len(found) < len(ALL)
    assert set(found) < set(ALL)
    assert_works_on(path)


def test_a_flipped_bit_costs_one_record(path: Path) -> None:
    """Each record has a checksum of its own."""
    value = (77).to_bytes(8) * 5
    at = path.read_bytes().index(value)
    overwrite(path, at, b"\xff")
    spool = adopted(path)
    found = sequences(read_all(spool))

    assert [one for one in ALL if one != 77] == found
    assert found == sequences(read_all(spool))
    assert Unreadable(1, 1) == spool.unreadable
    spool.close()
    assert not damaged(path).exists()


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 0x7FFFFFFF, 5])
def test_an_absurd_length_costs_one_record(path: Path, length: int) -> None:
    """The next frame is found by its magic."""
    data = path.read_bytes()
    at = data.rindex(b"\xf1WK1", 0, data.index((77).to_bytes(8) * 5))
    overwrite(path, at + 4, length.to_bytes(4))

    assert [one for one in ALL if one != 77] == recovered(path)


def test_a_truncated_file_keeps_what_its_prefix_holds(path: Path) -> None:
    """Cut anywhere: what is found is a part of the whole, and grows with the file."""
    whole = path.read_bytes()
    before = 0
    for size in [*range(0, 3 * PAGE, 777), *range(3 * PAGE, len(whole), 31_013)]:
        path.write_bytes(whole[:size])
        found = recovered(path) if path.exists() else []

        assert sorted(set(found)) == found
        assert set(found) <= set(ALL)
        assert len(found) >= before
        assert len(found) >= size // 600 - 3 * COUNT
        before = len(found)


def test_a_batch_of_which_nothing_is_left_is_settled(tmp_path: Path) -> None:
    """It would never be acknowledged."""
    path = filled(tmp_path, 3, count=1)
    at = path.read_bytes().index((2).to_bytes(8) * 20)
    overwrite(path, at, b"\xff")
    spool = adopted(path)

    assert [1, 3] == sequences(read_all(spool))
    assert (2, Unreadable(1, 1)) == (spool.events, spool.unreadable)
    spool.close()


def test_a_drop_goes_on_behind_batches_of_which_nothing_is_left(
    tmp_path: Path,
) -> None:
    """Whoever needs room is not told that there is none."""
    path = filled(tmp_path, 3, count=1)
    at = path.read_bytes().index((1).to_bytes(8) * 20)
    overwrite(path, at, b"\xff")
    spool = adopted(path)

    assert [2] == sequences(spool.drop_oldest(1))
    assert (1, Unreadable(1, 1)) == (spool.events, spool.unreadable)
    spool.close()


def test_a_lost_log_costs_what_was_not_in_the_file_yet(tmp_path: Path) -> None:
    """The file alone is an older state of the spool, and a sound one."""
    spool = new_spool(tmp_path / "own")
    for index in range(1, 4001):
        spool.append(records(index * 10 - 9, 10, size=300))
    path = killed(spool, tmp_path / "killed")
    spool.close()
    wal(path).unlink()
    found = recovered(path)

    assert 10_000 < len(found) < 40_000
    assert list(range(1, len(found) + 1)) == found
    assert not damaged(path).exists()


def test_a_torn_log_costs_the_transactions_at_its_end(tmp_path: Path) -> None:
    """Cut anywhere, or with scrambled bytes anywhere: a prefix of the appends."""
    spool = new_spool(tmp_path / "own")
    for index in range(1, 41):
        spool.append(records(index * 10 - 9, 10, size=300))
    path = killed(spool, tmp_path / "killed")
    spool.close()
    file, log = path.read_bytes(), wal(path).read_bytes()
    for at in range(0, len(log), 15_013):
        for torn in (log[:at], log[:at] + b"\xff\xfe\xfd" + log[at + 3 :]):
            path.write_bytes(file)
            wal(path).write_bytes(torn)
            found = recovered(path) if path.exists() else []

            assert list(range(1, len(found) + 1)) == found


def test_a_log_outlives_its_file(tmp_path: Path) -> None:
    """A file that was emptied, with all in its log: SQLite would delete both."""
    spool = new_spool(tmp_path / "own")
    for index in range(1, 41):
        spool.append(records(index * 10 - 9, 10, size=300))
    path = killed(spool, tmp_path / "killed")
    spool.close()
    os.truncate(path, 0)

    assert list(range(1, 401)) == recovered(path)


def test_the_log_of_another_spool_is_not_believed(path: Path, tmp_path: Path) -> None:
    """SQLite would write its pages over ours."""
    other = new_spool(tmp_path / "other")
    for index in range(20):
        other.append(records(10_000 + index * 10, 10))
    shutil.copy(wal(other.path), wal(path))
    other.close()

    assert ALL == recovered(path)
    assert wal(damaged(path)).exists()


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", bytes(100_000), b"\xf1WK1" * 9000]
)
def test_what_is_no_spool_holds_nothing(tmp_path: Path, content: bytes) -> None:
    """An empty or foreign file is moved away, once."""
    path = tmp_path / "1-00000000.spool"
    path.write_bytes(content)

    assert list(adopt(tmp_path)) == []
    assert not path.exists()
    assert content == damaged(path).read_bytes()


def test_a_database_of_somebody_else_holds_nothing(tmp_path: Path) -> None:
    """It is sound, and it is not ours."""
    path = tmp_path / "1-00000000.spool"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE batch (number INTEGER PRIMARY KEY, frames)")
        other.execute("INSERT INTO batch VALUES (1, 'x')")
    other.close()

    assert list(adopt(tmp_path)) == []
    assert damaged(path).exists()


def test_a_directory_in_its_place_is_told(tmp_path: Path) -> None:
    """It is left alone, and does not hide the other spools."""
    (tmp_path / "0-00000000.spool").mkdir()
    path = filled(tmp_path, 1)
    errors: list[SpoolError] = []
    found = list(adopt(tmp_path, on_error=errors.append))
    found[0].close()

    assert [path] == [spool.path for spool in found]
    assert ["not a file"] == [str(error).split(": ")[-1] for error in errors]
    assert [0, 10] == sorted(summary.events for summary in spools(tmp_path))


def test_the_file_of_a_newer_version_is_left_as_it_is(path: Path) -> None:
    """Whoever wrote it will read it."""
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 2")
    newer.close()
    before = path.read_bytes()

    with pytest.raises(SpoolError, match="format 2; this fleetwake reads up to 1"):
        Spool.adopt(path)
    assert before == path.read_bytes()


def test_damage_under_a_living_spool_is_repaired_in_passing(tmp_path: Path) -> None:
    """The reader goes on with the same numbers, the writer with new ones."""
    spool = new_spool(tmp_path)
    for index in range(1, 501):
        spool.append(records(index * 20 - 19, 20, size=SIZE))
    spool.settle(range(1, 101))
    # More than SQLite's cache, so that it looks at the file again.
    leaf = page_types(spool.path).index(0x0D, 500)
    overwrite(spool.path, leaf * PAGE, random.Random(1).randbytes(PAGE))
    found = read_all(spool)
    number = spool.append(records(20_000, 2))

    assert set(sequences(found)) <= set(range(2001, 10_001))
    assert 8000 - 6 * COUNT <= len(found) < 8000
    assert spool.unreadable.records == 8000 - len(found)
    assert number > 500
    (batch,) = spool.read(number - 1, max_bytes=1 << 20)
    assert (number, records(20_000, 2)) == (batch.number, batch.records)
    assert damaged(spool.path).exists()
    spool.close()


def test_a_repair_that_was_killed_is_finished_or_begun_again(path: Path) -> None:
    """Between any two of its steps, nothing is lost."""
    new = path.with_name(f"{path.name}.new")
    shutil.copy(path, new)
    path.replace(damaged(path))
    wal(path).write_bytes(b"of the damaged one")

    assert ALL == recovered(path)
    assert not new.exists()


def test_damaged_files_do_not_pile_up(tmp_path: Path) -> None:
    """A folder keeps the last three."""
    for _ in range(5):
        path = filled(tmp_path, 1)
        overwrite(path, 0, bytes(PAGE))
        spool = adopted(path)
        spool.settle([1])
        spool.close()

    assert len(list(tmp_path.glob("*.damaged"))) == 3


def test_random_damage_never_raises_and_never_invents(path: Path) -> None:
    """Fifty files with scattered bytes and pages: most of the whole, no other."""
    whole = path.read_bytes()
    rng = random.Random(7)
    for _ in range(50):
        path.write_bytes(whole)
        for _ in range(rng.randrange(1, 12)):
            size = rng.choice([1, 8, 100, PAGE])
            overwrite(path, rng.randrange(len(whole) - size), rng.randbytes(size))
        found = recovered(path) if path.exists() else []

        assert set(found) <= set(ALL)
        assert len(set(found)) > len(ALL) // 2
