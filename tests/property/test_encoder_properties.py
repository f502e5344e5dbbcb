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
from fleetwake.schemas.codec import EVENT_COLUMNS
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
