"""
What becomes of events when the broker, the disk or the agent itself fails.

    make faults        at full length, counts printed
    make test          a short version of each

Accepted are the events that were in the spool, or in Kafka, by the agent's own
statistics; of an agent that was not killed, all that it emitted and that no stated
reason dropped.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.faults.journal import Agent, outcome
from tests.producing import until_async

from fleetwake.producer.spool import spools

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import OwnKafka

    from fleetwake.producer.settings import KafkaSettings
    from fleetwake.producer.spool import SpoolSummary
    from fleetwake.schemas.event import AuditEvent

FULL = bool(os.environ.get("FLEETWAKE_FAULTS_FULL"))
OUTAGE_S = 60.0 if FULL else 4.0
RESTARTS = 10 if FULL else 2
KILLS = 50 if FULL else 6
SEED = int(os.environ.get("FLEETWAKE_FAULTS_SEED", "7"))

pytestmark = pytest.mark.timeout(600)


async def wait_for(agent: Agent) -> None:
    await asyncio.to_thread(agent.process.wait, 180)

    assert agent.process.returncode == 0


def accepted(agent: Agent) -> set[str]:
    """What the agent knew to be on disk or in Kafka; its events go there in order."""
    told = agent.statistics()
    count = told["acknowledged"] + told["spooled"] if told else 0
    return set(agent.emitted()[:count])


def spools_in(folder: Path) -> list[SpoolSummary]:
    return [one for place in (folder / "spool").iterdir() for one in spools(place)]


async def drain(folder: Path, kafka: KafkaSettings) -> None:
    """Start an agent that adopts what the dead have left, until nothing is left."""
    agent = Agent.start(folder, kafka, "drain", count=30_000, per_s=100)
    await until_async(lambda: agent.statistics().get("acknowledged"))
    own = {agent.process.pid}
    # One spool after the other, two or three seconds each.
    await until_async(
        lambda: {one.pid for one in spools_in(folder)} <= own, 30 + 5 * KILLS
    )
    agent.process.terminate()
    await asyncio.to_thread(agent.process.wait)


async def test_a_broker_that_is_away_loses_nothing(
    own_kafka: OwnKafka, tmp_path: Path
) -> None:
    """Stopped under load and started again: all is delivered, in order."""
    settings = own_kafka.settings()
    await own_kafka.create_topics(settings)
    count = int((OUTAGE_S + 4) * 500)
    agent = Agent.start(tmp_path, settings, "a", count=count, per_s=500)
    await until_async(lambda: len(agent.emitted()) > 500)
    await own_kafka.stop()
    before = len(agent.emitted())
    await asyncio.sleep(OUTAGE_S)
    emitted_meanwhile = len(agent.emitted()) - before
    await own_kafka.start()
    await wait_for(agent)

    found, _ = await outcome(
        "broker stopped",
        settings,
        [agent],
        set(agent.emitted()),
        seconds=OUTAGE_S,
        emitted_meanwhile=emitted_meanwhile,
    )
    found.tell()

    # At its pace, as if nothing were: 500 a second, and some slack.
    assert emitted_meanwhile > 350 * OUTAGE_S
    assert (count, 0, {}, 0) == (
        found.delivered,
        found.lost,
        found.dropped,
        found.out_of_order,
    )


async def test_a_broker_that_is_killed_again_and_again_loses_nothing(
    own_kafka: OwnKafka, tmp_path: Path
) -> None:
    """Killed and restarted under load: duplicates at most, with the same event_id."""
    settings = own_kafka.settings()
    await own_kafka.create_topics(settings)
    agent = Agent.start(tmp_path, settings, "a", count=6_000 * RESTARTS, per_s=1_000)
    for nth in range(RESTARTS):
        await until_async(lambda nth=nth: len(agent.emitted()) > 4_000 * nth + 1_000)
        own_kafka.kill()
        await own_kafka.start()
    await wait_for(agent)

    found, _ = await outcome(
        "broker killed", settings, [agent], set(agent.emitted()), kills=RESTARTS
    )
    found.tell()

    assert (6_000 * RESTARTS, 0, {}, 0) == (
        found.delivered,
        found.lost,
        found.dropped,
        found.after_dedup,
    )


async def test_an_agent_killed_at_any_point_loses_nothing_that_was_accepted(
    own_kafka: OwnKafka, tmp_path: Path
) -> None:
    """Killed -9 at random points, Kafka there or not: the next process delivers it."""
    settings = own_kafka.settings()
    await own_kafka.create_topics(settings)
    rng = random.Random(SEED)
    agents: list[Agent] = []
    for nth in range(KILLS):
        if nth == KILLS // 2:
            await own_kafka.stop()
        agent = Agent.start(tmp_path, settings, f"k{nth}", count=5_000, per_s=2_000)
        await until_async(agent.emitted)
        await asyncio.sleep(rng.uniform(0.0, 0.8))
        agent.process.kill()
        await asyncio.to_thread(agent.process.wait)
        agents.append(agent)
    await own_kafka.start()
    await drain(tmp_path, settings)

    sure = set().union(*map(accepted, agents))
    found, _ = await outcome(
        "agent killed", settings, agents, sure, kills=KILLS, seed=SEED
    )
    found.tell()

    assert len(sure) > 50 * KILLS
    assert (0, 0) == (found.lost, found.after_dedup)


def told_lost(events: list[AuditEvent]) -> int:
    """How many drops the gap events tell of."""
    gaps = [one for one in events if one.event_type == "gap"]
    return sum(int(one.attributes["dropped"]) for one in gaps)


def missing(events: list[AuditEvent]) -> int:
    """Sequences that are not there below the highest of each run."""
    runs: dict[tuple[str, str], set[int]] = {}
    for one in events:
        runs.setdefault((one.producer_id, one.session_id), set()).add(one.sequence)
    return sum(max(numbers) - len(numbers) for numbers in runs.values())


@pytest.mark.parametrize("on_full", ["drop_newest", "drop_oldest"])
async def test_a_full_spool_drops_by_its_policy_and_says_which(
    own_kafka: OwnKafka, tmp_path: Path, on_full: str
) -> None:
    """Every drop is counted by reason and named by a gap event; the rest arrives."""
    settings = own_kafka.settings()
    await own_kafka.create_topics(settings)
    await own_kafka.stop()
    agent = Agent.start(
        tmp_path,
        settings,
        "full",
        count=9_000,
        per_s=2_000,
        on_full=on_full,
        spool_max_bytes=2 * 1024 * 1024,
        queue_max_bytes=512 * 1024,
    )
    await until_async(lambda: agent.statistics().get("dropped"))
    await own_kafka.start()
    await wait_for(agent)

    dropped = sum(agent.statistics()["dropped"].values())
    found, events = await outcome(
        f"spool full, {on_full}", settings, [agent], set(agent.emitted())
    )
    found.further = {"told": told_lost(events), "missing": missing(events)}
    found.tell()
    first, last = "full-0", "full-8999"
    ids = {one.event_id for one in events}

    # Gap events that found no room either are among the dropped, and told later.
    assert 100 < found.lost <= dropped
    assert dropped == found.further["told"] == found.further["missing"]
    assert found.emitted == found.delivered + found.lost
    assert {"drop_newest": first, "drop_oldest": last}[on_full] in ids
    assert (first in ids) == (on_full == "drop_newest")


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size there")
async def test_a_full_disk_is_no_failure_of_the_agent(
    own_kafka: OwnKafka, tmp_path: Path
) -> None:
    """The disk fills up while the broker is away: counted drops, no exception."""
    settings = own_kafka.settings()
    await own_kafka.create_topics(settings)
    await own_kafka.stop()
    agent = Agent.start(
        tmp_path,
        settings,
        "disk",
        count=9_000,
        per_s=2_000,
        limit=1_500_000,
        queue_max_events=2_000,
    )
    await until_async(lambda: agent.statistics().get("dropped"))
    await own_kafka.start()
    await wait_for(agent)

    told: dict[str, Any] = agent.statistics()
    dropped = sum(told["dropped"].values())
    found, events = await outcome(
        "disk full", settings, [agent], set(agent.emitted()), errors=told["errors"]
    )
    found.further |= {"told": told_lost(events), "missing": missing(events)}
    found.tell()

    assert told["errors"]["spool"] >= 1
    assert 0 < found.lost <= dropped
    assert dropped == found.further["told"] == found.further["missing"]
    assert found.emitted == found.delivered + found.lost
