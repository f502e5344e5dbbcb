"""What is said of a Kafka that does not answer, and how often it is asked."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from tests.certificates import Authority

from fleetwake.consumers.cli import cluster
from fleetwake.consumers.cli.exits import UnreachableError
from fleetwake.consumers.runtime import kafka as runtime_kafka
from fleetwake.consumers.runtime import kafka_admin, kafka_client
from fleetwake.consumers.runtime.kafka import KafkaPublisher, KafkaSource
from fleetwake.consumers.runtime.service import OutRecord
from fleetwake.producer import kafka as producer_kafka
from fleetwake.producer import obstacle
from fleetwake.producer.kafka import KafkaTransport
from fleetwake.producer.loop import run_loop
from fleetwake.producer.obstacle import Obstacle, find_obstacle, last_obstacle
from fleetwake.producer.settings import KafkaSettings
from fleetwake.producer.transport import TransportError
from fleetwake.schemas.errors import RetriableError
from fleetwake.schemas.topics import EVENTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

SOON_S = 0.1


class Silent:
    """Listens, takes every connection, and says nothing."""

    def __init__(self, port: int) -> None:
        self.settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}")
        self.connections = 0

    async def take(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Until the other side has enough."""
        self.connections += 1
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()


@pytest.fixture
async def silent(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Silent]:
    """As a host that is off, or half of it; nobody waits for it for long."""
    for module, name in (
        (obstacle, "_PATIENCE_S"),
        (producer_kafka, "_START_S"),
        (runtime_kafka, "_START_S"),
    ):
        monkeypatch.setattr(module, name, SOON_S)
    monkeypatch.setattr(obstacle, "_last", ())
    silent = Silent(unused_tcp_port)
    async with await asyncio.start_server(silent.take, "127.0.0.1", unused_tcp_port):
        yield silent


class Holding:
    """Speaks TLS, and never lets a connection go: it does not answer its end."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        own = authority.issue("broker", "127.0.0.1")
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(own.both)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._held: list[ssl.SSLSocket] = []
        self._thread = threading.Thread(target=self._take)
        self._thread.start()
        self.port: int = self._listener.getsockname()[1]
        self.settings = KafkaSettings(
            bootstrap_servers=f"127.0.0.1:{self.port}",
            security_protocol="SSL",
            ssl_cafile=authority.certificate,
        )

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._held.append(self._tls.wrap_socket(connection, server_side=True))

    def clients(self) -> int:
        """Sockets of this process that are still open to it."""
        ends = [one.raddr for one in psutil.Process().net_connections("tcp4")]
        return sum(bool(end) and end.port == self.port for end in ends)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for connection in self._held:
            connection.close()


@pytest.fixture
def holding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Holding]:
    """As a broker that is busy, or frozen."""
    for name in ("_PATIENCE_S", "_CLOSE_S"):
        monkeypatch.setattr(obstacle, name, SOON_S)
    holding = Holding(tmp_path)
    yield holding
    holding.close()


async def test_a_look_leaves_no_socket_open(holding: Holding) -> None:
    """Whoever looks may end right after it."""
    found = await find_obstacle(holding.settings)

    assert "no Kafka answers" in str(found)
    assert 0 == holding.clients()


def test_a_command_leaves_no_socket_open(holding: Holding) -> None:
    """Not even one that a library has closed and forgotten."""
    tls = ssl.create_default_context(cafile=holding.settings.ssl_cafile)

    async def forget() -> int:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(
            asyncio.Protocol, "127.0.0.1", holding.port, ssl=tls
        )
        transport.close()
        return holding.clients()

    assert 1 == run_loop(forget())
    assert 0 == holding.clients()


async def test_a_producer_says_that_a_host_does_not_answer(silent: Silent) -> None:
    """Before it is given up on: aiokafka itself waits for half a minute."""
    transport = KafkaTransport(silent.settings)

    with pytest.raises(TransportError, match="no Kafka answers at 127"):
        await transport.start()
    await transport.stop()


async def test_a_service_says_that_a_host_does_not_answer(silent: Silent) -> None:
    """It tries again, and hears SIGTERM in between."""
    source = KafkaSource(
        silent.settings, (EVENTS,), "g", instance_id=None, session_timeout_ms=6_000
    )

    with pytest.raises(RetriableError, match="no Kafka answers at 127"):
        await source.start()


async def test_a_kafka_that_is_away_is_not_asked_twice_as_often(silent: Silent) -> None:
    """Whoever tries for ever asks why only every 30 s; for other settings anew."""
    found = [await last_obstacle(silent.settings) for _ in range(5)]
    asked = silent.connections
    other = silent.settings.model_copy(update={"topic_prefix": "b."})
    await last_obstacle(other)

    assert "no Kafka answers" in str(found[0])
    assert found[1:] == found[:-1]
    assert (1, 2) == (asked, silent.connections)


@pytest.mark.parametrize("host", ["..", "x" * 300])
async def test_a_name_that_is_none_is_said(host: str) -> None:
    """Not that it hangs up."""
    found = await find_obstacle(KafkaSettings(bootstrap_servers=f"{host}:9092"))

    assert f"nobody knows where {host}:9092 is" == str(found)


@pytest.mark.parametrize(("stays", "tries"), [(True, 1), (False, 3)])
async def test_patience_ends_where_waiting_does_not_help(
    monkeypatch: pytest.MonkeyPatch, *, stays: bool, tries: int
) -> None:
    """A wrong password is said at once; a broker that is about to start is awaited."""
    tried: list[KafkaSettings] = []

    async def describe(kafka: KafkaSettings) -> list[Any]:
        tried.append(kafka)
        if len(tried) < 3:
            raise RetriableError("away")
        return []

    async def find(_: KafkaSettings) -> Obstacle:
        return Obstacle("what is wrong", "what to do", stays)

    monkeypatch.setattr(kafka_admin, "describe_topics", describe)
    monkeypatch.setattr(obstacle, "find_obstacle", find)
    monkeypatch.setattr(cluster, "_AGAIN_S", 0.01)
    asked = cluster.reach(KafkaSettings(), 30.0, patient=True)
    if stays:
        with pytest.raises(UnreachableError, match="what is wrong: what to do"):
            await asked
    else:
        assert [] == await asked

    assert len(tried) == tries


async def test_files_that_are_exchanged_do_not_end_a_service(tmp_path: Path) -> None:
    """Half of a new pair of files is a reason to try again, not a wrong setting."""
    kafka = KafkaSettings(
        security_protocol="SASL_PLAINTEXT",
        sasl_username="u",
        sasl_password_file=tmp_path / "gone",
    )
    source = KafkaSource(
        kafka, (EVENTS,), "g", instance_id=None, session_timeout_ms=6_000
    )

    with pytest.raises(RetriableError, match="SASL_PASSWORD_FILE"):
        await source.start()
    with pytest.raises(RetriableError, match="SASL_PASSWORD_FILE"):
        async with kafka_client.reading(kafka):
            pass
    with pytest.raises(RetriableError, match="SASL_PASSWORD_FILE"):
        async with kafka_client.administering(kafka):
            pass


async def test_a_client_that_did_not_start_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each attempt of a flush makes a new one: what is left of it would add up."""
    told: list[str] = []

    class Client:
        def __init__(self, **_: object) -> None:
            told.append("made")

        async def start(self) -> None:
            raise OSError("advertised elsewhere")

        async def stop(self) -> None:
            told.append("stopped")

    monkeypatch.setattr(runtime_kafka, "AIOKafkaProducer", Client)
    publisher = KafkaPublisher(KafkaSettings())
    for _ in range(2):
        with pytest.raises(RetriableError):
            await publisher.publish([OutRecord(EVENTS, b"k", b"v")])

    assert ["made", "stopped", "made", "stopped"] == told
