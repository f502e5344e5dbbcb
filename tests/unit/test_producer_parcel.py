"""Parcels: what is cut out of one, what a spool writes of it, what tells its loss."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.samples import event
from tests.spooling import record, records

from fleetwake.producer.consignment import Consignment, finished, losses
from fleetwake.producer.gaps import Loss
from fleetwake.producer.parcel import Parcel, parcels
from fleetwake.producer.spool.records import decode, encode
from fleetwake.schemas.codec import encode as encode_event

if TYPE_CHECKING:
    from fleetwake.producer.spool import Spooled

# Of the frames that the first version with a spool wrote of these records.
FRAMES = "514f155d39f537b252942f5947921699cfa4bc173ce164b4bcdf005e2250a55a"


def consigned(rows: list[Spooled]) -> list[Parcel]:
    some = parcels(rows)
    Consignment(cast("Any", None), 1, some)
    return some


def test_a_spool_writes_of_a_parcel_what_it_writes_of_its_records() -> None:
    """To the byte what an earlier version wrote, so that either reads the other's."""
    rows = records(1, 20)
    (parcel,) = parcels(rows)
    frames = encode(parcel)

    assert encode(rows) == frames
    assert rows == decode(frames)
    assert FRAMES == sha256(frames).hexdigest()


def test_topics_that_a_repair_has_mixed_go_their_own_ways() -> None:
    """Their parcels are settled together."""
    letter = record(3, topic="dead-letters", session_id="", producer_id="")
    some = consigned([*records(1, 2), letter._replace(sequence=0), *records(4, 3)])

    assert ["events", "dead-letters", "events"] == [one.topic for one in some]
    assert [2, 1, 3] == list(map(len, some))
    assert [[], [], [1]] == [[done.number for done in finished([one])] for one in some]


@settings(max_examples=50)
@given(keys=st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1), data=st.data())
def test_what_is_taken_out_of_a_parcel_keeps_its_order_and_stamps(
    keys: list[str], data: st.DataObject
) -> None:
    """By partition or by count, each record has what it had, and none is lost."""
    rows = [record(n, session_id=k, key=k.encode()) for n, k in enumerate(keys, 1)]
    (parcel,) = consigned(rows)
    count = data.draw(st.integers(0, len(rows)))
    first, rest = parcel.cut(count)
    parts = parcel.by_partition(lambda key: key[0] % 3)

    assert (rows[:count], rows[count:]) == (rowed(first), rowed(rest))
    assert parcel.size == first.size + rest.size
    assert parcel.size == sum(part.size for part in parts.values())
    for number, part in parts.items():
        assert [row for row in rows if row.key[0] % 3 == number] == rowed(part)
    assert parcel.within(parcel.size) == len(rows)
    assert parcel.within(first.size) == count


def rowed(parcel: Parcel) -> list[Spooled]:
    return decode(encode(parcel)) if parcel else []


def test_a_loss_names_session_run_and_sequence() -> None:
    """A lost gap also tells what it told; a lost letter is nobody's event."""
    told = {"producer_id": "p", "from_sequence": "1", "to_sequence": "3"}
    gap = encode_event(event(event_type="gap", attributes=told))
    plain = encode_event(event(event_type="custom", attributes={"gap": "gap"}))
    rows = [record(1), record(2, value=gap), record(3, value=plain)]
    (parcel,) = parcels(rows)
    (letters,) = parcels([record(4, topic="dead-letters")])

    assert [
        Loss("session-1", "producer-1", 1, None),
        Loss("session-2", "producer-1", 2, told),
        Loss("session-3", "producer-1", 3, None),
    ] == losses(parcel)
    assert [None] == losses(letters)
