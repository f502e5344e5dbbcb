"""TLS and SASL, as clusters have them, on a real Kafka."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Final, Self

import psutil
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs
from tests.certificates import Authority
from tests.conftest import find_ports
from tests.producing import event, published, until_async
from tests.rights import Rule, allow, creating, documented
from tests.running import LearningSchemas, Recorder, Running
from tests.secured import (
    AGENT,
    PASSPHRASE,
    PASSWORD,
    SERVICE,
    SecuredKafka,
    environment,
)
from typer.testing import CliRunner

from fleetwake.consumers.broker.config import HOST
from fleetwake.consumers.cli import app
from fleetwake.consumers.runtime.kafka import KafkaSource
from fleetwake.consumers.runtime.runner import Runner
from fleetwake.consumers.runtime.settings import RuntimeSettings
from fleetwake.consumers.supervisor import read_state
from fleetwake.producer import AsyncAuditProducer, AuditProducer
from fleetwake.producer.guard import LoopGuard
from fleetwake.producer.guard.follower import Follower, follower_of
from fleetwake.producer.guard.source import follow_verdicts
from fleetwake.producer.obstacle import find_obstacle
from fleetwake.schemas.errors import FleetwakeError
from fleetwake.schemas.topics import EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleetwake.producer.settings import KafkaSettings

SECRETS: Final = (PASSWORD, PASSPHRASE, "SaslAuthenticateRequest", "PRIVATE KEY")
TOKEN: Final = "a-token-of-the-tests-0123456789"
# A proxy before a broker that is not there yet hangs up too, and brokers may be away.
MAY_PASS: Final = {"address", "plain text to SASL", "TLS to plain text", "TLS to SASL"}
CLI: Final = (sys.executable, "-m", "fleetwake.consumers.cli")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """One broker for all of these tests."""
    secured = SecuredKafka(tmp_path_factory.mktemp("secured"))
    asyncio.run(secured.broker.start())
    try:
        yield secured
    finally:
        secured.broker.kill()


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Options of commands go into the environment: put it back."""
    saved = dict(os.environ)
    level = logging.getLogger("aiokafka").level
    monkeypatch.chdir(tmp_path)
    os.environ["FLEETWAKE_HOME"] = str(tmp_path / "home")
    os.environ.pop("KAFKA_BOOTSTRAP_SERVERS", None)
    yield
    os.environ.clear()
    os.environ.update(saved)
    logging.getLogger("aiokafka").setLevel(level)


def secrets_in(text: str) -> list[str]:
    return [one for one in SECRETS if one in text]


def of_cluster(secured: SecuredKafka, kind: str) -> KafkaSettings:
    return secured.mtls() if kind == "mtls" else secured.sasl(kind)


def consuming(kafka: KafkaSettings) -> Running:
    """A service that notes what it reads."""
    source = KafkaSource(
        kafka, (EVENTS,), kafka.group("g"), instance_id=None, session_timeout_ms=6_000
    )
    service, schemas = Recorder(), LearningSchemas()
    runner = Runner(service, source, schemas, RuntimeSettings(), topic_name=kafka.topic)
    return Running(service, runner, schemas, source)


@pytest.mark.parametrize("kind", ["PLAIN", "SCRAM-SHA-512", "mtls"])
async def test_events_go_through(
    secured: SecuredKafka, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A producer delivers, a service consumes and commits; no log has a secret."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="aiokafka")
    kafka = of_cluster(secured, kind)
    await secured.create_topics(kafka)
    producer = AsyncAuditProducer(kafka=kafka)
    for _ in range(20):
        producer.emit(event())
    delivered = await producer.flush(20)
    await producer.close()
    async with consuming(kafka) as running:
        await running.until(lambda: len(running.service.decoded) >= 20)

    assert delivered
    assert "aiokafka" in caplog.text
    assert secrets_in(caplog.text + repr(kafka)) == []


def wrong(secured: SecuredKafka, name: str) -> tuple[KafkaSettings, str]:
    """Settings that are not this cluster's, and what is to be said of them."""
    stranger = Authority(secured.folder, "stranger")
    lost = stranger.issue("lost")
    old = secured.authority.issue("old", days=-1)
    protocol = "FLEETWAKE_KAFKA_SECURITY_PROTOCOL"
    other_client = {"ssl_key_password": None}
    kinds: dict[str, tuple[KafkaSettings, str]] = {
        "password": (secured.sasl(sasl_password="no"), "refuses user or password"),
        "PLAIN password": (
            secured.sasl("PLAIN", sasl_password="no"),
            "refuses user or password",
        ),
        "mechanism": (secured.sasl("SCRAM-SHA-256"), "SASL_MECHANISM"),
        "CA": (secured.sasl(ssl_cafile=stranger.certificate), "SSL_CAFILE"),
        "system's CA": (secured.sasl(ssl_cafile=None), "SSL_CAFILE"),
        "host": (secured.tls("other"), "for another host"),
        "address": (
            secured.tls("other", ssl_check_hostname=False),
            "advertised.listeners",
        ),
        "no certificate": (secured.tls("mtls"), "SSL_CERTFILE"),
        "stranger's certificate": (
            secured.mtls(
                ssl_certfile=lost.certificate, ssl_keyfile=lost.key, **other_client
            ),
            "SSL_CERTFILE",
        ),
        "expired certificate": (
            secured.mtls(ssl_certfile=old.both, ssl_keyfile=None, **other_client),
            "SSL_CERTFILE",
        ),
        "plain text to TLS": (
            secured.settings(bootstrap_servers=secured.at["tls"]),
            f"answers in TLS: see {protocol}, which is PLAINTEXT",
        ),
        "plain text to SASL": (
            secured.settings(bootstrap_servers=secured.at["clear"]),
            "may want user and password",
        ),
        "TLS to plain text": (
            secured.tls(bootstrap_servers=secured.bootstrap_servers),
            f"does not answer in TLS: see {protocol}, which is SSL",
        ),
        "TLS to SASL": (secured.tls("sasl"), "may want user and password"),
        "SASL to TLS": (
            secured.sasl(bootstrap_servers=secured.at["tls"]),
            "wants no user and password",
        ),
    }
    return kinds[name]


@pytest.mark.parametrize(
    "name",
    [
        *("password", "PLAIN password", "mechanism", "CA", "system's CA", "host"),
        *("address", "no certificate", "stranger's certificate"),
        *("expired certificate", "plain text to TLS", "plain text to SASL"),
        *("TLS to plain text", "TLS to SASL", "SASL to TLS"),
    ],
)
async def test_what_is_wrong_is_said(secured: SecuredKafka, name: str) -> None:
    """With what to do about it, in one line, and no secret."""
    kafka, told = wrong(secured, name)
    found = await find_obstacle(kafka)

    assert told in str(found)
    assert found is not None
    assert found.advice
    assert found.stays == (name not in MAY_PASS)
    assert secrets_in(f"{found}{kafka!r}") == []


@pytest.mark.parametrize(
    "name", ["password", "CA", "address", "plain text to TLS", "TLS to plain text"]
)
def test_a_command_ends_and_says_why(secured: SecuredKafka, name: str) -> None:
    """Exit code 4 and one line: neither a traceback nor a hang."""
    kafka, told = wrong(secured, name)
    os.environ |= environment(kafka)
    shown = CliRunner().invoke(app, ["topics"])
    (line,) = shown.output.splitlines()

    assert shown.exit_code == 4
    assert told in line
    assert secrets_in(line) == []


async def test_events_wait_for_the_right_password(
    secured: SecuredKafka, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent is told once and never held up; then all arrive, without a restart."""
    caplog.set_level(logging.INFO)
    file = tmp_path / "password"
    file.write_text("wrong\n")
    kafka = secured.sasl(sasl_password=None, sasl_password_file=file)
    right = secured.settings(topic_prefix=kafka.topic_prefix)
    await secured.create_topics(right)
    producer = AuditProducer(kafka=kafka)
    longest_s = 0.0
    for n in range(200):
        begin = time.perf_counter()
        producer.emit(event(f"s-{n % 7}"))
        longest_s = max(longest_s, time.perf_counter() - begin)
    await until_async(lambda: producer.statistics().last_error)
    before = producer.statistics()
    file.write_text(PASSWORD + "\n")
    delivered = await asyncio.to_thread(producer.flush, 30)
    after = producer.statistics()
    producer.close()
    arrived = [one for some in (await published(right)).values() for one in some]

    assert longest_s < 0.5
    assert "refuses user or password" in (before.last_error or "")
    assert (200, {}) == (before.queued, before.dropped)
    assert delivered
    assert (200, {}) == (after.acknowledged, after.dropped)
    assert {f"s-{n}" for n in range(7)} == {one.session_id for one in arrived}
    assert [one.message for one in caplog.records if "refuses" in one.message][1:] == []
    assert secrets_in(caplog.text) == []


async def test_a_guard_says_why_it_knows_nothing(secured: SecuredKafka) -> None:
    """It allows, as with any Kafka that is away."""
    kafka = secured.sasl(sasl_password="no")
    follower = Follower(lambda: follow_verdicts(kafka))
    hold = follower.hold()
    await until_async(lambda: follower.verdicts.last_error)
    follower.stop(5)
    del hold

    assert "refuses user or password" in (follower.verdicts.last_error or "")


async def test_a_service_waits_for_the_right_password(
    secured: SecuredKafka, tmp_path: Path
) -> None:
    """It says why it waits, and begins without being started again."""
    file = tmp_path / "password"
    file.write_text("wrong")
    kafka = secured.sasl(sasl_password=None, sasl_password_file=file)
    right = kafka.model_copy(update={"sasl_password": SecretStr(PASSWORD)})
    await secured.create_topics(right)
    async with AsyncAuditProducer(kafka=right) as producer:
        producer.emit(event())
    with capture_logs() as log:
        async with consuming(kafka) as running:
            await running.until(lambda: bool(log))
            file.write_text(PASSWORD)
            await running.until(lambda: bool(running.service.decoded))

    assert "source.retried" == log[0]["event"]
    assert "refuses user or password" in log[0]["why"]
    assert secrets_in(str(log)) == []


async def test_a_producer_needs_the_rights_that_are_documented(
    secured: SecuredKafka,
) -> None:
    """It says which one is missing, and goes on once it is given."""
    kafka = secured.sasl("PLAIN", sasl_username=AGENT)
    others = secured.settings(topic_prefix=kafka.topic_prefix)
    await secured.create_topics(others)
    rules = documented("producer", kafka)
    of_events = [one for one in rules if one.name == kafka.topic(EVENTS)]
    producer = AsyncAuditProducer(kafka=kafka)
    producer.emit(event())
    await until_async(lambda: producer.statistics().last_error)
    without_any = producer.statistics().last_error
    await allow(others, AGENT, {*rules} - {*of_events})
    await until_async(lambda: producer.statistics().last_error != without_any)
    without_events = producer.statistics().last_error
    await allow(others, AGENT, of_events)
    delivered = await producer.flush(20)
    errors = producer.statistics().errors
    await producer.close()

    assert "has no right to any topic that we write" in (without_any or "")
    assert f"has no right to topic {kafka.topic(EVENTS)}" in (without_events or "")
    assert delivered
    assert {"delivery"} == set(errors)


async def test_a_service_says_which_right_it_lacks(secured: SecuredKafka) -> None:
    """It does not wait in silence for records that it may not read."""
    kafka = secured.sasl("PLAIN", sasl_username=SERVICE)
    others = secured.settings(topic_prefix=kafka.topic_prefix)
    await secured.create_topics(others)
    topic, group = kafka.topic(EVENTS), kafka.group("g")
    with capture_logs() as log:
        async with consuming(kafka) as running:
            await running.until(lambda: bool(log))
            await allow(others, SERVICE, [Rule.topic(topic, "Read")])
            with pytest.raises(FleetwakeError) as caught:
                await running.ended()

    assert "source.retried" == log[0]["event"]
    assert f"has no right to topic {topic}" in log[0]["why"]
    assert f"has no right to group {group}" in str(caught.value)


class Up:
    """`fleetwake up loops fleet` on a cluster that is there."""

    def __init__(self, kafka: KafkaSettings, home: Path) -> None:
        self.home = home
        self.log = home / "up.log"
        self._page = f"http://{HOST}:{find_ports(1)[0]}"
        own = {
            "FLEETWAKE_HOME": str(home),
            "FLEETWAKE_FLEET_PORT": self._page.rpartition(":")[2],
            "FLEETWAKE_FLEET_TOKEN": TOKEN,
            "FLEETWAKE_RUNTIME_HEALTH_PORT": "0",
        }
        home.mkdir()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                (*CLI, "up", "loops", "fleet", "--debug"),
                env=os.environ | environment(kafka) | own,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        finally:
            self._process.kill()

    async def until_ready(self) -> None:
        await until_async(lambda: "all is ready" in self.log.read_text(), 100)

    def block(self, session_id: str) -> None:
        """As somebody does on the page."""
        asked = {"action": "block", "session_id": session_id, "by": "a", "reason": "b"}
        request = urllib.request.Request(
            f"{self._page}/api/commands",
            json.dumps(asked).encode(),
            {"Authorization": f"Bearer {TOKEN}"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 202

    def told(self) -> str:
        """Everything that others of the machine may see of it."""
        state = read_state(self.home)
        assert state is not None
        texts = [one.read_text() for one in self.home.rglob("*.log")]
        for one in state.processes:
            texts.append(" ".join(psutil.Process(one.pid).cmdline()))
            url = (one.ready_url or "").replace("/readyz", "/metrics")
            with urllib.request.urlopen(url, timeout=10) as answer:
                texts.append(answer.read().decode())
        return "\n".join(texts)


async def test_a_fleet_works_on_a_cluster_with_passwords(
    secured: SecuredKafka, tmp_path: Path
) -> None:
    """
    Topics, doctor, services, page and guard, with the documented rights alone.

    Nobody else can read the password.
    """
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    kafka = secured.sasl(
        "PLAIN", sasl_username=SERVICE, sasl_password=None, sasl_password_file=file
    )
    rules = [*creating(kafka)]
    for who in ("loops", "fleet", "guard"):
        rules += documented(who, kafka)
    await allow(secured.settings(), SERVICE, rules)
    os.environ |= environment(kafka)
    with Up(kafka, tmp_path / "up") as up:
        await up.until_ready()
        guard = LoopGuard("s-1", kafka=kafka)
        await asyncio.to_thread(guard.wait, 20)
        allowed = guard.check()
        await asyncio.to_thread(up.block, "s-1")
        await until_async(lambda: guard.check().action == "block")
        shown = await asyncio.to_thread(CliRunner().invoke, app, ["doctor", "--json"])
        told = await asyncio.to_thread(up.told)
    await asyncio.to_thread(follower_of(kafka).stop, 5)
    checks = {one["name"]: one["verdict"] for one in json.loads(shown.stdout)}

    assert (True, "allow") == (allowed.known, allowed.action)
    assert ("ok", "ok") == (checks["broker"], checks["topics"])
    assert "fleetwake_" in told
    assert "run loops" in told
    assert secrets_in(told + shown.output) == []
    assert "Traceback" not in told
    assert "no right" not in told
