"""All stages together: what leaves is filled, redacted, allowed and small."""

from __future__ import annotations

import json
import logging

import pytest
from tests.credentials import shaped

from fleetwake.producer.border import WITHHELD, Border
from fleetwake.producer.content import Content
from fleetwake.producer.dead_letter import DeadLetter
from fleetwake.producer.encoder import Encoder
from fleetwake.producer.entry import Entry
from fleetwake.producer.redact import REDACTED
from fleetwake.producer.settings import ContentSettings
from fleetwake.schemas.codec import SHA256_HEADER, PackagedSchemas, decode
from fleetwake.schemas.errors import InvalidEventError
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.fingerprint import arguments_digest
from fleetwake.schemas.topics import MAX_RECORD_BYTES

SECRET = shaped(7)["github"]
CALL = AuditEvent(event_type="tool.complete", session_id="s-1", tool_name="run")
CALLED = Content(
    arguments={"cmd": f"login {SECRET}"}, result="ok", record={"out": SECRET, "n": 1}
)


def border(redactors=(), clock=lambda: 0.0, **content):
    """A border with these settings."""
    return Border(ContentSettings(**content), redactors=redactors, clock=clock)


def test_digests_are_of_what_was_and_text_of_what_may_be_seen():
    """So that two calls with different secrets are two."""
    event = border()(CALL, CALLED)

    assert arguments_digest(CALLED.arguments) == event.arguments_digest
    assert '{"cmd":"login [redacted:github-pat]"}' == event.arguments_preview
    assert {"out": "[redacted:github-pat]", "n": 1} == json.loads(event.payload)
    assert {REDACTED: "2"} == event.attributes


def test_redaction_can_be_left_out():
    """Where another stage does it."""
    assert SECRET in border(redact=False)(CALL, CALLED).payload


def test_a_tool_may_keep_its_content():
    """Policies are by tool; `hash` is of the record as it was."""
    run = border(tools={"run": "hash"})

    assert "fleetwake_sha256" in run(CALL, CALLED).payload
    assert run(CALL, CALLED).arguments_preview is None
    assert "n" in json.loads(run(CALL._replace(tool_name="x"), CALLED).payload)


def test_no_policy_shows_a_secret():
    """Whatever is chosen."""
    for policy in ("full", "metadata", "hash", "none"):
        event = border(policy=policy)(CALL, CALLED._replace(error=SECRET, text=SECRET))

        assert SECRET[4:] not in repr(event)


def test_a_hot_session_keeps_its_envelopes():
    """And its digests, so that a runaway loop is found."""
    hot = border(hot_session_rate=1, hot_session_burst=2)
    events = [hot(CALL, CALLED) for _ in range(3)]
    calm = hot(CALL._replace(session_id="s-2"), CALLED)

    assert events[0] == events[1]
    assert {"fleetwake_folded": {"chars": events[0].payload_chars}} == json.loads(
        events[2].payload
    )
    assert events[0].arguments_digest == events[2].arguments_digest
    assert events[0].payload_chars == events[2].payload_chars
    assert events[2].arguments_preview is events[2].result_preview is None
    assert calm.payload == events[0].payload


def test_hooks_come_after_redaction():
    """They see what would leave, and may take more out of it."""
    seen = []

    def hook(event):
        seen.append(event.payload)
        return event._replace(payload='"mine"')

    assert '"mine"' == border([hook])(CALL, CALLED).payload
    assert SECRET not in seen[0]


@pytest.mark.parametrize(
    "hook",
    [
        lambda event: 1 / 0,
        lambda event: None,
        lambda event: event._replace(session_id="other"),
        lambda event: event._replace(sequence=9),
    ],
    ids=range(4),
)
def test_a_hook_that_fails_costs_the_content_and_never_the_event(hook, caplog):
    """What it wanted to hide is not shown, and it is said once."""
    strict = border([hook])
    with caplog.at_level(logging.WARNING, "fleetwake.producer"):
        event = strict(CALL, CALLED)
        strict(CALL, CALLED)

    assert {WITHHELD: "hook"} == {
        name: text for name, text in event.attributes.items() if name == WITHHELD
    }
    assert (None, None, "s-1") == (
        event.payload,
        event.arguments_preview,
        event.session_id,
    )
    assert event.arguments_digest is not None
    assert 2 == strict.withheld
    assert 1 == len(caplog.records)


def test_texts_have_a_bound():
    """Five megabytes of an error are five megabytes of somebody's thread."""
    event = border()(
        CALL._replace(reason="r" * 90_000, attributes={"a": "x" * 90_000}),
        Content(error=f"{SECRET} " * 200_000),
    )

    assert all(
        len(text) < 8_300
        for text in (event.reason, event.error_message, event.attributes["a"])
    )
    assert event.reason.endswith(f"[fleetwake: {90_000 - 8_192} characters cut]")
    assert SECRET[4:] not in event.error_message


def test_a_payload_of_five_megabytes_is_taken():
    """Cut, and with its true length."""
    record = {"id": 7, "out": "line of text\n" * 400_000}
    event = border()(CALL, Content(record=record))
    said = json.dumps(record, separators=(",", ":"))

    assert len(event.payload) <= 256 * 1024
    assert len(said) == event.payload_chars
    assert 7 == json.loads(event.payload)["id"]


def encoder(**content):
    """An encoder with these settings."""
    return Encoder(
        source="native",
        host="h",
        environment=None,
        content=ContentSettings(**content),
    )


def test_a_record_is_of_what_may_leave():
    """The key too."""
    event = CALL._replace(session_id=f"s-{SECRET}")
    record = encoder()(Entry(event, {}, 1, "p-1", 1, 1_700_000_000_000_000, CALLED))
    decoded = decode(
        record.value, PackagedSchemas(), sha256=dict(record.headers)[SHA256_HEADER]
    )

    assert SECRET[4:].encode() not in record.value + record.key
    assert decoded.session_id.encode() == record.key
    assert ("p-1", 1, "native", "h") == (
        decoded.producer_id,
        decoded.sequence,
        decoded.source,
        decoded.host,
    )


def test_a_dead_letter_has_its_bytes_and_its_origin():
    """As they came, but for credentials."""
    letter = DeadLetter(
        b'\xff{"token": "abc" ' + SECRET.encode(),
        "not_json",
        "the line is no JSON",
        {"source": "calute", "file": f"{SECRET}.jsonl"},
        f"s-{SECRET}",
    )
    record = encoder().dead_letter(letter)
    headers = dict(record.headers)

    assert b'\xff{"token": "[redacted:token]" [redacted:github-pat]' == record.value
    assert {
        "fleetwake-reason": b"not_json",
        "fleetwake-error": b"the line is no JSON",
        "fleetwake-origin-source": b"calute",
        "fleetwake-origin-file": b"[redacted:github-pat].jsonl",
    } == headers
    assert record.key.startswith(b"s-[redacted:github-pat:")


@pytest.mark.parametrize("policy", ["metadata", "hash", "none"])
def test_a_dead_letter_shows_no_content_where_nothing_else_does(policy):
    """A line that nobody could read is content too."""
    letter = DeadLetter(b"what was said", "not_json", "no", {"line": "3"})
    record = encoder(policy=policy).dead_letter(letter)

    assert b"said" not in record.value
    assert (policy == "hash") == (b'"fleetwake_bytes": 13' in record.value)
    assert ("fleetwake-origin-line", b"3") in record.headers


def test_a_payload_that_is_no_text_is_refused():
    """By name, without quoting it."""
    with pytest.raises(InvalidEventError, match="payload"):
        border()(CALL._replace(payload=b"s3cret"))  # type: ignore[arg-type]


def test_a_large_dead_letter_is_cut_and_says_so():
    """After redaction: no half of a secret stays at its end."""
    before = b"x " * (MAX_RECORD_BYTES // 2 - 5)
    letter = DeadLetter(before + SECRET.encode() + b" y" * 99, "not_json", "no")
    record = encoder().dead_letter(letter)

    assert len(record.value) <= MAX_RECORD_BYTES
    assert SECRET[:6].encode() not in record.value
    assert (
        str(len(letter.value) - MAX_RECORD_BYTES).encode()
        == dict(record.headers)["fleetwake-cut"]
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"policy": "some"},
        {"tools": {"a": "some"}},
        {"redact_patterns": {"a": "("}},
        {"digest_key": "k" * 65},
        {"max_payload_bytes": 2**21},
        {"hot_session_rate": 0},
    ],
)
def test_wrong_settings_are_refused(wrong):
    """At start, and without quoting a key."""
    with pytest.raises(ValueError) as error:
        ContentSettings(**wrong)

    assert "kkkk" not in str(error.value)


def test_settings_come_from_the_environment(monkeypatch):
    """Tools and patterns as JSON."""
    monkeypatch.setenv("FLEETWAKE_CONTENT_TOOLS", '{"read_*": "hash"}')
    monkeypatch.setenv("FLEETWAKE_CONTENT_DIGEST_KEY", "sesame")

    assert {"read_*": "hash"} == ContentSettings().tools
    assert b"sesame" == ContentSettings().key()
