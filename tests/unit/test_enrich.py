"""An event is filled from its content, whole, where it has nothing yet."""

from __future__ import annotations

import json
import math

import pytest

from fleetwake.producer.adapters.mapping import REPAIRED
from fleetwake.producer.content import Content
from fleetwake.producer.enrich import enriched
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.fingerprint import (
    FINGERPRINT_VERSION,
    arguments_digest,
    error_class_digest,
    outcome_digest,
    text_digest,
)

CALL = AuditEvent(event_type="tool.complete", session_id="s-1")


def changes(event, content, **more):
    """The fields that differ afterwards."""
    after = enriched(event, content, **more)
    return {
        name: value
        for name, value, before in zip(after._fields, after, event, strict=True)
        if value != before
    }


def test_nothing_comes_of_nothing():
    """Arguments that are not known are not arguments of the value null."""
    assert {} == changes(CALL, Content())
    assert 4 == changes(CALL, Content(arguments=None))["arguments_chars"]


def test_a_call_has_digests_previews_and_lengths():
    """Of the whole text; the preview is what stands first in it."""
    arguments, result = {"path": "a" * 300}, "r" * 250
    said = json.dumps(arguments, separators=(",", ":"))

    assert {
        "arguments_digest": arguments_digest(arguments),
        "outcome_digest": outcome_digest(result, is_error=False),
        "digest_basis": "preview",
        "fingerprint_version": FINGERPRINT_VERSION,
        "arguments_preview": said[:200],
        "arguments_chars": len(said),
        "result_preview": "r" * 200,
        "result_chars": 250,
        "payload": "{}",
        "payload_chars": 2,
    } == changes(CALL, Content(arguments, result, basis="preview", record={}))


def test_without_a_result_the_error_is_the_outcome():
    """Its class is for comparing across calls."""
    error = "line 7: no such file"

    assert {
        "outcome_digest": outcome_digest(error, is_error=True),
        "error_class_digest": error_class_digest(error),
        "error_message": error,
        "digest_basis": "full",
        "fingerprint_version": FINGERPRINT_VERSION,
        "payload": json.dumps({"error": error}, separators=(",", ":")),
        "payload_chars": 32,
    } == changes(CALL, Content(error=error))


@pytest.mark.parametrize(
    ("fields", "is_error"),
    [
        ({}, False),
        ({"outcome": "success"}, False),
        ({"outcome": "failure"}, True),
        ({"outcome": "timeout"}, True),
        ({"event_type": "tool.failure"}, True),
    ],
)
def test_a_failure_is_judged_as_one(fields, is_error):
    """An error that moves down a file is the same error."""
    text = "line 7: no"
    event = enriched(CALL._replace(**fields), Content(result=text))

    assert outcome_digest(text, is_error=is_error) == event.outcome_digest


def test_a_message_has_a_digest_and_its_repeats():
    """But no preview: that is the payload's."""
    text = "I am done. " * 30

    assert {
        "text_digest": text_digest(text),
        "text_repeats": 30,
        "digest_basis": "full",
        "fingerprint_version": FINGERPRINT_VERSION,
        "payload": json.dumps({"text": text}, separators=(",", ":")),
        "payload_chars": len(text) + 11,
    } == changes(CALL, Content(text=text))


def test_the_record_is_the_payload():
    """As JSON, or as the JSON text that it is."""
    found = changes(CALL, Content(record={"a": [1, None]}))

    assert {"payload": '{"a":[1,null]}', "payload_chars": 14} == found
    assert '{"b": 1}' == changes(CALL, Content(record='{"b": 1}'))["payload"]


@pytest.mark.parametrize(
    ("content", "payload"),
    [
        (Content(arguments={"q": 1}), {"arguments": {"q": 1}}),
        (Content(arguments='{"q": 1}'), {"arguments": {"q": 1}}),
        (Content(arguments='{"q": '), {"arguments": '{"q": '}),
        (
            Content(arguments=None, result="[done]"),
            {"arguments": None, "result": "[done]"},
        ),
        (Content(result='"\ud800\n'), {"result": '"\ud800\n'}),
        (Content(arguments=[1, "2"], error="x", text="y"), None),
    ],
)
def test_without_a_record_the_payload_is_what_is_given(content, payload):
    """An agent of nobody's loses nothing either: whole, and valid JSON."""
    found = json.loads(enriched(CALL, content).payload or "")

    assert (payload or {"arguments": [1, "2"], "error": "x", "text": "y"}) == found


def test_what_the_source_says_itself_stays():
    """Only what is None is filled."""
    event = CALL._replace(
        arguments_digest=1,
        outcome_digest=2,
        error_class_digest=3,
        text_digest=4,
        digest_basis="preview",
        fingerprint_version=9,
        arguments_preview="a",
        result_preview="r",
        arguments_chars=5,
        result_chars=6,
        payload_chars=7,
        text_repeats=8,
        error_message="e",
        payload="{}",
    )
    content = Content({"x": 1}, "result", "error", "text", {"y": 1})

    assert {} == changes(event, content)


def test_digests_are_keyed():
    """Whoever does not have the key cannot try out guesses."""
    content = Content(arguments="yes", result="yes", error="yes", text="yes")
    names = ("arguments_digest", "outcome_digest", "error_class_digest", "text_digest")
    plain, keyed = enriched(CALL, content), enriched(CALL, content, key=b"k")

    assert all(getattr(plain, name) != getattr(keyed, name) for name in names)


def test_a_repair_is_noted_beside_those_of_the_adapter():
    """Once, whatever was repaired before."""
    event = CALL._replace(attributes={REPAIRED: "negative_duration"})
    content = Content(arguments=[math.nan], record=[math.inf])

    assert {REPAIRED: "negative_duration,not_finite"} == enriched(
        event, content
    ).attributes
    assert {REPAIRED: "not_finite"} == enriched(CALL, content).attributes
