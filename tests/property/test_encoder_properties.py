"""What is encoded together is what it is one by one."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.credentials import in_context, shaped
from tests.samples import ANYTHING, event, events

from fleetwake.producer import encoder as encoding
from fleetwake.producer.content import Content
from fleetwake.producer.encoder import Encoder
from fleetwake.producer.entry import Entry
from fleetwake.producer.settings import ContentSettings
from fleetwake.schemas.bulk import event_bodies
from fleetwake.schemas.codec import EVENT_COLUMNS, EventEncoder
from fleetwake.schemas.writer import event_body

SEEDS = st.integers(0, 2**32 - 1)
SMALL = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
NAMES = [column.name for column in EVENT_COLUMNS]
TEXTS = [column.name for column in EVENT_COLUMNS if column.kind == "string"]
LONGS = [-(2**63), 2**63 - 1, -1, 0, 1, 2**62, *(2**bits for bits in range(46, 58))]
DIGESTS = [name for name in NAMES if name.endswith("_digest")]
HOSTILE = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(ANYTHING), max_size=2)


@given(st.lists(events(), min_size=1, max_size=4), HOSTILE, SEEDS)
@SMALL
def test_columns_are_written_as_events_are(drawn, hostile, seed):
    """The same bytes, or none where one of them has none of its own."""
    random = Random(seed)
    pool = [*drawn, *(one._replace(**numbers(random)) for one in drawn)]
    if random.random() < 0.3:
        pool.append(drawn[0]._replace(**hostile))
    written = random.choices(pool, k=random.randrange(1, 30))
    bodies = event_bodies(b"head", [*zip(*written, strict=True)])
    expected = [event_body(one) for one in written]

    assert bodies == (
        None if None in expected else [b"head" + body for body in expected]
    )


@given(st.lists(events(), min_size=1, max_size=4), HOSTILE, SEEDS)
@SMALL
def test_a_batch_is_what_its_events_are_one_by_one(drawn, hostile, seed):
    """Records and errors, whatever redaction, policies and hooks make of them."""
    random = Random(seed)
    pool = [*map(mild, drawn), *drawn, event(), event()]
    if random.random() < 0.3:
        pool.append(event(**hostile | {"event_id": "e-1"}))
    entries = [
        entry(random, random.choice(pool)) for _ in range(random.randrange(1, 60))
    ]
    chosen = choice(random)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_FEW", random.choice([2, 4]))
        together = [*map(plain, encoder(chosen).batch(entries))]
    alone = encoder(chosen)

    assert together == [plain(outcome(alone, one)) for one in entries]


class Hostile:
    """What raises when it is asked for its truth, or whether it is None."""

    def __init__(self, error):
        self.error = error

    def __bool__(self):
        raise self.error

    def __eq__(self, other):
        raise self.error

    __hash__ = None


class Untrue(str):
    """A text that says that there is nothing in it."""

    __slots__ = ()

    def __bool__(self):
        return False


@pytest.mark.parametrize("name", ["occurred_at", "duration_ms"])
@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_what_raises_anything_spoils_only_itself(name, error):
    """A batch has an answer for each event, whatever one of them holds."""
    bad = event(**{name: Hostile(error())})
    entries = [stamped(one) for one in [event()] * 10 + [bad] + [event()] * 10]
    *before, failed = encoder(({}, [])).batch(entries)[:11]
    after = encoder(({}, [])).batch(entries)[11:]

    assert isinstance(failed, BaseException)
    assert before == after == [encoder(({}, []))(stamped(event()))] * 10


@pytest.mark.parametrize("batched", [[0], [0] * 20, [0, 1] * 10])
def test_a_text_that_lies_makes_no_credential_harmless(batched):
    """Neither itself, nor another with the same characters, then and later."""
    one = encoder(({}, []))
    lie = stamped(event(agent_id=Untrue("password=hunter2x")))
    honest = stamped(event(agent_id="password=hunter2x"))
    both = [lie, honest]
    answers = [*one.batch([both[at] for at in batched]), one(honest)]
    answers += one.batch([honest] * 20)

    assert [one for one in answers if b"hunter2x" in getattr(one, "value", b"")] == []


def test_one_that_needs_fastavro_leaves_the_others_as_they_are():
    """Only for it there is no frame."""
    encode = EventEncoder(b"head")
    written = [event(sequence=at) for at in range(1, 21)]
    written[7] = event(reason="\ud800")
    frames = encode.batch([*zip(*written, strict=True)])

    assert frames == [
        None if at == 7 else encode(one) for at, one in enumerate(written)
    ]


def test_a_whole_number_of_milliseconds_needs_no_fastavro():
    """It has the bytes of its float; one too large for it has none."""
    written = [event(duration_ms=5), event(duration_ms=2**70)] * 4
    floats = [event(duration_ms=5.0), event(duration_ms=2.0**70)] * 4

    assert event_bodies(b"", [*zip(*written, strict=True)]) == [
        *map(event_body, floats)
    ]
    assert [*map(event_body, written)] == [*map(event_body, floats)]
    assert event_body(event(duration_ms=10**400)) is None
    assert event_bodies(b"", [*zip(event(duration_ms=10**400))]) is None


def numbers(random):
    """Longs at the edges of how many bytes they take."""
    names = random.sample(DIGESTS, random.randrange(4))
    return {name: random.choice([*LONGS, random.getrandbits(62)]) for name in names}


def mild(written):
    """The same without what seldom is: attributes, and texts that cannot be coded."""
    texts = {
        name: getattr(written, name).encode("utf-8", "replace").decode()
        for name in TEXTS
        if getattr(written, name) is not None
    }
    return written._replace(**texts, attributes={})


def entry(random, written):
    """An accepted event, seldom with a credential or content of its own."""
    if random.random() < 0.1:
        secrets = {**shaped(random.randrange(99)), **in_context(random.randrange(99))}
        secret = random.choice([*secrets.values()])
        text = secret if isinstance(secret, str) else secret[0]
        written = written._replace(**{random.choice(TEXTS): text})
    if random.random() < 0.1:
        text = random.choice(
            ["key", "a token", "x" * 300, r"\u0070assword=a", "\u212a"]
        )
        written = written._replace(**{random.choice(TEXTS): text})
    if random.random() < 0.05:
        written = written._replace(payload="y" * random.choice([2_000, 300_000]))
    content = Content(arguments={"q": 1}, result="r") if random.random() < 0.1 else None
    recorded_at = random.choice([0, 1, 1_790_000_000_000_000])
    return Entry(
        written, written.attributes, 1, "p-1", random.randrange(3), recorded_at, content
    )


def stamped(written):
    """As accepted, alone."""
    return Entry(written, {}, 1, "p-1", 1, 1_790_000_000_000_000)


def choice(random):
    """Settings of a border, most often as they are if nobody says anything."""
    hooks = [lambda one: one, lambda one: one._replace(reason=one.tool_name), broken]
    return random.choice(
        [
            *[({}, [])] * 4,
            ({"policy": random.choice(["metadata", "hash", "none"])}, []),
            ({"tools": {"*": "hash"}}, []),
            ({"redact": False}, []),
            ({"redact_patterns": {"x": "yy+"}}, []),
            ({"redact_names": ["reason"]}, []),
            ({"hot_session_rate": 1e-9, "hot_session_burst": 3}, []),
            ({"max_payload_bytes": 1024}, []),
            ({}, [random.choice(hooks)]),
        ]
    )


def broken(written):
    """A hook that fails for some."""
    if written.sequence == 1:
        raise SystemExit
    return written


def encoder(chosen):
    """A new one with these settings and hooks."""
    content, hooks = chosen
    return Encoder(
        source="native",
        host="h",
        environment=None,
        content=ContentSettings(**content),
        redactors=hooks,
    )


def outcome(one, entry):
    """The record, or the error."""
    try:
        return one(entry)
    except BaseException as error:  # noqa: BLE001 - hooks raise any
        return error


def plain(answer):
    """What can be compared of a record or an error."""
    return (type(answer), str(answer)) if isinstance(answer, BaseException) else answer
