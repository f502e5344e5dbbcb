"""Lines of any bytes: none is lost, none is cut without a word."""

from __future__ import annotations

import gzip
import io
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetwake.consumers.ingest import lines as lines_module
from fleetwake.consumers.ingest.lines import Line, LineReader, opened
from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def read(content: bytes) -> list[Line]:
    """All lines."""
    reader = LineReader(io.BytesIO(content), "it")
    return list(iter(reader.read, None))


def test_ends_of_lines_are_taken_off() -> None:
    """Those of Unix and of Windows; the last line may have none."""
    found = read(b"a\nb\r\n\n\xef\xbb\xbf\nc")

    assert [b"a", b"b", b"", b"\xef\xbb\xbf", b"c"] == [one.text for one in found]
    assert [1, 2, 3, 4, 5] == [one.number for one in found]
    assert [False, False, True, True, False] == [one.is_blank for one in found]
    assert [True, True, True, True, False] == [one.is_ended for one in found]


def test_a_line_that_is_too_long_is_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its head is given, and the next line is whole."""
    monkeypatch.setattr(lines_module, "MAX_LINE_BYTES", 10)
    monkeypatch.setattr(lines_module, "_PIECE_BYTES", 4)
    found = read(b"123456789\n" + b"x" * 25 + b"\nend")

    assert [b"123456789", b"x" * 10, b"end"] == [one.text for one in found]
    assert [True, False, True] == [one.is_whole for one in found]


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=30), max_size=8))
def test_the_place_is_that_of_the_lines_given(pieces: list[bytes]) -> None:
    """Offset and digest never hold a line that was not given."""
    content = b"\n".join(pieces)
    reader = LineReader(io.BytesIO(content), "it")
    while reader.read(is_last=False):
        assert sha256(content[: reader.offset]).hexdigest() == reader.digest()
    rest = content[reader.offset :]

    assert b"\n" not in rest
    last = reader.read()
    assert (last.text if last else b"") == rest.rstrip(b"\r")
    assert reader.offset == len(content)
    if last is not None:
        reader.give_back()
        assert reader.offset == len(content) - len(rest)
        assert sha256(content[: reader.offset]).hexdigest() == reader.digest()


def test_a_line_without_an_end_waits_for_more(tmp_path: Path) -> None:
    """And is given once, whole."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"one\ntw")
    with opened(str(path)) as source, path.open("ab") as writer:
        reader = LineReader(source, "it")
        first, second = reader.read(is_last=False), reader.read(is_last=False)
        writer.write(b"o\n")
        writer.flush()
        third = reader.read(is_last=False)

    assert first is not None
    assert third is not None
    assert (b"one", None, b"two") == (first.text, second, third.text)


def test_gzip_is_known_by_its_content(tmp_path: Path) -> None:
    """Whatever the name; several members one after the other too."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    with opened(str(path)) as source:
        reader = LineReader(source, "it")
        found = [one.text for one in iter(reader.read, None)]

    assert [b"one", b"two"] == found


@pytest.mark.parametrize("content", [b"one\ntwo\n", b"\x1f\n", b"\x1f"])
@pytest.mark.parametrize("is_packed", [True, False])
def test_gzip_is_known_in_a_pipe_that_gives_one_byte_first(
    content: bytes, *, is_packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what only begins like it is read as it is."""
    pieces = iter([content[:1], content[1:]])
    if is_packed:
        packed = gzip.compress(content)
        pieces = iter([packed[:1], packed[1:]])

    class Pipe(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            piece = next(pieces, b"")
            buffer[: len(piece)] = piece
            return len(piece)

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Pipe())))
    with opened("-") as source:
        found = source.read()

    assert content == found


def test_gzip_that_breaks_is_named(tmp_path: Path) -> None:
    """After the lines before."""
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"one\n" * 9)[:-9])
    with (
        opened(str(path)) as source,
        pytest.raises(ConfigurationError, match=r"a\.jsonl\.gz cannot be read"),
    ):
        list(iter(LineReader(source, str(path)).read, None))


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """One line for the user."""
    with (
        pytest.raises(ConfigurationError, match=r"none\.jsonl cannot be read"),
        opened(str(tmp_path / "none.jsonl")),
    ):
        pass
