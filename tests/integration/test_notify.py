"""Alerts on a real Kafka, told to a real Alertmanager and a strict server."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import sys
import time
import urllib.request
import weakref
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("httpx", reason="the extra `notify` is not installed")

from tests.conftest import find_ports
from tests.payloads import alert, cloudevent
from tests.receiving import OK, Receiver, status
from tests.running import LearningSchemas

from fleetwake.consumers.notify.notice import Notice, notice_id
from fleetwake.consumers.notify.notify import Notify
from fleetwake.consumers.notify.settings import NotifySettings
from fleetwake.consumers.notify.sinks import make_sink
from fleetwake.consumers.runtime.kafka import (
    KafkaPublisher,
    KafkaSource,
    KafkaTopicReader,
)
from fleetwake.consumers.runtime.runner import Runner
from fleetwake.consumers.runtime.service import OutRecord
from fleetwake.consumers.runtime.settings import RuntimeSettings
from fleetwake.schemas.codec import PackagedSchemas, decode_record, encode_record
from fleetwake.schemas.records import Delivery
from fleetwake.schemas.topics import ALERTS, DELIVERIES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleetwake.producer.settings import KafkaSettings
    from fleetwake.schemas.records import LoopAlert

# Debian's package has the first name, the project's own archive the second.
ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")

PROCESS = Path(__file__).with_name("notify_process.py")

needs_alertmanager = pytest.mark.skipif(
    ALERTMANAGER is None,
    reason="no Alertmanager on PATH; on Debian: apt install prometheus-alertmanager",
)


@asynccontextmanager
async def notifying(kafka: KafkaSettings, sinks: dict[str, Any]) -> AsyncIterator[None]:
    """Notify as one member of its group; killed at the end."""
    given = {"sinks": sinks, "retry_first_s": 0.05}
    schemas = LearningSchemas()
    service = Notify(NotifySettings.model_validate(given), schemas)
    source = KafkaSource(
        kafka,
        service.topics,
        kafka.group("notify"),
        instance_id=None,
        session_timeout_ms=6_000,
    )
    settings = RuntimeSettings(poll_timeout_s=0.05)
    runner = Runner(service, source, schemas, settings, topic_name=kafka.topic)
    running = asyncio.create_task(runner.run())
    try:
        yield
    finally:
        runner.request_stop()
        await running
        for task in service._tasks:
            task.cancel()
        await asyncio.gather(*service._tasks, return_exceptions=True)
        for sender in service._senders:
            await sender.sink.close()


async def publish(kafka: KafkaSettings, *alerts: LoopAlert) -> None:
    publisher = KafkaPublisher(kafka)
    await publisher.publish(
        [
            OutRecord(ALERTS, one.alert_id.encode(), encode_record(one), 2)
            for one in alerts
        ]
    )
    await publisher.stop()


async def deliveries(kafka: KafkaSettings) -> list[Delivery]:
    """Of the partition of `publish`."""
    schemas = PackagedSchemas()
    return [
        decode_record(Delivery, record.value or b"", schemas)
        async for record in KafkaTopicReader(kafka).read(DELIVERIES, 2)
    ]


async def delivered(kafka: KafkaSettings, count: int) -> list[Delivery]:
    async with asyncio.timeout(60):
        while True:
            found = [
                one for one in await deliveries(kafka) if one.outcome == "delivered"
            ]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.1)


async def test_an_alert_goes_from_kafka_to_a_webhook_once(kafka: Any) -> None:
    """With a record of it beside the alert; a restart tells nothing again."""
    settings = kafka.settings()
    await kafka.create_topics(settings)
    check = cloudevent(b"secret")
    async with Receiver(check=check) as receiver:
        sinks = {"hook": {"kind": "webhook", "url": receiver.url, "secret": "secret"}}
        async with notifying(settings, sinks):
            await publish(settings, alert())
            [delivery] = await delivered(settings, 1)
        async with notifying(settings, sinks):
            await publish(settings, alert(), alert(state="resolved"))
            await delivered(settings, 2)
    told = [request.json()["data"]["state"] for request in receiver.requests]

    assert told == ["open", "resolved"]
    assert (delivery.alert_id, delivery.delivery_id, delivery.sink) == (
        alert().alert_id,
        notice_id(alert(), "hook"),
        "hook",
    )


async def test_what_was_not_told_before_a_restart_is_told_after_it(kafka: Any) -> None:
    """The offset in Kafka says what to read again, the deliveries what not to tell."""
    settings = kafka.settings()
    await kafka.create_topics(settings)
    up = False

    async with Receiver() as receiver:

        def answer(n: int) -> bytes:
            told = receiver.taken[n - 1].json()["data"]["alert_id"]
            return OK if up or told == "1" else status(503)

        receiver.answer = answer
        sinks = {"hook": {"kind": "webhook", "url": receiver.url}}
        async with notifying(settings, sinks):
            await publish(settings, *(alert(alert_id=str(n)) for n in range(3)))
            await delivered(settings, 1)
        up = True
        async with notifying(settings, sinks):
            found = await delivered(settings, 3)

    assert sorted(one.alert_id for one in found) == ["0", "1", "2"]


async def test_kills_at_any_instant_lose_nothing_and_repeat_an_id_at_most(
    kafka: Any, tmp_path: Path
) -> None:
    """Each kill cuts off one message at most, and that one comes again as itself."""
    settings = kafka.settings()
    await kafka.create_topics(settings)
    seed = int(os.environ.get("FLEETWAKE_TEST_SEED", time.time_ns() % 10**6))
    chance = random.Random(seed)
    count, kills = 100, 3
    async with Receiver(check=cloudevent(None)) as receiver:
        env = os.environ | {
            "FLEETWAKE_KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "FLEETWAKE_KAFKA_TOPIC_PREFIX": settings.topic_prefix,
            "FLEETWAKE_HOME": str(tmp_path),
            "FLEETWAKE_RUNTIME_HEALTH_PORT": "0",
            # It takes its partitions back at once.
            "FLEETWAKE_RUNTIME_INSTANCE_ID": settings.topic_prefix,
            "FLEETWAKE_NOTIFY_SINKS": json.dumps(
                {"s": {"kind": "webhook", "url": receiver.url, "burst": 1_000}}
            ),
        }
        await publish(settings, *(alert(alert_id=str(n)) for n in range(count)))
        for nth in range(kills + 1):
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(PROCESS), env=env
            )
            last = nth == kills
            before = len(receiver.requests)
            if last:
                await delivered(settings, count)
            else:
                await receiver.until(before + chance.randint(1, 25))
            process.kill()
            await process.wait()
    ids = Counter(one.headers["webhook-id"] for one in receiver.requests)

    repeated = ids.total() - count
    print(f"seed {seed}: {kills} kills, {repeated} repeated")

    assert set(ids) == {notice_id(alert(alert_id=str(n)), "s") for n in range(count)}
    assert repeated <= kills


# A real Alertmanager


@asynccontextmanager
async def alertmanager(folder: Path, receiver: Receiver) -> AsyncIterator[str]:
    """Started, with a webhook of its own for what it would tell people."""
    config = {
        "route": {
            "receiver": "hook",
            "group_by": ["alert_id", "level"],
            "group_wait": "0s",
            "group_interval": "1s",
        },
        "receivers": [
            {
                "name": "hook",
                "webhook_configs": [{"url": receiver.url, "send_resolved": True}],
            }
        ],
    }
    file = folder / "alertmanager.yml"
    file.write_text(json.dumps(config))
    [port] = find_ports(1)
    process = await asyncio.create_subprocess_exec(
        ALERTMANAGER or "",
        f"--config.file={file}",
        f"--storage.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"]},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(30):
            while not await asyncio.to_thread(answers, url + "/-/ready"):
                assert process.returncode is None
                await asyncio.sleep(0.05)
        yield url
    finally:
        process.kill()
        await process.wait()


def answers(url: str) -> bytes | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read() or b"ok"
    except OSError:
        return None


async def firing(url: str) -> dict[str, str]:
    """Alert id to level, of what is active."""
    told = await asyncio.to_thread(answers, url + "/api/v2/alerts")
    return {
        one["labels"]["alert_id"]: one["labels"]["level"]
        for one in json.loads(told or b"[]")
    }


async def fires(url: str, expected: dict[str, str]) -> None:
    async with asyncio.timeout(30):
        while await firing(url) != expected:
            await asyncio.sleep(0.1)


@needs_alertmanager
async def test_an_alert_lives_and_ends_in_a_real_alertmanager(
    kafka: Any, tmp_path: Path
) -> None:
    """Opened, escalated, resolved; and it tells its receivers so."""
    settings = kafka.settings()
    await kafka.create_topics(settings)
    now = time.time_ns() // 1000
    one = alert(first_occurred_at=now, last_occurred_at=now)
    async with Receiver() as receiver, alertmanager(tmp_path, receiver) as url:
        sinks = {"am": {"kind": "alertmanager", "url": url, "resend_every_s": 0.5}}
        async with notifying(settings, sinks):
            await publish(settings, one)
            await fires(url, {one.alert_id: "warning"})
            await publish(
                settings,
                alert(state="escalated", level="critical", first_occurred_at=now),
            )
            await fires(url, {one.alert_id: "critical"})
            # Longer than the end that each request sets: re-sending keeps it open.
            await asyncio.sleep(2.5)
            assert await firing(url) == {one.alert_id: "critical"}
            await publish(settings, alert(state="resolved", level="critical"))
            await fires(url, {})
        async with asyncio.timeout(30):
            while not ended(receiver, "critical"):
                await asyncio.sleep(0.1)

    assert ended(receiver, "warning")


def ended(receiver: Receiver, level: str) -> bool:
    """Whether the Alertmanager has told that an alert of that level is over."""
    return any(
        one["status"] == "resolved" and one["labels"]["level"] == level
        for request in receiver.requests
        for one in request.json()["alerts"]
    )


class Nobody:
    def settled(self, notice: Notice) -> None:
        pass


@needs_alertmanager
async def test_a_real_alertmanager_takes_whatever_an_alert_holds(
    tmp_path: Path,
) -> None:
    """Empty, huge, not printable, from a clock that is ahead or behind."""
    nobody = Nobody()
    strange = [
        alert(alert_id="1", rule="", session_id="", agent_id=None, tool_name=None),
        alert(
            alert_id="2" * 5_000, rule="\x00\u202e\U0001f600" * 500, reason="x" * 10**6
        ),
        alert(alert_id="3", first_occurred_at=0, last_occurred_at=0),
        alert(alert_id="4", first_occurred_at=253_402_300_799_999_999),
        alert(
            alert_id="5", first_occurred_at=253_402_300_799_999_999, state="resolved"
        ),
    ]
    notices = [
        Notice(
            notice_id=notice_id(one, "am"),
            alert=one,
            partition=0,
            offset=0,
            appended_ms=time.time_ns() // 1_000_000,
            owner=weakref.ref(nobody),
        )
        for one in strange
    ]
    async with Receiver() as receiver, alertmanager(tmp_path, receiver) as url:
        given = {
            "sinks": {"am": {"kind": "alertmanager", "url": url}},
            "link": "https://fleet.example/sessions/$session",
        }
        sink = make_sink("am", NotifySettings.model_validate(given))
        answer = await sink.send(notices)
        active = await firing(url)
        await sink.close()

    assert answer.outcome == "delivered"
    assert len(active) == 4
