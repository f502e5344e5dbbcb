"""How a run starts its threads, and how it ends when something goes wrong."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from tests.producing import event, first_sequences, until
from tests.spooling import filled

from fleetwake.producer.adoption import Adoption
from fleetwake.producer.loop import THREAD_NAME
from fleetwake.producer.process import Process
from fleetwake.producer.statistics import ErrorLog
from fleetwake.producer.testing import memory_producer
from fleetwake.producer.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleetwake.producer.testing import MemoryLog


@pytest.fixture
def lives(monkeypatch: pytest.MonkeyPatch) -> list[Writer]:
    """Each start of a writer's thread."""
    found: list[Writer] = []
    work = Writer.run

    def live(writer: Writer) -> None:
        found.append(writer)
        work(writer)

    monkeypatch.setattr(Writer, "run", live)
    return found


def at_first_start(
    patch: pytest.MonkeyPatch, before: Callable[[], None], after: Callable[[], None]
) -> None:
    """Do something in the middle of the start of the first producer's thread."""
    start, todo = threading.Thread.start, [before, after]

    def interrupted(thread: threading.Thread) -> None:
        is_first = bool(todo) and thread.name == THREAD_NAME
        first, last = (todo.pop(0), todo.pop(0)) if is_first else (nothing, nothing)
        first()
        start(thread)
        last()

    patch.setattr(threading.Thread, "start", interrupted)


def nothing(*_: object, **__: object) -> None:
    """Do nothing."""


def interrupt() -> None:
    """Press Ctrl-C."""
    raise KeyboardInterrupt


def arrived(log: MemoryLog) -> list[int]:
    return first_sequences(log.events())["s-1"]


def test_an_emit_of_a_signal_handler_starts_nothing_twice(
    lives: list[Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may come while the first emit starts the thread."""
    producer, log = memory_producer()

    def handler() -> None:
        producer.emit(event())

    at_first_start(monkeypatch, handler, handler)
    producer.emit(event())

    assert producer.close(20)
    assert 1 == len(lives)
    assert [1, 2, 3, 4] == arrived(log)


@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize("at", [(interrupt, nothing), (nothing, interrupt)])
def test_an_interrupted_start_loses_nothing_and_starts_nothing_twice(
    at: tuple[Callable[[], None], Callable[[], None]],
    again: bool,  # noqa: FBT001  # of a parameter
    lives: list[Writer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next emit, or the close, starts what did not start."""
    producer, log = memory_producer()
    at_first_start(monkeypatch, *at)
    with pytest.raises(KeyboardInterrupt):
        producer.emit(event())
    for _ in range(again):
        producer.emit(event())

    assert producer.close(20)
    until(lambda: lives)
    assert 1 == len(lives)
    assert list(range(1, 3 + again)) == arrived(log)


def test_a_run_ends_whatever_its_writer_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also SystemExit: told without its text, and nobody waits for ever."""

    def give_up(_: object) -> None:
        raise SystemExit("content")

    monkeypatch.setattr(Writer, "run", give_up)
    producer, _ = memory_producer(strict=False)
    producer.emit(event())
    finished = producer._run.finished

    assert finished.result(20)
    assert 1 == producer.statistics().errors["worker"]
    assert "content" not in str(producer.statistics().last_error)
    assert not producer.close(1)


class StuckRun:
    """A run that neither delivers nor ends."""

    def __init__(self) -> None:
        self.settings = SimpleNamespace(exit_timeout_s=0.1)
        self.finished: Future[bool] = Future()
        self.is_abandoned = False

    def close(self) -> Future[bool]:
        return Future()

    def renew(self) -> None:
        raise AssertionError("this is no fork")

    def abandon(self) -> None:
        self.is_abandoned = True


def test_many_producers_hold_the_exit_up_no_longer_than_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stuck ones have one time to end in, not one each."""
    monkeypatch.setattr("atexit.register", nothing)
    monkeypatch.setattr("os.register_at_fork", nothing)
    process = Process()
    runs: list[Any] = [StuckRun() for _ in range(20)]
    for run in runs:
        process.add(run, run)
    begin = time.monotonic()
    process.close()

    assert time.monotonic() - begin < 3
    assert all(run.is_abandoned for run in runs)


def test_spools_are_looked_for_on_a_machine_that_has_just_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monotonic clock may begin with the machine."""
    filled(tmp_path, 2)
    clock = SimpleNamespace(monotonic=lambda: 5.0, time_ns=time.time_ns)
    monkeypatch.setattr("fleetwake.producer.adoption.time", clock)
    adoption = Adoption(
        lambda: tmp_path,
        ErrorLog(),
        max_age_s=1e10,
        tell=nothing,
        ring=nothing,
    )

    assert adoption.tend()
    assert sum(map(len, adoption.take())) == 10
    adoption.close()
