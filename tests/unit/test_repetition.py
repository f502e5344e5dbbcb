"""How often a text repeats itself is what the published vectors say."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetwake.schemas.repetition import text_repeats

VECTORS = json.loads(
    (files("fleetwake.schemas") / "vectors" / "text-repeats-v1.json").read_text(
        encoding="utf-8"
    )
)["vectors"]


def counted(words):
    """The same, slowly and as the definition reads."""
    best = min(1, len(words))
    for size in range(1, 65):
        for start in range(len(words)):
            phrase = words[start : start + size]
            count = 1
            while phrase == words[start + count * size : start + (count + 1) * size]:
                count += 1
            if len(phrase) == size and len(" ".join(phrase * count).encode()) >= 200:
                best = max(best, count)
    return best


@pytest.mark.parametrize("vector", VECTORS, ids=[one["note"] for one in VECTORS])
def test_the_number_is_the_published_one(vector):
    """In every language."""
    text = "".join(piece * times for piece, times in vector["parts"])

    assert vector["repeats"] == text_repeats(text)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 13),
    st.lists(st.sampled_from("abcé"), max_size=12),
    st.lists(st.sampled_from("abc"), min_size=1, max_size=6),
    st.integers(0, 40),
    st.integers(0, 300),
)
def test_the_number_is_what_counting_gives(letters, before, phrase, times, others):
    """Whatever stands before, and with more words than a byte can tell apart."""
    words = [*before, *phrase * times, *before, *map(str, range(others))]
    words = [word * letters for word in words][:900]

    assert counted(words) == text_repeats(" ".join(words))
