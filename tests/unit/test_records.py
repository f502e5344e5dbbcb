"""Records as columns: what a service reads of a poll."""

from __future__ import annotations

import pytest

from fleetwake.consumers.runtime.records import Headers, Record, Records
from fleetwake.consumers.runtime.service import EventBatch
from fleetwake.schemas.codec import SHA256_HEADER
from fleetwake.schemas.topics import EVENTS

DIGEST = b"\x07" * 32
GIVEN = [
    Record(3, 1_000, b"key", b"value", ((SHA256_HEADER, DIGEST),)),
    Record(4, 1_001, None, None, ()),
    Record(9, 1_002, b"", b"12", (("other", b""), (SHA256_HEADER, DIGEST))),
]


def test_the_columns_are_those_of_the_records_and_give_them_back() -> None:
    """Whole, one by one, and in slices."""
    records = Records.of(GIVEN)

    assert GIVEN == list(records)
    assert GIVEN == [records[0], records[1], records[-1]]
    assert [GIVEN[1:], GIVEN[:0], GIVEN[-1:]] == [
        list(records[1:]),
        list(records[:0]),
        list(records[-1:]),
    ]
    assert (3, 4, 9) == records.offsets


def test_what_is_no_record_is_not_there() -> None:
    """An empty poll has columns too."""
    records = Records.of([])

    assert 0 == len(records) == records.size
    assert [] == list(records) == records.digests


def test_a_slice_of_all_keeps_what_was_computed() -> None:
    """The runtime slices each poll, and most of them from their start."""
    records = Records.of(GIVEN)

    assert records[0:] is records
    assert Records.of(records) is records
    assert records[:2] is not records


def test_the_size_is_that_of_keys_and_values() -> None:
    """A null has none."""
    assert len(b"keyvalue12") == Records.of(GIVEN).size


@pytest.mark.parametrize(
    ("most", "count"), [(100, 3), (10, 3), (9, 2), (8, 2), (7, 1), (1, 1)]
)
def test_the_head_has_so_many_bytes_or_is_one_record(most: int, count: int) -> None:
    """A record that is larger than all that may be must be read too."""
    records = Records.of(GIVEN)

    assert GIVEN[:count] == list(records.head(most))
    assert [] == list(records[3:].head(most))


def test_a_digest_is_found_in_whatever_header_it_stands() -> None:
    """And a record without one has none."""
    assert [DIGEST, None, DIGEST] == Records.of(GIVEN).digests


@pytest.mark.parametrize(
    ("headers", "digest"),
    [
        (((SHA256_HEADER, DIGEST),), DIGEST),
        ((("other", DIGEST),), None),
        ((), None),
    ],
)
def test_records_that_are_alike_have_like_digests(
    headers: Headers, digest: bytes | None
) -> None:
    """As our producers write them, or others."""
    records = Records.of([one._replace(headers=headers) for one in GIVEN])

    assert [digest] * 3 == records.digests


@pytest.mark.parametrize("rows", [(0, 1, 2), (0, 1), (1, 2), (2,)])
@pytest.mark.parametrize("gap", [0, 4])
def test_events_stand_where_their_records_do(rows: tuple[int, ...], gap: int) -> None:
    """Offsets may be missing, and records that are no events."""
    records = [
        Record(nth + gap * (nth == 2), 1_000 - nth, None, b"") for nth in range(3)
    ]
    batch = EventBatch(
        topic=EVENTS, partition=0, records=Records.of(records), events=None, rows=rows
    )
    offset, timestamp_ms = batch.positions()

    assert [records[row].offset for row in rows] == offset.tolist()
    assert [records[row].timestamp_ms for row in rows] == timestamp_ms.tolist()


def test_the_first_headers_are_those_of_all_records() -> None:
    """By them a replay is told."""
    assert {SHA256_HEADER, "other"} == Records.of(GIVEN).first_headers


def test_there_is_no_record_behind_the_last() -> None:
    """As in any sequence."""
    with pytest.raises(IndexError):
        Records.of(GIVEN)[3]
