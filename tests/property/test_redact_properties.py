"""A planted secret is nowhere, however and wherever it was planted."""

from __future__ import annotations

import json
import re
from operator import itemgetter
from unittest import mock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.credentials import in_context, shaped

from fleetwake.producer.border import Border
from fleetwake.producer.content import Content
from fleetwake.producer.redact import Redactor
from fleetwake.producer.redaction.needles import Needles
from fleetwake.producer.redaction.shapes import gitleaks
from fleetwake.producer.settings import ContentSettings
from fleetwake.schemas.event import AuditEvent

REDACTOR = Redactor()
CLOSED = {"event_type", "severity", "outcome", "error_kind", "digest_basis"}
COLUMNS = sorted(
    name
    for name, kind in AuditEvent.__annotations__.items()
    if "str" in str(kind) and name not in {"attributes", *CLOSED}
)
SMALL = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

WORDS = st.text(max_size=12) | st.sampled_from(
    ["", "a b", "line\nline", '"quoted"', "back\\slash", "{not json", "[", "key", "é"]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)


def documents(words):
    """JSON of these words."""
    return st.recursive(
        LEAVES | words,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4)
        ),
        max_leaves=12,
    )


DOCUMENTS = documents(WORDS)
# Letters that make no name of a secret.
HARMLESS = documents(st.text('xyz \\"\n{}[]:=,é0123/-', max_size=12))


@st.composite
def secrets(draw):
    """A text with a secret in it, and what must not be seen of it."""
    seed = draw(st.integers(0, 10_000))
    shapes, contexts = shaped(seed), in_context(seed)
    kind = draw(st.sampled_from([*shapes, *contexts]))
    if kind in contexts:
        return contexts[kind]
    return shapes[kind], shapes[kind][-12:]


def planted(draw, document, text):
    """The document with a text at some place in it."""
    place = draw(st.integers(0, 5))
    if place == 0 or not isinstance(document, (dict, list)) or not document:
        return draw(
            st.sampled_from(
                [
                    text,
                    [document, text],
                    {"out": text, "in": document},
                    {text: document},
                ]
            )
        )
    if isinstance(document, list):
        at = draw(st.integers(0, len(document) - 1))
        return [
            planted(draw, item, text) if number == at else item
            for number, item in enumerate(document)
        ]
    name = draw(st.sampled_from(sorted(document)))
    return document | {name: planted(draw, document[name], text)}


def escaped(draw, text):
    """The same JSON in another writing."""
    letters = draw(
        st.sampled_from(["", "/", "aeg", "hkops", "tABE", "GKPST-_", "=:@ "])
    )

    def other(match):
        char = match[0]
        if len(char) > 1 or char not in letters:
            return char
        return r"\/" if char == "/" else f"\\u{ord(char):04x}"

    return re.sub(
        r'"(?:[^"\\]|\\.)*"',
        lambda string: re.sub(r"\\u.{4}|\\.|.", other, string[0], flags=re.DOTALL),
        text,
    )


@SMALL
@given(st.data(), DOCUMENTS, secrets())
def test_a_planted_secret_is_in_no_document(data, document, secret):
    """In values, names, JSON inside JSON; in any writing; and it stays JSON."""
    text, hidden = secret
    whole = planted(data.draw, document, text)
    for _ in range(data.draw(st.integers(0, 2))):
        whole = {"arguments": json.dumps(whole)}
    said = json.dumps(whole, ensure_ascii=data.draw(st.booleans()))
    written = escaped(data.draw, said)
    assert json.loads(written) == json.loads(said)
    redacted = REDACTOR.text(written)

    assert hidden not in json.dumps(json.loads(redacted), ensure_ascii=False)


@SMALL
@given(HARMLESS)
def test_a_document_without_secrets_stays_the_same(document):
    """Byte by byte."""
    text = json.dumps(document)

    assert text == REDACTOR.text(text)


@SMALL
@given(secrets(), st.sampled_from(["", "run-7 ", "é/"]))
def test_a_planted_secret_is_in_no_column(secret, before):
    """Of an event: content, ids and names. And it comes out the same twice."""
    text, hidden = secret
    for column in COLUMNS:
        event = AuditEvent(event_type="mark")._replace(**{column: before + text})
        redacted = REDACTOR.event(event)

        assert hidden not in repr(redacted)
        assert redacted.attributes
        assert redacted == REDACTOR.event(redacted)


@SMALL
@given(st.data(), st.text(max_size=30), secrets(), st.text(max_size=30))
def test_a_planted_secret_is_in_no_bytes(data, before, secret, after):
    """Of a dead letter, in any encoding, broken or not."""
    text, hidden = secret
    encoding = data.draw(st.sampled_from(["utf-8", "utf-16", "utf-32"]))
    noise = data.draw(st.binary(max_size=6)) if encoding == "utf-8" else b""
    broken = f"{before} {text} {after}".encode(encoding, "replace") + noise
    redacted = REDACTOR.data(broken).replace(b"\0", b"")

    assert hidden.encode() not in redacted


@SMALL
@given(st.data(), secrets(), st.integers(0, 600), st.sampled_from([1024, 4096, 2**18]))
def test_no_cut_leaves_the_head_of_a_secret(data, secret, position, size):
    """Neither that of a preview nor that of a payload."""
    text, hidden = secret
    filler = data.draw(st.sampled_from(["x ", "wort ", "x\n"]))
    long = (filler * position)[:position] + " " + text + " " + filler * 3_000
    border = Border(ContentSettings(max_payload_bytes=size))
    content = Content(
        arguments={"q": long}, result=long, error=long, text=long, record={"r": long}
    )
    event = border(AuditEvent(event_type="tool.complete", session_id="s"), content)
    shown = repr(event)
    secret_part = text[text.index(hidden) :][: len(hidden)]

    assert all(
        secret_part[at : at + 10] not in shown
        for at in range(max(1, len(secret_part) - 10))
    )
    assert json.loads(event.payload)
    assert len(event.payload) <= size
    assert len(event.result_preview) <= 200


PIECES = st.sampled_from(
    [
        *("value", "values", "val", "name", "key", "header", "NAME", "p_w_d", "Token"),
        *('"', "\\", '\\"', ":", "=", ",", ", ", " ", "\n", "--", "://", "@", "<", ">"),
        *("\ud800", "\u0130", "\u212a", "\u017f", "é", "日本", r"\u0070", r"\/"),
        *(word for shape in gitleaks() for word in shape.keywords),
        *("a1B2c3D4" * 5, "bearer ", "curl -u a:b", "-----BEGIN RSA PRIVATE KEY-----"),
    ]
)


@SMALL
@given(st.lists(PIECES | WORDS | secrets().map(itemgetter(0)), max_size=12))
def test_what_is_asked_first_hides_no_credential(parts):
    """The quick look for any of many words changes speed alone."""
    text = "".join(parts)
    with mock.patch.object(Needles, "may_be_in", return_value=True):
        without = Redactor().text(text)

    assert without == REDACTOR.text(text)


@SMALL
@given(st.data())
def test_to_ask_once_for_all_texts_finds_what_each_rule_finds(data):
    """In any mixture of fields, also when parts of an event were seen before."""
    part = PIECES | WORDS | secrets().map(itemgetter(0))
    texts = st.lists(part, max_size=3).map("".join)
    names = st.sets(st.sampled_from(COLUMNS), max_size=4)
    redactor, thorough = Redactor(), Redactor()
    for _ in range(3):
        fields = {name: data.draw(texts) for name in sorted(data.draw(names))}
        fields["attributes"] = data.draw(st.dictionaries(WORDS, texts, max_size=2))
        event = AuditEvent(**fields)
        with (
            mock.patch.object(thorough, "_may_hold_one", return_value=True),
            mock.patch.object(thorough, "_is_suspect", return_value=True),
        ):
            expected = thorough.event(event)

        assert expected == redactor.event(event)
