"""Order and bisection in a lane, against a broker that refuses some records."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetwake.producer.consignment import Consignment
from fleetwake.producer.lane import Lane
from fleetwake.producer.lanes import Lanes
from fleetwake.producer.parcel import Parcel
from fleetwake.producer.transport import OutgoingRecord


def parcel(*numbers: int, size: int = 100) -> Parcel:
    count = len(numbers)
    records = [OutgoingRecord(b"", bytes(size), [])] * count
    made = Parcel("events", records, [0] * count, ["p"] * count, numbers)
    made.consignment = cast("Any", None)
    return made


def filled(count: int, *cuts: int) -> Lane:
    """Fill a lane with parcels that begin at these numbers."""
    lane = Lane()
    begins = sorted({0, count, *(cut for cut in cuts if cut < count)})
    for begin, end in pairwise(begins):
        lane.append(parcel(*range(begin, end)))
    return lane


def numbers(batch: list[Parcel]) -> list[int]:
    return [number for one in batch for number in one.sequences]


def test_a_batch_is_bounded_by_bytes() -> None:
    """A batch holds what fits: overhead counts."""
    lane = filled(10)

    assert [0, 1, 2] == numbers(lane.load(3 * 180))


def test_the_oldest_is_taken_out_of_its_parcel() -> None:
    """One by one, in order, and the sizes follow."""
    lane = filled(10, 3, 4)
    popped = [numbers([lane.pop()]) for _ in range(9)]

    assert [[number] for number in range(9)] == popped
    assert 180 == lane.size


def test_a_record_larger_than_a_batch_goes_alone() -> None:
    """A large record is sent, and does not wait for ever."""
    lane = Lane()
    lane.append(parcel(0, size=5000))
    lane.append(parcel(1))

    assert [0] == numbers(lane.load(1000))


def test_a_failed_batch_goes_first_again() -> None:
    """After a failure the same records are sent first, in the same order."""
    lane = filled(10)
    lane.load(3 * 180)
    lane.restore()

    assert [0, 1, 2, 3] == numbers(lane.load(4 * 180))


@settings(max_examples=100)
@given(
    count=st.integers(1, 200),
    refused=st.sets(st.integers(0, 199), max_size=8),
    batch_bytes=st.integers(1, 100) | st.just(10**6),
    cuts=st.sets(st.integers(1, 199)),
)
def test_only_the_refused_records_are_lost(
    count: int, refused: set[int], batch_bytes: int, cuts: set[int]
) -> None:
    """Whatever is refused, all else arrives in order, in few attempts."""
    lane = filled(count, *cuts)
    arrived: list[int] = []
    lost: list[int] = []
    attempts = 0
    while any(True for _ in lane):
        attempts += 1
        batch = numbers(lane.load(batch_bytes * 180))
        if refused.isdisjoint(batch):
            lane.arrived()
            arrived += batch
        else:
            lost += numbers(lane.refused())

    wanted = refused & set(range(count))
    batches = -(-count // batch_bytes)
    assert sorted(wanted) == lost
    assert [number for number in range(count) if number not in refused] == arrived
    assert attempts <= 2 * batches + 25 * len(wanted)


class Given:
    """Keeps records, and notes which were given up."""

    def __init__(self) -> None:
        self.up: list[int] = []

    def acknowledge(self, arrived: object, /) -> None: ...

    def drop(self, lost: Parcel, reason: str, /) -> None:
        assert reason == "spool_full"
        self.up += lost.sequences


@pytest.mark.parametrize(
    ("spooled", "expected"),
    [
        pytest.param(False, [0, 1, 2, 3, 4], id="memory: no more than is due"),
        pytest.param(True, [0, 1, 2, 3, 4, 5, 6, 7], id="spool: what has to go frees"),
    ],
)
def test_the_oldest_are_given_up_of_all_lanes(
    *, spooled: bool, expected: list[int]
) -> None:
    """By age, not by lane; of a batch in the spool all, or nothing would be free."""
    source = Given()
    lanes = Lanes(10)
    lanes.assign(2, lambda key, partitions: key[0] % partitions)
    for nth in range(3):
        numbers = range(4 * nth, 4 * nth + 4)
        records = [OutgoingRecord(bytes([number]), b"", []) for number in numbers]
        made = Parcel("events", records, [0] * 4, ["p"] * 4, numbers)
        consignment = Consignment(source, spooled * (nth + 1), [made])
        consignment.ordinal = nth + 1
        lanes.extend([made])
    lanes.drop_oldest("spool_full", lambda: len(source.up) < 5, lambda _: True)

    assert expected == sorted(source.up)
    assert [len(expected), 12] == [len(source.up), len(source.up) + left(lanes)]


def left(lanes: Lanes) -> int:
    return sum(len(parcel) for lane in lanes for parcel in lane)
