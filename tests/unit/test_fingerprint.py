"""Digests are what the published vectors say, and tell loops from progress."""

from __future__ import annotations

import json
import math
from hashlib import blake2b
from importlib.resources import files

import pytest
from fastavro.schema import fingerprint as avro_fingerprint

from fleetwake.schemas import fingerprint
from fleetwake.schemas.fingerprint import (
    arguments_digest,
    error_class_digest,
    outcome_digest,
    preview,
    text_digest,
)
from fleetwake.schemas.lookup import Schema

FOLDER = files("fleetwake.schemas") / "vectors"


def published(name):
    """The vectors of a file."""
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def value_of(vector):
    """The input of a vector."""
    if "json" in vector:
        return json.loads(vector["json"])
    if "parts" in vector:
        return "".join(text * times for text, times in vector["parts"])
    return vector["text"]


VECTORS = published("fingerprint-v1.json")["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=[one["note"] for one in VECTORS])
def test_a_digest_is_the_published_one(vector):
    """In every language, in every year."""
    digest_of = getattr(fingerprint, f"{vector['function']}_digest")
    more = {"is_error": vector["is_error"]} if "is_error" in vector else {}
    key = bytes.fromhex(vector.get("key", ""))
    digest = digest_of(value_of(vector), key=key, **more)
    expected = vector["digest"] and int.from_bytes(
        bytes.fromhex(vector["digest"]), "big", signed=True
    )

    assert expected == digest
    if "hashed" in vector:
        hashed = blake2b(vector["hashed"].encode(), digest_size=8, key=key)
        assert hashed.hexdigest() == vector["digest"]


def test_every_rule_of_the_documentation_has_a_vector():
    """Each function, keyed and long inputs among them."""
    functions = {vector["function"] for vector in VECTORS}

    assert {"arguments", "outcome", "error_class", "text"} == functions
    assert any("key" in vector for vector in VECTORS)
    assert any(vector["digest"] is None for vector in VECTORS)


def test_a_released_schema_has_the_published_fingerprint():
    """Bytes on the wire name it for ever."""
    released = files("fleetwake.schemas") / "released"
    computed = {
        f"{folder.name}/{path.name[:-5]}": Schema.parse(
            path.read_text(encoding="utf-8")
        ).fingerprint.hex()
        for folder in released.iterdir()
        for path in folder.iterdir()
    }
    vectors = published("avro-fingerprints.json")
    primitives = {
        name: avro_fingerprint(f'"{name}"', "CRC-64-AVRO")
        for name in vectors["primitives"]
    }

    assert vectors["released"] == computed
    assert vectors["primitives"] == primitives


def success(value):
    """The digest of a success."""
    return outcome_digest(value, is_error=False)


def failure(value):
    """The digest of a failure."""
    return outcome_digest(value, is_error=True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("10 % done", "20 % done"),
        ('{"id": 1}', '{"id": 2}'),
        ("", " "),
        ("", "{}"),
        ("x" * 9_000 + "a", "x" * 9_000 + "b"),
        ("x" * 9_000, "x" * 9_001),
    ],
)
def test_progress_has_another_digest(one, other):
    """A counter that moves is no loop."""
    assert success(one) != success(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": 1, "took": 5}', '{"took": 6, "a": 1}'),
        ("at 2026-11-21T10:00:00Z", "at 2026-11-22T11:00:01.5+02:00"),
        ("object at 0x7f00", "object at 0x7fff"),
    ],
)
def test_what_is_new_each_time_does_not_count(one, other):
    """Else no loop would ever be found."""
    assert success(one) == success(other)


def test_an_error_that_moves_down_a_file_is_the_same_error():
    """Seen in real sessions: 44 times the same failing command."""
    assert failure("bash: line 12: cd: no") == failure("bash: line 13: cd: no")
    assert failure("9 failed") != failure("8 failed")
    assert error_class_digest("9 failed") == error_class_digest("8 failed")


def test_values_that_json_does_not_know_have_a_digest():
    """Nothing that an agent passes makes it fail."""
    values = [
        {"a": math.nan, "b": -math.inf},
        {1: {2, 3}},
        {"n": 10**5_000},
        (b"bytes", object),
        {"s": "\ud800", "\udfff": 1},
    ]

    assert all(-(2**63) <= arguments_digest(value) < 2**63 for value in values)
    assert arguments_digest({"a": 10**20}) == arguments_digest(f'{{"a": {10**20}}}')


def test_a_list_that_holds_itself_has_a_digest():
    """Depth is bounded."""
    value = []
    value.append(value)

    assert arguments_digest(value) == arguments_digest("[" * 70 + "]" * 70)


def test_a_key_makes_other_digests():
    """Whoever does not have it cannot try out guesses."""
    assert text_digest("yes") != text_digest("yes", key=b"k")


@pytest.mark.timeout(20)
def test_large_inputs_take_no_regular_expression_over_all_of_them():
    """10 MB of hex digits and quotes, which each rule would search slowly."""
    text = "deadbeef-" * 1_000_000

    assert isinstance(failure(text), int)
    assert isinstance(error_class_digest(text), int)
    assert isinstance(arguments_digest({"content": text}), int)
    assert isinstance(text_digest(text), int)


def test_a_preview_has_200_code_points():
    """And no more than there are."""
    assert "é" * 200 == preview("é" * 201)
    assert "ab" == preview("ab")
