"""The fast ways to write and to read say what the strict ones say, of whatever."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.samples import (
    ANYTHING,
    TEXT,
    KnownSchemas,
    broken,
    datum,
    event,
    events,
    foreign_datum,
    foreign_schema,
    mended,
)

from fleetwake.schemas import codec, columnar, guarded
from fleetwake.schemas.arrow import to_arrow
from fleetwake.schemas.codec import (
    EVENT_COLUMNS,
    EventEncoder,
    PackagedSchemas,
    confluent_header,
    decode,
    decode_record,
    encode,
    encode_record,
    single_object_header,
)
from fleetwake.schemas.columnar import decode_batch
from fleetwake.schemas.errors import (
    InvalidEventError,
    InvalidRecordError,
    TombstoneError,
)
from fleetwake.schemas.models import parse_event, to_json
from fleetwake.schemas.records import Block, LoopAlert, Verdict

PACKAGED = PackagedSchemas()
SEEDS = st.integers(0, 2**32 - 1)
MICROS = st.integers(0, 2**50)


@given(events())
@settings(max_examples=60)
def test_a_decoded_event_is_the_encoded_one(written):
    """Whatever its text and numbers, but for what no codec can hold."""
    assert mended(written) == decode(encode(written), PACKAGED)


@given(
    events(),
    st.dictionaries(
        st.sampled_from([column.name for column in EVENT_COLUMNS]),
        st.sampled_from(ANYTHING),
        max_size=3,
    ),
)
@settings(max_examples=300)
def test_both_ways_to_encode_agree_on_hostile_events(written, hostile):
    """The same bytes, or the same error, whatever stands in whichever field."""
    written = written._replace(**hostile)
    fast = outcome(written)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "event_body", lambda _: None)
        slow = outcome(written)

    assert slow == fast


@given(st.lists(events(), max_size=5))
@settings(max_examples=30)
def test_a_batch_is_its_events_one_by_one(written):
    """The columns are the fields."""
    decoded = decode_batch([encode(one) for one in written], PACKAGED)

    assert to_arrow([mended(one) for one in written]).equals(decoded.events)
    assert list(range(len(written))) == decoded.rows


@pytest.mark.parametrize("fast", [True, False])
@given(seed=SEEDS)
@settings(max_examples=80)
def test_all_ways_to_decode_agree_on_foreign_and_broken_frames(fast, seed):
    """Versions apart from ours, mixed framings, hostile bytes, with the same errors."""
    if fast and not guarded.IS_INSTALLED:
        pytest.skip("needs the extra `fast`")
    random = Random(seed)
    lookup = KnownSchemas(*(foreign_schema(random) for _ in range(2)))
    badness = random.choice([0, 0.03, 0.3])
    values = [frame(random, lookup, badness) for _ in range(random.randrange(80))]
    digests = [digest(random, value) for value in values]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guarded, "IS_INSTALLED", fast)
        patch.setattr(columnar, "_CACHED_ROWS", random.choice([1, 3, 20, 500]))
        decoded = decode_batch(values, lookup, digests=digests)
    good, rows, invalid = one_by_one(values, lookup, digests)

    assert rows == decoded.rows
    assert to_arrow(good).equals(decoded.events)
    assert invalid == [(at, type(one), str(one)) for at, one in decoded.invalid]


@given(events())
@settings(max_examples=30)
def test_json_of_an_event_is_read_back(written):
    """All fields, whatever their text."""
    text = to_json(written)

    assert text.isascii()
    assert "\n" not in text
    assert mended(written) == mended(parse_event(text))


@given(TEXT, TEXT, MICROS, MICROS | st.none())
@settings(max_examples=30)
def test_a_decoded_verdict_is_the_encoded_one(session_id, reason, issued_at, until):
    """With its list of blocks."""
    blocks = (
        Block(reason=reason, until=until, issuer="budget"),
        Block(reason="", issuer=""),
    )
    verdict = Verdict(session_id=session_id, issued_at=issued_at, blocks=blocks)
    read = decode_record(Verdict, encode_record(verdict), PACKAGED)

    assert encode_record(verdict) == encode_record(read)
    assert (issued_at, until) == (read.issued_at, read.blocks[0].until)


@given(SEEDS)
@settings(max_examples=60)
def test_a_broken_frame_of_another_record_is_an_invalid_record(seed):
    """No other error leaves the decoder, and no crash."""
    random = Random(seed)
    alert = encode_record(ALERT)
    for _ in range(20):
        with suppress(InvalidRecordError):
            decode_record(LoopAlert, broken(random, alert), PACKAGED)


def outcome(written):
    """The frame, or the field at fault and what is said of it."""
    try:
        return EventEncoder(confluent_header(7))(written)
    except InvalidEventError as error:
        return error.field, str(error)


ALERT = LoopAlert(
    alert_id="a-1",
    rule="identical_call",
    session_id="s-1",
    reason="look was called 5 times",
    count=5,
    first_event_id="e-1",
    last_event_id="e-5",
    first_occurred_at=1,
    last_occurred_at=2,
    source_partition=0,
    source_offset=4,
    attributes={"a": "b"},
)


def frame(random: Random, lookup: KnownSchemas, badness: float) -> bytes | None:
    """A good or broken frame, of our schema or of one of the two others."""
    which = random.randrange(4)
    if which == 0:
        value = encode(event(sequence=random.randrange(1, 10**6)))
    else:
        schema = lookup.by_id(random.randrange(1, 3))
        assert schema is not None
        number = 1 if schema == lookup.by_id(1) else 2
        header = random.choice([single_object_header(schema), confluent_header(number)])
        value = header + datum(schema, foreign_datum(random, schema))
    if random.random() < badness:
        return broken(random, value) if random.random() < 0.9 else None
    return value


def digest(random: Random, value: bytes | None) -> bytes | None:
    """The digest of the value, seldom another one, or none."""
    if random.random() < 0.5 or value is None:
        return None
    return sha256(value + b"!" * (random.random() < 0.01)).digest()


def one_by_one(values, lookup, digests):
    """What the reference says: events, their rows, and the errors of the others."""
    good, rows, invalid = [], [], []
    for row, (value, sha) in enumerate(zip(values, digests, strict=True)):
        try:
            if value is None:
                raise TombstoneError
            good.append(decode(value, lookup, sha256=sha))
            rows.append(row)
        except InvalidRecordError as error:
            invalid.append((row, type(error), str(error)))
    return good, rows, invalid
