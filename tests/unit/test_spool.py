"""The spool of a producer: what it keeps, in which order, and how much."""

from __future__ import annotations

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.spooling import (
    adopted,
    filled,
    new_spool,
    read_all,
    record,
    records,
    recovered,
    sequences,
)

from fleetwake.producer.spool import Spool, SpoolError, SpoolFullError, adopt, spools

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = new_spool(tmp_path / "spool")
    yield spool
    spool.close()


def test_records_come_back_as_they_were_and_in_order(spool: Spool) -> None:
    """Every field survives, in the order of the appends."""
    given = [
        record(1),
        record(2, session_id="", key=b"", value=b"", headers=[]),
        record(
            3, session_id="lone \ud800 surrogate", headers=[("a", b""), ("ü", b"x")]
        ),
        record(4, topic="dead-letters", value=os.urandom(100_000))._replace(
            sequence=-1
        ),
        record(5, recorded_at=-(2**63), session_id="s" * 70_000),
    ]
    for one in given:
        spool.append([one])

    assert given == read_all(spool)


def test_one_append_is_one_batch(spool: Spool) -> None:
    """What was appended together is read and settled together."""
    numbers = [spool.append(records(1, 3)), spool.append(records(4, 2))]
    first, second = spool.read(0, max_bytes=1 << 20)

    assert [records(1, 3), records(4, 2)] == [first.records, second.records]
    assert [first.number, second.number] == numbers
    assert (5, first.size + second.size) == (spool.events, spool.bytes)
    assert first.recorded_at == spool.oldest_recorded_at == record(1).recorded_at


def test_a_read_gives_one_batch_at_least(spool: Spool) -> None:
    """A batch larger than max_bytes is no dead end."""
    first = spool.append(records(1, 10))
    second = spool.append(records(11, 10))

    assert [first] == [one.number for one in spool.read(0, max_bytes=1)]
    assert [second] == [one.number for one in spool.read(first, max_bytes=1)]
    assert spool.read(second, max_bytes=1) == []


def test_a_settled_batch_is_gone_once(spool: Spool) -> None:
    """Settling is idempotent, in any order, and takes the counters along."""
    numbers = [spool.append(records(index * 2 + 1, 2)) for index in range(3)]
    spool.settle([numbers[0], numbers[2]])
    spool.settle([numbers[0], 999])
    (left,) = spool.read(0, max_bytes=1 << 20)

    assert (numbers[1], records(3, 2)) == (left.number, left.records)
    assert (2, left.size) == (spool.events, spool.bytes)
    assert left.recorded_at == spool.oldest_recorded_at

    spool.settle([numbers[1]])

    assert (0, 0, None) == (spool.events, spool.bytes, spool.oldest_recorded_at)


def test_a_number_is_never_used_twice(spool: Spool) -> None:
    """A late acknowledgement settles nothing else."""
    numbers = []
    for index in range(5):
        number = spool.append([record(index)])
        numbers.append(number)
        spool.settle([number])

    assert numbers == sorted(set(numbers))


def test_an_empty_spool_leaves_nothing_behind(tmp_path: Path) -> None:
    """Thousands of short-lived producers do not fill a folder."""
    spool = new_spool(tmp_path)
    number = spool.append(records(1, 3))
    spool.write_statistics("{}")
    spool.settle([number])
    spool.close()
    spool.close()

    assert list(tmp_path.iterdir()) == []


def test_what_is_not_settled_is_adopted(tmp_path: Path) -> None:
    """Whoever comes next gets all of it, and may settle it."""
    path = filled(tmp_path, 3, count=2)
    (spool,) = adopt(tmp_path)

    assert (path, "producer-1", 6) == (spool.path, spool.producer_id, spool.events)
    assert [1, 2, 3, 4, 5, 6] == sequences(read_all(spool))

    spool.settle(batch.number for batch in spool.read(0, max_bytes=1 << 20))
    spool.close()

    assert list(tmp_path.iterdir()) == []


def test_counters_are_exact_after_reopening(tmp_path: Path) -> None:
    """Counters come from the file, not from what somebody remembered."""
    spool = new_spool(tmp_path)
    numbers = [spool.append(records(index * 3 + 1, 3)) for index in range(4)]
    spool.settle([numbers[0], numbers[2]])
    before = spool.events, spool.bytes, spool.oldest_recorded_at
    spool.close()
    again = adopted(spool.path)

    assert before == (again.events, again.bytes, again.oldest_recorded_at)
    again.close()


def test_the_spool_of_a_living_owner_is_left_alone(
    tmp_path: Path, spool: Spool
) -> None:
    """Two never share one, not even within a process."""
    spool.append(records(1, 1))

    assert [] == list(adopt(spool.path.parent))
    assert Spool.adopt(spool.path) is None


def test_two_producers_of_a_process_have_two_spools(tmp_path: Path) -> None:
    """The process id does not name the file alone."""
    one, two = new_spool(tmp_path), new_spool(tmp_path)
    one.append(records(1, 1))
    two.append(records(2, 1))

    assert [1] == sequences(read_all(one))
    assert [2] == sequences(read_all(two))
    one.close()
    two.close()


def test_only_one_of_many_adopters_gets_it(tmp_path: Path) -> None:
    """A race for an orphan has one winner."""
    path = filled(tmp_path, 1)
    start = threading.Barrier(8)

    def try_it() -> Spool | None:
        start.wait()
        return Spool.adopt(path)

    with ThreadPoolExecutor(8) as pool:
        found = [task.result() for task in [pool.submit(try_it) for _ in range(8)]]
    winners = [spool for spool in found if spool is not None]

    assert len(winners) == 1
    winners[0].close()


def test_a_full_spool_says_what_is_missing_and_takes_it_after_a_drop(
    tmp_path: Path,
) -> None:
    """The bound holds, nothing is half written, and the policy can make room."""
    spool = new_spool(tmp_path, max_bytes=1_000_000)
    count = 0
    missing = 0
    while not missing:
        try:
            spool.append(records(1 + count * 10, 10, size=1000))
            count += 1
        except SpoolFullError as error:
            missing = error.missing
    before = spool.events
    dropped = spool.drop_oldest(missing)
    spool.append(records(1 + count * 10, 10, size=1000))

    assert before == count * 10
    assert list(range(1, len(dropped) + 1)) == sequences(dropped)
    assert list(range(len(dropped) + 1, count * 10 + 11)) == sequences(read_all(spool))
    assert spool.path.stat().st_size <= 1_000_000
    spool.close()


def test_a_batch_that_never_fits_is_refused(tmp_path: Path) -> None:
    """An empty spool that is too small says so again and again."""
    spool = new_spool(tmp_path, max_bytes=100_000)
    for _ in range(2):
        with pytest.raises(SpoolFullError):
            spool.append([record(1, size=200_000)])

    assert spool.drop_oldest(200_000) == []
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_batches_on_their_way_are_not_dropped(spool: Spool) -> None:
    """What may be acknowledged any time is nobody's loss."""
    numbers = [spool.append(records(index * 2 + 1, 2)) for index in range(4)]
    spare = {numbers[0], numbers[2]}
    dropped = spool.drop_oldest(spool.bytes * 10, spare=spare)

    assert [3, 4, 7, 8] == sequences(dropped)
    assert [1, 2, 5, 6] == sequences(read_all(spool))
    assert spool.drop_oldest(1, spare=spare) == []
    assert spool.drop_before(2**62, spare=spare) == []
    assert spool.events == 4


def test_the_oldest_go_first_and_no_more_than_needed(spool: Spool) -> None:
    """The rest of the evidence stays."""
    for index in range(4):
        spool.append(records(index * 2 + 1, 2))

    assert [1, 2] == sequences(spool.drop_oldest(1))
    assert [3, 4, 5, 6, 7, 8] == sequences(read_all(spool))


def test_what_is_too_old_is_dropped(spool: Spool) -> None:
    """The bound of age goes by the first record of a batch."""
    for index in range(4):
        spool.append(records(index * 2 + 1, 2))
    limit = record(5).recorded_at

    assert [1, 2, 3, 4] == sequences(spool.drop_before(limit))
    assert spool.drop_before(limit) == []
    assert (4, limit) == (spool.events, spool.oldest_recorded_at)


def test_files_stay_small_while_records_pass_through(tmp_path: Path) -> None:
    """Freed pages are used again, and the log is cut: 60 MB pass, 12 stay."""
    spool = new_spool(tmp_path)
    highest = 0
    for index in range(300):
        number = spool.append(records(1 + index * 100, 100, size=2000))
        spool.settle([number])
        highest = max(highest, sum(path.stat().st_size for path in tmp_path.iterdir()))

    assert highest < 12_000_000
    spool.close()


def test_a_spool_that_was_large_gives_the_disk_back(tmp_path: Path) -> None:
    """An outage does not cost disk for ever."""
    spool = new_spool(tmp_path)
    numbers = [spool.append(records(i, 100, size=4000)) for i in range(60)]
    before = sum(path.stat().st_size for path in tmp_path.iterdir())
    spool.settle(numbers)
    after = sum(path.stat().st_size for path in tmp_path.iterdir())
    spool.append(records(1, 2))

    assert before > 24_000_000
    assert after < 100_000
    assert [1, 2] == sequences(read_all(spool))
    spool.close()


def test_reader_and_writer_may_work_side_by_side(tmp_path: Path) -> None:
    """Nothing is lost or twice while two threads use it."""
    spool = new_spool(tmp_path)
    found: list[int] = []

    def drain() -> None:
        after = 0
        while len(found) < 3000:
            for batch in spool.read(after, max_bytes=50_000):
                after = batch.number
                found.extend(sequences(batch.records))
                spool.settle([after])

    reader = threading.Thread(target=drain)
    reader.start()
    for index in range(300):
        spool.append(records(1 + index * 10, 10))
    reader.join(timeout=30)

    assert list(range(1, 3001)) == found
    assert spool.events == 0
    spool.close()


def test_nobody_else_can_read_the_files(tmp_path: Path) -> None:
    """They may hold content: 0600, in a folder of 0700."""
    folder = tmp_path / "new" / "spool"
    spool = new_spool(folder)
    spool.append(records(1, 1))
    spool.write_statistics("{}")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}

    assert {0o600} == modes
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(list(folder.iterdir())) == 4
    spool.close()


def test_statistics_are_seen_from_outside(tmp_path: Path) -> None:
    """`fleetwake doctor` sees the living as they told last, the dead as they are."""
    living, left = new_spool(tmp_path / "a"), filled(tmp_path / "a", 2, count=5)
    living.append(records(1, 3))
    living.write_statistics('{"sent": 7}')
    found = {summary.path: summary for summary in spools(tmp_path / "a")}

    assert set(found) == {living.path, left}
    told = found[living.path]
    assert (os.getpid(), "producer-1", 3) == (told.pid, told.producer_id, told.events)
    assert (living.bytes, living.oldest_recorded_at) == told[4:6]
    assert ('{"sent": 7}', True) == (told.statistics, told.alive)
    dead = found[left]
    assert (os.getpid(), "producer-1", 10) == (dead.pid, dead.producer_id, dead.events)
    assert (None, False) == (dead.statistics, dead.alive)
    assert record(1).recorded_at == dead.oldest_recorded_at
    assert list(range(1, 11)) == recovered(left)
    living.close()


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    """To look for spools needs none."""
    assert spools(tmp_path / "none") == []
    assert list(adopt(tmp_path / "none")) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The error names the folder and the cause."""
    (tmp_path / "file").write_text("")

    with pytest.raises(SpoolError, match=r"file/spool: Not a directory"):
        new_spool(tmp_path / "file" / "spool")


def test_after_close_it_is_used_by_mistake_without_harm(tmp_path: Path) -> None:
    """Typed errors, and `settle` never raises."""
    spool = new_spool(tmp_path)
    spool.close()
    spool.settle([1])
    spool.write_statistics("{}")

    with pytest.raises(SpoolError, match="closed"):
        spool.append(records(1, 1))
    with pytest.raises(SpoolError, match="closed"):
        spool.read(0, max_bytes=1)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_start_that_was_cut_short_are_tidied(tmp_path: Path) -> None:
    """A kill between the lock and the file, or during a repair."""
    path = filled(tmp_path, 1)
    path.with_name(f"{path.name}.new").write_bytes(b"half a repair")
    (tmp_path / "1-00000000.spool.lock").write_text("1\np\n")
    (tmp_path / "1-00000000.spool").touch()
    found = [sequences(read_all(spool)) for spool in adopt(tmp_path)]

    assert [list(range(1, 11))] == found
