"""The registry client and the Confluent framing, against a registry on loopback."""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import pytest
from tests.producing import event, until

from fleetwake.producer import AuditProducer
from fleetwake.producer.registry import Registry, RegistryError, RegistryRefusedError
from fleetwake.producer.settings import (
    KafkaSettings,
    ProducerSettings,
    RegistrySettings,
)
from fleetwake.producer.testing import MemoryLog, MemoryTransport
from fleetwake.schemas.codec import confluent_header, schema_of, single_object_header
from fleetwake.schemas.errors import ConfigurationError
from fleetwake.schemas.event import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = schema_of(AuditEvent)


class StubRegistry:
    """Answers as told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body: Any = {"id": 7}
        self.headers: dict[str, str] = {}
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        stub = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(size)) if size else None
                asked = (self.command, self.path, dict(self.headers), body)
                stub.asked.append(asked)
                content = stub.body
                if not isinstance(content, bytes):
                    content = json.dumps(content).encode()
                self.send_response(stub.status)
                for name, value in stub.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET  # noqa: N815  # http.server calls it so

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def settings(self, **fields: Any) -> RegistrySettings:
        own = {"url": f"http://{self.address}/base/", "timeout_s": 2.0}
        return RegistrySettings(**own | fields)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def stub() -> Iterator[StubRegistry]:
    with StubRegistry() as registry:
        yield registry


def producer(
    log: MemoryLog,
    registry: RegistrySettings,
    settings: ProducerSettings | None = None,
    *,
    strict: bool = True,
) -> AuditProducer:
    return AuditProducer(
        settings,
        kafka=KafkaSettings(),
        registry=registry,
        strict=strict,
        open_transport=lambda: MemoryTransport(log),
    )


def test_register_posts_the_schema_under_its_subject(stub: StubRegistry) -> None:
    """The path, the body and the answer are those of Confluent's API."""
    assert 7 == Registry(stub.settings()).register("fleetwake.events-value", SCHEMA)

    ((method, path, _, body),) = stub.asked
    assert ("POST", "/base/subjects/fleetwake.events-value/versions") == (method, path)
    assert {"schema": SCHEMA.text, "schemaType": "AVRO"} == body


def test_a_schema_is_found_by_its_id(stub: StubRegistry) -> None:
    """The text as it was registered."""
    stub.body = {"schema": SCHEMA.text}

    assert SCHEMA.text == Registry(stub.settings()).schema_text(7)
    assert ("GET", "/base/schemas/ids/7") == stub.asked[0][:2]


def test_an_id_that_nobody_knows_is_none(stub: StubRegistry) -> None:
    """404 is an answer, not an error."""
    stub.status, stub.body = 404, {"error_code": 40403, "message": "Schema not found"}

    assert Registry(stub.settings()).schema_text(7) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"username": "us/er", "password": "p:w"},
        {"url": "http://us%2Fer:p%3Aw@{}/"},
    ],
    ids=["settings", "url"],
)
def test_basic_authentication(stub: StubRegistry, fields: dict[str, str]) -> None:
    """User and password from the settings, or from the address."""
    given = {name: value.format(stub.address) for name, value in fields.items()}
    Registry(stub.settings(**given)).register("s", SCHEMA)

    token = base64.b64encode(b"us/er:p:w").decode()
    assert f"Basic {token}" == stub.asked[0][2]["Authorization"]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (409, {"message": "incompatible"}, RegistryRefusedError),
        (401, {"message": "who are you"}, RegistryRefusedError),
        (500, {"message": "backend"}, RegistryError),
        (200, {"id": "seven"}, RegistryError),
        (200, {"id": True}, RegistryError),
        (200, [], RegistryError),
        (200, b"<html>", RegistryError),
        (200, b'{"id": 7' + b" " * 2_000_000 + b"}", RegistryError),
        (200, b"[" * 200_000, RegistryError),
    ],
    ids=str,
)
def test_answers_that_are_errors(
    stub: StubRegistry, status: int, body: Any, error: type[Exception]
) -> None:
    """Refused, broken and senseless answers are told apart and never crash."""
    stub.status, stub.body = status, body

    with pytest.raises(RegistryError) as raised:
        Registry(stub.settings()).register("s", SCHEMA)

    assert error is type(raised.value)


def test_a_redirect_is_not_followed(stub: StubRegistry) -> None:
    """The password goes to the host in the settings and to no other."""
    with StubRegistry() as other:
        stub.status, stub.headers = 302, {"Location": f"http://{other.address}/"}
        with pytest.raises(RegistryError):
            Registry(stub.settings(username="u", password="p")).register("s", SCHEMA)

        assert [] == other.asked


def test_nobody_there_is_an_error_without_the_password(unused_tcp_port: int) -> None:
    """The error names the host, not the credentials."""
    url = f"http://user:s3cret@127.0.0.1:{unused_tcp_port}"
    with pytest.raises(RegistryError) as raised:
        Registry(RegistrySettings(url=url)).schema_text(1)

    assert "127.0.0.1" in str(raised.value)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://", "localhost:8081"])
def test_an_address_that_is_none(url: str) -> None:
    """A wrong setting is found at start, and named."""
    with pytest.raises(ConfigurationError, match="SCHEMA_REGISTRY_URL"):
        Registry(RegistrySettings(url=url))


def test_a_wrong_address_is_found_when_the_producer_is_made() -> None:
    """Not in the background, an hour later."""
    with pytest.raises(ConfigurationError, match="SCHEMA_REGISTRY_URL"):
        producer(MemoryLog(), RegistrySettings(url="nowhere"))


def test_with_a_registry_all_records_have_its_id(stub: StubRegistry) -> None:
    """The schema is registered first; not one record has the other framing."""
    log = MemoryLog()
    with producer(log, stub.settings()) as tested:
        for _ in range(10):
            tested.emit(event())

    assert {confluent_header(7)} == {one.value[:5] for one in log.records()}
    assert "/base/subjects/fleetwake.events-value/versions" == stub.asked[0][1]


def test_without_an_answer_events_flow_in_the_other_framing(
    stub: StubRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """After fallback_after_s nobody waits for the registry; it is said once."""
    stub.status = 503
    log = MemoryLog()
    settings = stub.settings(fallback_after_s=0.2)
    with producer(log, settings) as tested:
        tested.emit(event())
        assert tested.flush(20)

    assert {single_object_header(SCHEMA)} == {one.value[:10] for one in log.records()}
    assert 1 == len([one for one in caplog.records if "registry" in one.message])


def test_a_queue_that_is_half_full_does_not_wait_for_the_registry(
    stub: StubRegistry,
) -> None:
    """What is stored in the other framing is not lost; what does not fit would be."""
    stub.status = 503
    log = MemoryLog()
    settings = ProducerSettings(queue_max_events=20)
    with producer(log, stub.settings(fallback_after_s=600), settings) as tested:
        for _ in range(10):
            tested.emit(event())
        assert tested.flush(20)

    assert {single_object_header(SCHEMA)} == {one.value[:10] for one in log.records()}


def test_the_registry_is_used_once_it_answers(
    stub: StubRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that comes late is found; both framings stand in one topic."""
    monkeypatch.setattr("fleetwake.producer.framing._ASK_AGAIN_S", 0.05)
    stub.status = 503
    log = MemoryLog()
    with producer(log, stub.settings(fallback_after_s=0.05)) as tested:
        tested.emit(event())
        assert tested.flush(20)
        stub.status = 200

        def framed() -> bool:
            tested.emit(event())
            return tested.flush(20) and any(
                one.value.startswith(confluent_header(7)) for one in log.records()
            )

        until(framed)

    assert log.records()[0].value.startswith(single_object_header(SCHEMA))


def test_a_close_does_not_wait_for_the_registry(stub: StubRegistry) -> None:
    """A short script ends in time with the registry down, and loses nothing."""
    stub.status = 503
    log = MemoryLog()
    tested = producer(log, stub.settings(fallback_after_s=60))
    tested.emit(event())

    begin = time.monotonic()
    assert tested.close(20)

    assert time.monotonic() - begin < 10
    assert 2 == len(log.records())
