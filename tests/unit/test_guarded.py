"""The guard around pyruhvro from the inside."""

from __future__ import annotations

import pytest
from tests.samples import KnownSchemas, event, varint

from fleetwake.schemas import columnar, guarded
from fleetwake.schemas.arrow import to_arrow
from fleetwake.schemas.codec import (
    PackagedSchemas,
    confluent_header,
    decode,
    encode,
    schema_of,
)
from fleetwake.schemas.columnar import decode_batch
from fleetwake.schemas.event import AuditEvent

pytestmark = pytest.mark.skipif(
    not guarded.IS_INSTALLED, reason="needs the extra `fast`"
)

PACKAGED = PackagedSchemas()
FRAME = encode(event())


def test_a_bad_record_does_not_slow_down_the_good(monkeypatch):
    """Of 10,000 records beside it, only a few are decoded one by one."""
    slow = []
    monkeypatch.setattr(
        columnar,
        "decode",
        lambda *args, **more: slow.append(1) or decode(*args, **more),
    )
    values = [FRAME] * 10_000
    values[1234] = FRAME[:-1]
    decoded = decode_batch(values, PACKAGED)

    assert decoded.events.num_rows == 9_999
    assert len(slow) <= columnar._BISECT_ROWS


@pytest.mark.parametrize(
    ("bad", "digest"),
    [(FRAME[:5], None), (b"", None), (None, None), (b"{}" * 9, None), (FRAME, b"")],
)
@pytest.mark.parametrize("place", [0, 1, 500, 999])
def test_what_has_no_header_of_ours_does_not_slow_down_the_good(
    monkeypatch, place, bad, digest
):
    """Cut, null, of another framing or another digest: only it is decoded alone."""
    slow = []
    monkeypatch.setattr(
        columnar,
        "decode",
        lambda *args, **more: slow.append(1) or decode(*args, **more),
    )
    values, digests = [FRAME] * 1_000, [None] * 1_000
    values[place], digests[place] = bad, digest
    decoded = decode_batch(values, PACKAGED, digests=digests)

    assert [place] == [at for at, _ in decoded.invalid]
    assert decoded.rows == [row for row in range(1_000) if row != place]
    assert len(slow) <= 1


@pytest.mark.parametrize("neighbours", [1, 2, 7])
def test_a_record_cannot_swallow_its_neighbour(neighbours):
    """A text that is as long as what comes behind it in a batch ends where it ends."""
    body = encode(event(payload=None))
    for swallowed in range(1, neighbours + 1):
        size = swallowed * (10 + len(FRAME))
        evil = body[:-1] + varint(1) + varint(size)
        decoded = decode_batch([evil] + [FRAME] * neighbours, PACKAGED)

        assert [0] == [at for at, _ in decoded.invalid]
        assert neighbours == decoded.events.num_rows


@pytest.mark.parametrize("framing", ["single-object", "confluent"])
def test_records_of_both_framings_are_read_together(monkeypatch, framing):
    """None of them is left to the reference, whatever its header is."""
    slow = []
    monkeypatch.setattr(columnar, "decode", lambda *_, **__: slow.append(1))
    header = b"" if framing == "single-object" else confluent_header(1)
    frames = [header + FRAME[10:] if header else FRAME] * 5
    lookup = KnownSchemas(schema_of(AuditEvent))

    assert 5 == decode_batch(frames, lookup).events.num_rows
    assert not slow


@pytest.mark.parametrize("panic", [True, False])
def test_a_panic_is_left_to_the_reference_and_an_interrupt_is_not(monkeypatch, panic):
    """A panic in Rust is a BaseException, as the exceptions that must pass are."""
    error = type("PanicException", (BaseException,), {}) if panic else KeyboardInterrupt

    def fail(*_):
        raise error

    monkeypatch.setattr(guarded, "_deserialize", fail)
    if panic:
        assert to_arrow([event()]).equals(decode_batch([FRAME], PACKAGED).events)
    else:
        with pytest.raises(KeyboardInterrupt):
            decode_batch([FRAME], PACKAGED)


def test_the_end_mark_is_new_each_time_and_ten_bytes_long():
    """Nobody can foresee it, and no part of it is a whole number of that size."""
    marks = [guarded._end_mark() for _ in range(50)]

    assert [varint(number) for number, _ in marks] == [mark for _, mark in marks]
    assert {10} == {len(mark) for _, mark in marks}
    assert len(set(marks)) == 50
