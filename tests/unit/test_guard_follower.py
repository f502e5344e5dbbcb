"""The thread behind the guards: how it reads, fails, ends, and survives a fork."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING

import pytest
from tests.producing import until

from fleetwake.producer.guard import LoopGuard, Verdicts
from fleetwake.producer.guard.follower import Follower, follower_of
from fleetwake.producer.guard.source import follow_verdicts, read_verdict
from fleetwake.producer.settings import KafkaSettings
from fleetwake.producer.transport import TransportError
from fleetwake.schemas.codec import PackagedSchemas, encode_record
from fleetwake.schemas.errors import UnknownSchemaError
from fleetwake.schemas.records import Block, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from fleetwake.producer.guard.source import Change, Changes

BLOCK = (Block(reason="r", issuer="i"),)


class Source:
    """A topic of verdicts; `fails` is raised by who reads it."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.fails: Exception | None = None
        self.is_behind = False
        self.readings = 0

    async def follow(self) -> AsyncGenerator[Changes]:
        self.readings += 1
        done = 0
        while True:
            if self.fails is not None:
                raise self.fails
            new = self.changes[done:]
            done += len(new)
            yield new, None if self.is_behind else time.monotonic()
            await asyncio.sleep(0.005)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def follower(source: Source) -> Iterator[Follower]:
    follower = Follower(source.follow, linger_s=0.05)
    yield follower
    follower.stop(5)


def action(follower: Follower, session_id: str = "s-1") -> str:
    return follower.verdicts.check(session_id).action


def test_it_follows_blocks_and_releases(source: Source, follower: Follower) -> None:
    """Those that the topic holds when it comes, and those that come."""
    source.changes.append(("s-1", BLOCK))
    held = follower.hold()
    assert follower.verdicts.wait(5)

    assert "block" == action(follower)
    source.changes.append(("s-2", BLOCK))
    until(lambda: action(follower, "s-2") == "block")
    source.changes.append(("s-1", ()))
    until(lambda: action(follower) == "allow")
    del held


def test_nothing_is_known_before_all_was_read(
    source: Source, follower: Follower
) -> None:
    """A block that was read may be released in what was not."""
    source.changes.append(("s-1", BLOCK))
    source.is_behind = True
    held = follower.hold()
    until(lambda: source.readings)

    assert not follower.verdicts.wait(0.05)
    assert "allow" == action(follower)
    source.is_behind = False
    until(lambda: action(follower) == "block")
    del held


def test_what_was_known_holds_until_a_new_reading_is_complete(
    source: Source, follower: Follower
) -> None:
    """A reconnection does not open the brake for an instant."""
    source.changes.append(("s-1", BLOCK))
    held = follower.hold()
    assert follower.verdicts.wait(5)
    source.changes = [("s-2", BLOCK)]
    source.is_behind = True
    source.fails = TransportError("it went away")
    until(lambda: follower.verdicts.last_error == "it went away")
    source.fails = None
    until(lambda: source.readings == 2)

    assert "block" == action(follower)
    source.is_behind = False
    until(lambda: action(follower) == "allow" and action(follower, "s-2") == "block")
    del held


def test_errors_of_others_are_not_quoted(source: Source, follower: Follower) -> None:
    """Only what we wrote goes to a log."""
    source.fails = ValueError("content")
    held = follower.hold()
    until(lambda: follower.verdicts.last_error)

    assert "content" not in str(follower.verdicts.last_error)
    del held


def test_it_ends_when_nobody_holds_it(source: Source, follower: Follower) -> None:
    """Not at once, and it begins again when somebody does."""
    first, second = follower.hold(), follower.hold()
    del first
    until(lambda: source.readings)
    assert follower.is_running
    del second
    gc.collect()
    until(lambda: not follower.is_running)
    held = follower.hold()
    until(lambda: source.readings == 2)

    assert follower.is_running
    del held


def test_a_thread_that_cannot_start_is_no_error(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard fails open, and tries again when it is asked."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        held = follower.hold()
    assert not follower.is_running
    follower.start()

    assert follower.verdicts.wait(5)
    del held


@pytest.mark.parametrize("is_started", [True, False])
def test_an_interrupted_start_is_done_again(
    is_started: bool,  # noqa: FBT001  # of a parameter
    source: Source,
    follower: Follower,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By Ctrl-C, before the thread started or after; there is never a second one."""
    start, before = threading.Thread.start, set(threading.enumerate())

    def interrupted(thread: threading.Thread) -> None:
        follower.start()  # as a signal handler might
        if is_started:
            start(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            follower.hold()
    held = follower.hold()

    assert follower.verdicts.wait(5)
    until(lambda: len(set(threading.enumerate()) - before) == 1)
    assert 1 == source.readings
    del held


def test_a_loop_that_cannot_be_made_is_tried_again(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is out of descriptors for a while gets its verdicts later."""

    def refuse() -> None:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("fleetwake.producer.guard.follower.PrivateLoop", refuse)
        held = follower.hold()
        until(lambda: follower.verdicts.last_error == "OSError")

    assert follower.verdicts.wait(5)
    del held


def test_one_follower_per_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by equal settings; the environment's are read once."""
    monkeypatch.setattr(Follower, "start", lambda _: None)
    here = KafkaSettings(bootstrap_servers="127.0.0.1:1")
    there = KafkaSettings(bootstrap_servers="127.0.0.1:2")

    assert follower_of(here) is follower_of(here.model_copy())
    assert follower_of(here) is not follower_of(there)
    assert follower_of(None) is follower_of(None)


def test_a_guard_without_kafka_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and says that nothing is known."""
    kafka = KafkaSettings(bootstrap_servers="127.0.0.1:9")
    guard = LoopGuard("s-1", kafka=kafka)
    follower = follower_of(kafka)
    begin = time.perf_counter()
    decision = guard.check("look")
    took_s = time.perf_counter() - begin
    until(lambda: guard.statistics().last_error)
    follower.stop(5)

    assert took_s < 0.1
    assert ("allow", False) == (decision.action, decision.known)
    assert "cannot follow fleetwake.verdicts" in str(guard.statistics().last_error)


# Records of the topic


def test_a_record_becomes_its_blocks() -> None:
    """A tombstone none; what cannot be read is told apart from it."""
    schemas = PackagedSchemas()
    value = encode_record(Verdict(session_id="s-1", issued_at=1, blocks=BLOCK))

    assert ("s-1", BLOCK) == read_verdict(b"s-1", value, schemas)
    assert ("s-1", ()) == read_verdict(b"s-1", None, schemas)
    assert ("s-1", None) == read_verdict(b"s-1", value[:-2], schemas)
    assert ("\ufffd", None) == read_verdict(b"\xff", b"nonsense", schemas)
    with pytest.raises(UnknownSchemaError):
        read_verdict(b"s-1", b"\xc3\x01" + bytes(8), schemas)


async def test_an_unknown_schema_is_asked_for_and_then_unreadable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One verdict of a newer service does not stop the others."""
    good = encode_record(Verdict(session_id="s-2", issued_at=1, blocks=BLOCK))

    async def follow_topic(*_: object) -> AsyncGenerator[object]:
        strange = b"\xc3\x01" + bytes(8)
        yield [(b"s-1", strange), (None, good), (b"s-2", good)], 1.0

    monkeypatch.setattr("fleetwake.producer.kafka.follow_topic", follow_topic)
    kafka = KafkaSettings(bootstrap_servers="127.0.0.1:9")

    assert [([("s-1", None), ("s-2", BLOCK)], 1.0)] == [
        one async for one in follow_verdicts(kafka)
    ]


# Processes

_SCRIPT = """
import os, sys, time
from fleetwake.producer.guard import LoopGuard
from fleetwake.producer.guard import follower
from fleetwake.schemas.records import Block
import asyncio

async def source(kafka):
    block = Block(reason=str(os.getpid()), issuer="i")
    while True:
        yield [("s-1", (block,))], time.monotonic()
        await asyncio.sleep(0.01)

follower.follow_verdicts = source

def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
"""


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _SCRIPT + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_follows_on_its_own() -> None:
    """It knows what its parent knew, and soon more; the parent goes on."""
    told = run("""
        guard = LoopGuard("s-1")
        assert guard.wait(10)
        parent = guard.check().reason
        pid = os.fork()
        if pid == 0:
            assert guard.check().reason == parent
            until(lambda: guard.check().reason == str(os.getpid()))
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        time.sleep(0.1)
        assert guard.check().age_s < 0.1
        print("well")
    """)

    assert "well\n" == told


def test_a_process_ends_although_a_guard_is_held() -> None:
    """At once, and in silence."""
    told = run("""
        guard = LoopGuard("s-1")
        assert guard.wait(10)
        begin = time.monotonic()
        import atexit
        atexit._run_exitfuncs()
        print(time.monotonic() - begin < 1)
    """)

    assert "True\n" == told


def test_to_import_the_guard_is_cheap() -> None:
    """Nothing of Kafka or pydantic before the first guard."""
    told = run("""
        print(sorted({"aiokafka", "pydantic"} & sys.modules.keys()))
    """)

    assert "[]\n" == told


def test_verdicts_survive_a_fork_in_the_wrong_moment() -> None:
    """Another thread held the lock, and is not there to free it."""
    verdicts = Verdicts()
    holder = threading.Thread(target=verdicts._lock.acquire)
    holder.start()
    holder.join()
    verdicts.renew()

    assert "allow" == verdicts.check("s-1").action
