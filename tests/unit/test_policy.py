"""What may leave is what the policy says, in the size that it says."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest

from fleetwake.producer.cap import capped_payload, capped_text, rough_payload
from fleetwake.producer.hot import HotSessions
from fleetwake.producer.policy import Policies, hashed
from fleetwake.schemas.event import AuditEvent

EVENT = AuditEvent(
    event_type="tool.complete",
    session_id="s-1",
    tool_name="read_file",
    outcome="failure",
    reason="because",
    error_type="OSError",
    error_message="no",
    arguments_digest=1,
    outcome_digest=2,
    error_class_digest=3,
    text_digest=4,
    digest_basis="full",
    fingerprint_version=1,
    arguments_preview="a",
    result_preview="r",
    arguments_chars=1,
    result_chars=1,
    text_repeats=1,
    duration_ms=5.0,
    attributes={"x": "y", "fleetwake.repaired": "not_finite"},
    payload='{"a": 1}',
)
CONTENT = {
    *("payload", "arguments_preview", "result_preview", "error_message", "reason"),
    "attributes",
}
DERIVED = {
    *("arguments_digest", "outcome_digest", "error_class_digest", "text_digest"),
    *("digest_basis", "fingerprint_version", "arguments_chars", "result_chars"),
    *("payload_chars", "text_repeats"),
}


def left(policy, event=EVENT):
    """What a policy leaves of an event."""
    return Policies(policy, {}).apply(policy, event)


def changed(after):
    """The names of the fields that differ."""
    return {
        name for name in EVENT._fields if getattr(after, name) != getattr(EVENT, name)
    }


def test_full_leaves_all():
    """Redaction is another stage."""
    assert EVENT is left("full")


def test_metadata_leaves_lengths_and_digests():
    """So that loops are found without content."""
    after = left("metadata")

    assert CONTENT | {"payload_chars"} == changed(after)
    assert 8 == after.payload_chars
    assert {"fleetwake.repaired": "not_finite"} == after.attributes


def test_hash_leaves_a_digest_of_the_payload():
    """Whoever has the record can prove that this was it."""
    after = left("hash")

    assert CONTENT | {"payload_chars"} == changed(after)
    assert {
        "fleetwake_sha256": hashlib.sha256(b'{"a": 1}').hexdigest(),
        "fleetwake_chars": 8,
    } == json.loads(after.payload)
    assert left("hash", EVENT._replace(payload=None)).payload is None


def test_with_a_key_the_digest_is_an_hmac():
    """Else a short record could be guessed."""
    assert {
        "fleetwake_hmac_sha256": hmac.new(
            b"k", b'"\xef\xbf\xbd"', "sha256"
        ).hexdigest(),
        "fleetwake_chars": 3,
    } == json.loads(hashed('"\ud800"', b"k"))


def test_none_leaves_the_envelope():
    """Who, when, which tool, and how it went."""
    assert CONTENT | (DERIVED - {"payload_chars"}) == changed(left("none"))


@pytest.mark.parametrize(
    ("tool", "policy"),
    [
        ("read_file", "hash"),
        ("read_url", "metadata"),
        ("write", "full"),
        ("READ_X", "full"),
        (None, "full"),
    ],
)
def test_a_tool_may_have_a_policy_of_its_own(tool, policy):
    """Its name before globs, and globs in their order."""
    policies = Policies(
        "full", {"read_*": "metadata", "read_file": "hash", "*_url": "none"}
    )

    assert policy == policies.of(EVENT._replace(tool_name=tool))


@pytest.mark.parametrize("event_type", ["gap", "producer.close"])
def test_what_the_producer_says_of_itself_passes(event_type):
    """A gap without its sequences would be none."""
    event = EVENT._replace(event_type=event_type)

    assert "full" == Policies("none", {"*": "none"}).of(event)


def test_a_payload_that_fits_is_the_same():
    """Not even parsed."""
    payload = json.dumps({"a": "x" * 1_000})

    assert payload is capped_payload(payload, 2_048)
    assert payload is rough_payload(payload)


def test_long_strings_are_cut_first():
    """The structure, the numbers and the short strings stay."""
    payload = '{"id": 1.50, "out": "' + r"\n\u00e9\"" * 40_000 + '", "in": ["short"]}'
    capped = capped_payload(payload, 10_000)
    after = json.loads(capped)
    cut = len(r"\n\u00e9\"" * 40_000) - 8_192

    assert len(capped) <= 10_000
    assert '"id": 1.50' in capped
    assert ["short"] == after["in"]
    assert after["out"].startswith('\né"\né"')
    assert after["out"].endswith(" characters cut]")
    assert abs(int(after["out"].split()[-3]) - cut) < 12


def test_a_payload_of_many_parts_becomes_a_marker_with_its_head():
    """There is nothing in it to cut."""
    payload = json.dumps([{"number": number} for number in range(9_000)])
    capped = json.loads(capped_payload(payload, 10_000))

    assert {"fleetwake_cut": {"chars": len(payload), "head": payload[:2_500]}} == capped


@pytest.mark.parametrize("chars", [300_000, 6_000_000])
@pytest.mark.parametrize("text", ["x", "é", "\N{PILE OF POO}", '\\"', "\\\\"])
def test_a_capped_payload_is_json_and_fits(text, chars):
    """Wherever the cut falls: between the halves of an escape as well."""
    payload = '["' + text * (chars // len(text)) + '"]'
    for odd in ("", "y"):
        whole = payload.replace('["', f'["{odd}', 1)
        capped = capped_payload(rough_payload(whole), 65_536, len(whole))

        assert len(capped.encode()) <= 65_536
        assert json.loads(capped)


def test_two_cuts_tell_of_both():
    """The rough one before redaction, and the final one after it."""
    payload = json.dumps({"a": "x" * 3_000_000})
    after = json.loads(capped_payload(rough_payload(payload), 40_000))["a"]

    assert f"{'x' * 32_768}...[fleetwake: {3_000_000 - 32_768} characters cut]" == after
    assert "ab...[fleetwake: 8 characters cut]" == capped_text("a" + "b" * 9, 2)
    assert "ab...[fleetwake: 8 characters cut]" == capped_text(
        capped_text("a" + "b" * 9, 5), 2
    )
    assert "ab" == capped_text("ab", 2)


def test_what_is_no_json_becomes_a_marker():
    """Its head would be none either."""
    assert {"fleetwake_cut": {"chars": 5_000}} == json.loads(
        capped_payload("x" * 5_000, 2_000)
    )


class Clock:
    """Time that the test moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_session_is_hot_beyond_its_burst():
    """And no longer when its bucket has filled again; others are not concerned."""
    clock = Clock()
    sessions = HotSessions(rate=2, burst=3, clock=clock)
    first = [sessions.is_hot("a") for _ in range(5)]
    other = sessions.is_hot("b")
    clock.now += 1
    later = [sessions.is_hot("a") for _ in range(3)]
    clock.now += 60

    assert [False, False, False, True, True] == first
    assert not other
    assert [False, False, True] == later
    assert [False] * 3 + [True] == [sessions.is_hot("a") for _ in range(4)]


def test_hot_sessions_have_a_bound():
    """Millions of sessions are no leak."""
    sessions = HotSessions(rate=1, burst=1, clock=Clock())
    for number in range(10_500):
        sessions.is_hot(str(number))

    assert 10_000 == len(sessions._buckets)
