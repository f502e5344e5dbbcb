"""A bookmark claims what is acknowledged, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.producing import event, until

from fleetwake.consumers.ingest.bookmark import Bookmark, Place
from fleetwake.consumers.ingest.keeper import Keeper
from fleetwake.producer.settings import ProducerSettings
from fleetwake.producer.testing import MemoryLog, memory_producer

if TYPE_CHECKING:
    from pathlib import Path

PLACE = Place(12, 3, "ab" * 32, None)


def test_a_bookmark_is_read_back(tmp_path: Path) -> None:
    """By the same file and way only; the folder is made for its owner."""
    folder = tmp_path / "marks"
    mark = Bookmark(folder, tmp_path / "a", "auto", None)
    before = mark.read()
    mark.write(PLACE)
    mark.write(PLACE._replace(offset=24))

    assert before is None
    assert PLACE._replace(offset=24) == mark.read()
    assert Bookmark(folder, tmp_path / "b", "auto", None).read() is None
    assert Bookmark(folder, tmp_path / "a", "auto", "s").read() is None
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"{}", b"\xff", b'{"offset": -1}', b"\0" * 99),
        b'{"offset": "x", "lines": 1, "sha256": "", "shift_us": null}',
    ],
)
def test_a_broken_bookmark_is_none(tmp_path: Path, content: bytes) -> None:
    """After a crash of the machine: the file is read from its beginning."""
    mark = Bookmark(tmp_path, tmp_path / "a")
    mark.write(PLACE)
    (file,) = tmp_path.glob("*.json")
    file.write_bytes(content)

    assert mark.read() is None


def test_nothing_is_kept_before_it_is_acknowledged(tmp_path: Path) -> None:
    """While Kafka is away the old place holds."""
    log = MemoryLog()
    producer, _ = memory_producer(log=log)
    keeper, mark = Keeper(producer, 20), Bookmark(tmp_path, tmp_path / "a")
    log.is_away = True
    producer.emit(event())
    keeper.offer(mark, PLACE)
    until(lambda: producer.statistics().errors or producer.statistics().queued)
    while_away = mark.read()
    log.is_away = False
    until(mark.read)

    assert while_away is None
    assert PLACE == mark.read()
    assert producer.close()
    keeper.close(is_delivered=True)


def test_nothing_is_kept_after_a_drop(tmp_path: Path) -> None:
    """What there was no room for is read again by the next run."""
    log = MemoryLog()
    log.is_away = True
    producer, _ = memory_producer(ProducerSettings(queue_max_events=1), log=log)
    keeper, mark = Keeper(producer, 5), Bookmark(tmp_path, tmp_path / "a")
    for _ in range(3):
        producer.emit(event())
    until(lambda: producer.statistics().dropped)
    log.is_away = False
    keeper.offer(mark, PLACE)
    keeper.close(is_delivered=producer.close())

    assert mark.read() is None


def test_what_kafka_refuses_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    """Another attempt would end the same; a gap event tells it."""
    log = MemoryLog()
    producer, _ = memory_producer(log=log)
    keeper, mark = Keeper(producer, 5), Bookmark(tmp_path, tmp_path / "a")
    log.refuses = lambda record: record.key == b"refused"
    producer.emit(event("refused"))
    until(lambda: producer.statistics().dropped)
    keeper.offer(mark, PLACE)
    until(mark.read)
    keeper.close(is_delivered=producer.close())

    assert PLACE == mark.read()


def test_the_last_place_is_kept_at_the_end(tmp_path: Path) -> None:
    """Of each file, in the order that they were offered."""
    producer, _ = memory_producer()
    keeper, mark = Keeper(producer, 5), Bookmark(tmp_path, tmp_path / "a")
    other = Bookmark(tmp_path, tmp_path / "b")
    for offset in range(50):
        keeper.offer(mark, PLACE._replace(offset=offset))
    keeper.offer(other, PLACE)
    keeper.close(is_delivered=producer.close())

    assert (PLACE._replace(offset=49), PLACE) == (mark.read(), other.read())


def test_a_bookmark_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """The events are published all the same."""
    (tmp_path / "marks").write_text("a file")
    producer, _ = memory_producer()
    keeper = Keeper(producer, 5)
    keeper.offer(Bookmark(tmp_path / "marks", tmp_path / "a"), PLACE)
    keeper.close(is_delivered=producer.close())

    assert keeper.problem
