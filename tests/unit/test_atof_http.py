"""The stream sink of NeMo Relay: its three transports are lines of JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fleetwake.producer.adapters.atof import AtofAdapter
from fleetwake.producer.adapters.atof.http import (
    ContentTypeError,
    map_http,
    read_http,
)
from fleetwake.producer.adapters.mapping import REPAIRED
from fleetwake.producer.dead_letter import DeadLetter
from fleetwake.producer.enrich import enriched

if TYPE_CHECKING:
    from collections.abc import Iterator

NDJSON = "application/x-ndjson"
RECORDS: list[dict[str, Any]] = [
    {"kind": "mark", "name": "é☃", "n": n} for n in range(3)
]
BODY = b"".join(json.dumps(one).encode() + b"\n" for one in RECORDS)


def read(body: Any, content_type: str = NDJSON, **options: Any) -> list[Any]:
    return [
        one if isinstance(one, DeadLetter) else one.fields
        for one in read_http(body, content_type, **options)
    ]


def test_a_post_has_one_line() -> None:
    """With or without its end."""
    line = json.dumps(RECORDS[0]).encode()

    assert RECORDS[:1] == read(line) == read(line + b"\n") == read(line + b"\r\n")


@pytest.mark.parametrize("size", range(1, len(BODY) + 1))
def test_chunks_of_an_upload_end_anywhere(size: int) -> None:
    """Within a character, too."""
    chunks = [BODY[at : at + size] for at in range(0, len(BODY), size)]

    assert RECORDS == read(chunks)


def test_records_come_as_soon_as_their_line_is_there() -> None:
    """An upload may last for days."""

    def upload() -> Iterator[bytes]:
        yield BODY
        raise AssertionError("asked for more before it was needed")

    records = read_http(upload(), NDJSON)

    assert RECORDS == [next(records).fields for _ in RECORDS]  # type: ignore[union-attr]


def test_a_broken_line_does_not_stop_the_next() -> None:
    """Each has its reason, and its bytes as they came."""
    found = read(b'{"a":\n\n \n[1]\n\xff\n' + BODY)
    letters, records = found[:3], found[3:]

    assert ["not_json", "not_an_object", "not_utf8"] == [one.reason for one in letters]
    assert b'{"a":' == letters[0].value
    assert RECORDS == records


@pytest.mark.parametrize("chunk", [1, 7, 1_000_000])
def test_a_line_that_is_too_long_is_cut_and_the_next_is_read(chunk: int) -> None:
    """What is beyond the limit is never held."""
    body = b'{"a":"' + b"x" * 5_000 + b'"}\n' + BODY
    chunks = [body[at : at + chunk] for at in range(0, len(body), chunk)]
    letter, *records = read(chunks, max_line_bytes=100)

    assert ("line_too_long", 101) == (letter.reason, len(letter.value))
    assert RECORDS == records


def test_five_megabytes_are_taken() -> None:
    """A tool may return a document."""
    record = {"kind": "mark", "data": "x" * 5_000_000}

    assert [record] == read(json.dumps(record).encode() + b"\n")


@pytest.mark.parametrize("content_type", ["text/html", "multipart/form-data; a=b"])
def test_other_content_is_refused_at_once(content_type: str) -> None:
    """A server answers 415."""
    with pytest.raises(ContentTypeError):
        read_http(BODY, content_type)


@pytest.mark.parametrize(
    "content_type", ["", "application/x-ndjson; charset=utf-8", "Application/JSON"]
)
def test_what_senders_call_it_is_taken(content_type: str) -> None:
    """A websocket's messages have no type at all."""
    assert RECORDS == read(BODY, content_type)


def test_names_without_dots_mean_the_same() -> None:
    """The sink's policy `replace_dots` changes names at every level."""
    end: dict[str, Any] = {
        "kind": "scope",
        "scope_category": "end",
        "category": "tool",
        "uuid": "u",
        "name": "search",
        "timestamp": 1,
    }
    dotted = {
        "otel.status_code": "ERROR",
        "otel.status_description": "no",
        "exception.type": "ValueError",
        "gen_ai.conversation.id": "s",
    }
    replaced = {name.replace(".", "_"): value for name, value in dotted.items()}
    one, other = (
        AtofAdapter(stream="f", session_id="f").map(
            end | {"metadata": metadata}, ordinal=0
        )[0]
        for metadata in (dotted, replaced)
    )

    assert one.event == other.event
    assert ("failure", "s") == (one.event.outcome, one.event.session_id)
    assert "no" == one.content.error == other.content.error


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, bytes.decode])
def test_a_body_is_text_or_bytes(kind: Any) -> None:
    """Messages of a websocket are text; whole, and in chunks."""
    assert RECORDS == read(kind(BODY))
    assert RECORDS == read([kind(BODY[:10]), kind(BODY[10:])])


def test_a_text_that_is_no_unicode_is_a_dead_letter() -> None:
    """As its bytes would be; the next line is read."""
    letter, *records = read('{"a":"\ud800"}\n' + BODY.decode())

    assert ("not_utf8", RECORDS) == (letter.reason, records)


@pytest.mark.parametrize("body", [None, 7, object()])
def test_what_is_no_body_is_refused_at_once(body: Any) -> None:
    """Not when its records are asked for."""
    with pytest.raises(TypeError):
        read_http(body)


def test_events_say_that_a_number_was_not_finite() -> None:
    """NaN became text; others have no note, and broken ones are dead letters."""
    lines = [
        f'{{"kind":"mark","uuid":"{n}","name":"n","timestamp":{n},"data":{{"v":{v}}}}}'
        for n, v in enumerate(["NaN", "-Infinity", "1.5"], start=1)
    ]
    body = "\n".join([*lines, "{", '{"kind":"mark"}'])
    adapter = AtofAdapter(stream="r", session_id="r")
    events, letters = [], []
    for one in map_http(adapter, body):
        if isinstance(one, DeadLetter):
            letters.append(one)
        else:
            events.append(enriched(*one))

    assert ["not_finite", "not_finite", None] == [
        event.attributes.get(REPAIRED) for event in events
    ]
    assert [("not_json", b"{"), ("uuid_unusable", b'{"kind":"mark"}')] == [
        (letter.reason, letter.value) for letter in letters
    ]


def test_other_content_is_refused_at_once_when_mapped() -> None:
    """Before an event is asked for."""
    with pytest.raises(ContentTypeError):
        map_http(AtofAdapter(stream="r", session_id="r"), BODY, "text/html")
