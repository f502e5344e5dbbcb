"""Content is read at once, whatever it is, and stays what it was."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetwake.producer import content
from fleetwake.producer.content import (
    ABSENT,
    NOT_FINITE,
    Content,
    frozen,
    plain_json,
    snapshot,
)


class Hostile:
    """Whose every method fails."""

    def __str__(self):
        raise RuntimeError("str")

    __repr__ = __str__


class HostileDict(dict):
    """Whose items nobody may see."""

    def items(self):
        raise KeyError("items")


class Colour(Enum):
    """Whose value is what is meant."""

    RED = "red"


def said(value):
    """What the value's JSON stands for."""
    return json.loads(plain_json(value)[0])


def test_objects_may_change_after_they_were_read():
    """What is recorded is what was."""
    arguments, record = {"paths": ["a"]}, ["x"]
    content = snapshot(Content(arguments=arguments, record=record, text="hi"))
    arguments["paths"].append("b")
    record.clear()

    assert Content(arguments='{"paths":["a"]}', record='["x"]', text="hi") == content


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**64, Colour.RED, math.nan, math.inf])
    | st.builds(lambda: 10**5_000)
    | st.floats()
    | st.text(max_size=5)
    | st.builds(HostileDict),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=20)
    ),
    max_leaves=20,
)


@settings(max_examples=100)
@given(
    st.builds(
        Content, VALUES | st.just(ABSENT), VALUES, VALUES, VALUES, st.just(ABSENT)
    )
)
def test_what_emit_keeps_says_the_same_as_what_it_was_given(content):
    """Whatever it copies as it is: the writer makes the same JSON of it."""
    assert snapshot(content) == snapshot(frozen(content)[0])


@pytest.mark.parametrize(
    "arguments",
    [{"a": "1"}, {"a": ["1"]}, {"a": {"b": 1}}, dict.fromkeys("abcdefghijklmnopqr", 1)],
    ids=str,
)
def test_what_emit_keeps_stays_as_it_was(arguments):
    """An agent may go on changing its objects after emit."""
    before = snapshot(Content(arguments=arguments))
    kept, _ = frozen(Content(arguments=arguments))
    arguments["more"] = "2"
    if isinstance(arguments["a"], list):
        arguments["a"].append("2")

    assert before == snapshot(kept)


def test_what_emit_keeps_has_the_length_of_its_texts():
    """The bounds of the queue count what content holds, copied or said in JSON."""
    texts = {"a": "x" * 5_000}
    _, chars = frozen(Content(arguments=texts, result=[texts], text="x" * 5_000))
    _, copied = frozen(Content(arguments=texts, text="x" * 5_000))

    assert 15_000 <= chars < 15_100
    assert 10_000 <= copied < 10_100


def test_text_stays_text_and_nothing_stays_nothing():
    """And a snapshot of a snapshot is the same."""
    content = Content(arguments="ls", result="", error="no", text="t", record="{}")

    assert content == snapshot(content)
    assert Content() == snapshot(Content())
    assert "null" == snapshot(Content(arguments=None)).arguments
    assert ABSENT is snapshot(Content()).arguments


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, [2]), [1, [2]]),
        ({1: None, None: True, (1, 2): 1.5}, {"1": None, "null": True, "[1,2]": 1.5}),
        ({"a": {3}}, {"a": [3]}),
        ({"s": "\ud800é"}, {"s": "\ud800é"}),
        (b"caf\xc3\xa9 \xff", "café �"),
        (10**4_000, 10**4_000),
        (2**20_000, hex(2**20_000)),
        (Colour.RED, "red"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00+00:00"),
        ({"p": PurePosixPath("/a")}, {"p": "/a"}),
        ((i for i in "ab"), {"fleetwake_type": "builtins.generator"}),
        ([HostileDict(a=1), 2], [{"fleetwake_type": f"{__name__}.HostileDict"}, 2]),
        ([Hostile(), {Hostile(): 1}], ...),
    ],
    ids=range(13),
)
def test_any_value_can_be_said(value, expected):
    """What JSON lacks as text, and the rest by its type's name."""
    found = said(value)

    assert expected is ... or expected == found


def test_not_finite_numbers_become_text_with_a_note():
    """RFC 8259 has none."""
    content = snapshot(Content(record={"a": math.nan, "b": [-math.inf]}))

    assert '{"a":"NaN","b":["-Infinity"]}' == content.record
    assert NOT_FINITE == content.note
    assert ("[1.5]", False) == plain_json([1.5])


def test_what_holds_itself_ends():
    """And so does what is very deep."""
    loop = [1]
    loop += [loop, {"again": loop}]
    deep = []
    for _ in range(100_000):
        deep = [deep]

    assert [1, "...", {"again": "..."}] == said(loop)
    assert len(plain_json(deep)[0]) < 1_000


def test_surrogates_stay_escaped():
    """The JSON is ASCII, so any codec can hold it."""
    text, _ = plain_json({"s": "\ud800", "long": "\U0001f4a9\udc00" * 100_000})

    assert text.isascii()
    assert "\U0001f4a9\udc00" * 100_000 == json.loads(text)["long"]


def test_a_wrong_type_of_a_text_becomes_text():
    """Whatever an agent passes as its error."""
    content = snapshot(Content(error=ValueError("x"), text=17))  # type: ignore[arg-type]

    assert '{"fleetwake_type":"builtins.ValueError"}' == content.error
    assert "17" == content.text


LONG = [{"k": number, "v": f"word {number}"} for number in range(30_000)]


@pytest.mark.parametrize(
    "value",
    [
        LONG,
        {"a": {"b": {"c": LONG}}, "d": 1},
        {f"k{number}": {"v": [number]} for number in range(30_000)},
        ["word"] * 100_000,
        [["x" * 30_000] * 5, "y" * 200_000, {"z": "z" * 30_000}] * 3,
    ],
    ids=["list", "nested", "dict", "words", "texts"],
)
def test_what_is_long_is_said_in_short_steps(value, monkeypatch):
    """One call to C over megabytes would hold up the agent's other threads."""
    steps = []
    encode = content._ENCODER.encode

    def noted(part):
        steps.append(encode(part))
        return steps[-1]

    monkeypatch.setattr(content._ENCODER, "encode", noted)

    assert (json.dumps(value, separators=(",", ":")), False) == plain_json(value)
    assert max(map(len, steps), default=0) < 150_000


def test_long_values_are_said_as_short_ones_are():
    """Wherever they are cut: names that are no text, NaN, what JSON cannot say."""
    odd = [{1: "a", None: [math.nan], "d": date(2026, 1, 2)}, math.inf, {1, 2}, "x"]
    long = [*LONG, *odd, *LONG]
    text, is_repaired = plain_json({"long": long, "names": dict(enumerate(LONG))})

    assert is_repaired
    assert {
        "long": [*LONG, *said(odd), *LONG],
        "names": {str(number): one for number, one in enumerate(LONG)},
    } == json.loads(text)
