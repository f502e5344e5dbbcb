"""The guard on a real Kafka: blocks of another process, outages, new topics."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from tests.producing import until_async

from fleetwake.producer.guard import LoopGuard, SessionBlockedError, Verdicts
from fleetwake.producer.guard.follower import Follower, follower_of
from fleetwake.producer.guard.source import follow_verdicts
from fleetwake.schemas.codec import encode_record
from fleetwake.schemas.records import Block, Verdict
from fleetwake.schemas.topics import VERDICTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Kafka, OwnKafka

    from fleetwake.producer.guard import Decision
    from fleetwake.producer.settings import KafkaSettings


async def write(
    settings: KafkaSettings, session_id: str, *reasons: str, tombstone: bool = False
) -> None:
    """Write the verdict of a session: these blocks."""
    blocks = tuple(Block(reason=reason, issuer="test") for reason in reasons)
    now = time.time_ns() // 1000
    value = encode_record(Verdict(session_id=session_id, issued_at=now, blocks=blocks))
    async with AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap_servers, acks="all"
    ) as producer:
        await producer.send_and_wait(
            settings.topic(VERDICTS),
            None if tombstone else value,
            key=session_id.encode(),
        )


@pytest.fixture
def followers() -> Iterator[list[Follower]]:
    """Stopped at the end."""
    started: list[Follower] = []
    yield started
    for follower in started:
        follower.stop(5)


@pytest.fixture
def guards(followers: list[Follower]) -> GuardsOf:
    return GuardsOf(followers)


class GuardsOf:
    """Makes guards, and remembers their followers."""

    def __init__(self, followers: list[Follower]) -> None:
        self._followers = followers

    def __call__(self, settings: KafkaSettings, session_id: str) -> LoopGuard:
        """On the follower that all guards of this process share."""
        guard = LoopGuard(session_id, kafka=settings)
        self._followers.append(follower_of(settings))
        return guard

    def restarted(self, settings: KafkaSettings) -> Follower:
        """As a new process would have it, held until the test ends."""
        follower = Follower(
            lambda: follow_verdicts(settings), verdicts=Verdicts(stale_after_s=3)
        )
        follower.hold()
        self._followers.append(follower)
        return follower


async def ready(guard: LoopGuard) -> None:
    assert await asyncio.to_thread(guard.wait, 20)


_LOOPS = """
import asyncio, sys, time
from aiokafka import AIOKafkaProducer
from fleetwake.schemas.codec import encode_record
from fleetwake.schemas.records import Block, Verdict

async def main(servers, topic):
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        for line in sys.stdin:
            blocks = (Block(reason=line.strip(), issuer="i"),) if line.strip() else ()
            verdict = Verdict(session_id="s-1", issued_at=1, blocks=blocks)
            await producer.send_and_wait(topic, encode_record(verdict), key=b"s-1")
            print(time.time(), flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_block_of_another_process_stops_within_a_second(
    kafka: Kafka, guards: GuardsOf
) -> None:
    """And its release lets go as fast."""
    settings = kafka.settings()
    await kafka.create_topics(settings)
    guard = guards(settings, "s-1")
    await ready(guard)
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            _LOOPS,
            settings.bootstrap_servers,
            settings.topic(VERDICTS),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as loops:
        assert loops.stdin
        assert loops.stdout
        took_s = []
        for reason, expected in [("round", "block"), ("", "allow")] * 5:
            loops.stdin.write(f"{reason}\n")
            loops.stdin.flush()
            written_at = float(await asyncio.to_thread(loops.stdout.readline))
            await until_async(lambda to=expected: guard.check().action == to)
            took_s.append(time.time() - written_at)
        loops.stdin.close()

    assert max(took_s) < 1
    assert guard.check().known


async def test_all_guards_of_a_process_share_a_thread(
    kafka: Kafka, guards: GuardsOf
) -> None:
    """Each answers for its own session; a tombstone releases, too."""
    settings = kafka.settings()
    await kafka.create_topics(settings)
    for number in range(30):
        await write(settings, f"s-{number}", "stop")
    many = [guards(settings, f"s-{number}") for number in range(40)]
    await ready(many[0])

    assert 1 == len({id(follower_of(settings)) for _ in many})
    assert ["block"] * 30 + ["allow"] * 10 == [one.check().action for one in many]
    with pytest.raises(SessionBlockedError), many[0].call("look"):
        pytest.fail("it began")
    await write(settings, "s-0", tombstone=True)
    await until_async(lambda: many[0].check().action == "allow")


async def test_an_outage_keeps_what_was_known_and_says_so(
    own_kafka: OwnKafka, guards: GuardsOf
) -> None:
    """Blocks hold, the rest fails open; what came meanwhile is known after it."""
    settings = own_kafka.settings()
    await own_kafka.create_topics(settings)
    await write(settings, "s-1", "before")
    verdicts = guards.restarted(settings).verdicts
    assert await asyncio.to_thread(verdicts.wait, 20)
    own_kafka.kill()
    await until_async(lambda: not verdicts.check("s-1").known)
    blocked, free = verdicts.check("s-1"), verdicts.check("s-2")

    assert ("block", "before") == blocked[:2]
    assert ("allow", False) == (free.action, free.known)
    assert (free.age_s or 0) > 3
    await own_kafka.start()
    await write(settings, "s-1")
    await write(settings, "s-2", "after")

    def known() -> list[Decision]:
        return [verdicts.check("s-1"), verdicts.check("s-2")]

    await until_async(lambda: [one.action for one in known()] == ["allow", "block"], 60)
    await until_async(lambda: all(one.known for one in known()))
    restarted = guards.restarted(settings).verdicts
    assert await asyncio.to_thread(restarted.wait, 20)
    assert ("block", "after") == restarted.check("s-2")[:2]


async def test_a_topic_that_comes_later_is_found(
    kafka: Kafka, guards: GuardsOf
) -> None:
    """Until then nothing is known, and the reason is told."""
    settings = kafka.settings()
    guard = guards(settings, "s-1")
    await until_async(lambda: guard.statistics().last_error)

    assert not guard.check().known
    assert "does not exist" in str(guard.statistics().last_error)
    await kafka.create_topics(settings)
    await write(settings, "s-1", "stop")
    await until_async(lambda: guard.check().action == "block")


@pytest.mark.parametrize("change", ["more partitions", "made anew"])
async def test_a_topic_that_changes_is_read_anew(
    kafka: Kafka, guards: GuardsOf, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No block of before is kept that the topic no longer has, none is missed."""
    monkeypatch.setattr("fleetwake.producer.kafka._METADATA_MAX_AGE_MS", 2_000)
    monkeypatch.setattr("fleetwake.producer.guard.follower._GIVE_UP_S", 5.0)
    settings = kafka.settings(partitions=1)
    await kafka.create_topics(settings)
    topic = settings.topic(VERDICTS)
    await write(settings, "s-1", "stop")
    await write(settings, "s-1", "stop")
    guard = guards(settings, "s-1")
    await ready(guard)
    assert "block" == guard.check().action
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    if change == "made anew":
        await admin.delete_topics([topic])
    else:
        await admin.create_partitions({topic: NewPartitions(8)})
    await admin.close()
    if change == "made anew":
        await kafka.create_topics(settings)
        await until_async(lambda: guard.check().action == "allow")
    # Not s-1, whose newer verdict would be in another partition than its first.
    for number in range(2, 20):
        await write(settings, f"s-{number}", "new")

    def all_stopped() -> bool:
        verdicts = follower_of(settings).verdicts
        return all(verdicts.check(f"s-{n}").reason == "new" for n in range(2, 20))

    await until_async(all_stopped)
