"""Schemas that are not in the package: from the schemas topic and a registry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaProducer
from tests.producing import event

from fleetwake.producer import AsyncAuditProducer
from fleetwake.producer.kafka import read_topic
from fleetwake.producer.lookup import NetworkSchemas
from fleetwake.producer.settings import KafkaSettings, RegistrySettings
from fleetwake.schemas.codec import EventEncoder, Schema, decode, schema_of
from fleetwake.schemas.errors import RetriableError, UnsupportedSchemaError
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.topics import SCHEMAS

if TYPE_CHECKING:
    from tests.conftest import Kafka

OURS = schema_of(AuditEvent)
NO_REGISTRY = RegistrySettings(url=None)


def newer_schema(field: str = "invented_later") -> Schema:
    """Our schema with a field more, as a newer producer has it."""
    schema = json.loads(OURS.text)
    schema["fields"].append({"name": field, "type": "string", "default": ""})
    return Schema.parse(json.dumps(schema))


def reference(schema: Schema) -> str:
    return f"fingerprint:{schema.fingerprint.hex()}"


async def publish(
    settings: KafkaSettings, *records: tuple[bytes, bytes | None]
) -> None:
    client = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    async with client:
        for key, value in records:
            await client.send_and_wait(settings.topic(SCHEMAS), value, key=key)


def entry(schema: Schema) -> tuple[bytes, bytes]:
    return schema.fingerprint.hex().encode(), schema.text.encode()


async def test_a_producer_publishes_its_schema_once(kafka: Kafka) -> None:
    """Two producers, many events: one record each, keyed by the fingerprint."""
    settings = kafka.settings()
    await kafka.create_topics(settings)
    for _ in range(2):
        async with AsyncAuditProducer(kafka=settings) as producer:
            for number in range(50):
                producer.emit(event(f"s-{number}"))

    assert [entry(OURS)] * 2 == await read_topic(settings, settings.topic(SCHEMAS))


async def test_a_newer_schema_is_learned_from_the_topic(kafka: Kafka) -> None:
    """An older reader resolves a newer writer, without a registry."""
    settings, newer = kafka.settings(), newer_schema()
    await kafka.create_topics(settings)
    await publish(settings, entry(newer))
    schemas = NetworkSchemas(settings, NO_REGISTRY)
    assert schemas.by_fingerprint(newer.fingerprint) is None

    await schemas.refresh(reference(newer))

    assert newer == schemas.by_fingerprint(newer.fingerprint)
    assert schemas.by_fingerprint(OURS.fingerprint) is not None


async def test_hostile_entries_are_passed_over(
    kafka: Kafka, caplog: pytest.LogCaptureFixture
) -> None:
    """Only a schema under its own fingerprint is believed; the rest is logged."""
    settings, newer = kafka.settings(), newer_schema()
    await kafka.create_topics(settings)
    other = newer_schema("something_else")
    await publish(
        settings,
        (entry(newer)[0], other.text.encode()),
        (entry(other)[0], b"\xff\xfe"),
        (entry(other)[0], b"[" * 100_000),
        (b"not hex", newer.text.encode()),
        (entry(other)[0], None),
    )
    schemas = NetworkSchemas(settings, NO_REGISTRY)

    await schemas.refresh(reference(newer))

    assert schemas.by_fingerprint(newer.fingerprint) is None
    assert schemas.by_fingerprint(other.fingerprint) is None
    assert 4 == len([one for one in caplog.records if "schemas topic" in one.message])


async def test_a_missing_topic_holds_nothing(kafka: Kafka) -> None:
    """Nobody knows the schema: that is an answer, and the record is dead."""
    schemas = NetworkSchemas(kafka.settings(), NO_REGISTRY)

    await schemas.refresh(reference(newer_schema()))

    assert schemas.by_fingerprint(newer_schema().fingerprint) is None


async def test_no_broker_is_no_answer(unused_tcp_port: int) -> None:
    """While the topic cannot be read, the partition waits; nothing is dead."""
    settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{unused_tcp_port}")
    with pytest.raises(RetriableError):
        await NetworkSchemas(settings, NO_REGISTRY).refresh(reference(newer_schema()))


async def test_no_registry_is_no_answer(unused_tcp_port: int) -> None:
    """The same for an id, while the registry is away."""
    registry = RegistrySettings(url=f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(RetriableError):
        await NetworkSchemas(KafkaSettings(), registry).refresh("id:7")


class Answers:
    """A registry that knows what it was given."""

    def __init__(self, texts: dict[int, str]) -> None:
        self.texts = texts
        self.asked: list[int] = []

    def schema_text(self, schema_id: int) -> str | None:
        self.asked.append(schema_id)
        return self.texts.get(schema_id)


def with_registry(texts: dict[int, str]) -> tuple[NetworkSchemas, Answers]:
    schemas, answers = NetworkSchemas(KafkaSettings(), NO_REGISTRY), Answers(texts)
    registry: Any = answers
    schemas._registry = registry
    return schemas, answers


async def test_an_id_is_learned_from_the_registry() -> None:
    """A Confluent frame is decoded after one request."""
    schemas, _ = with_registry({7: OURS.text})
    stamped = event(
        event_id="e",
        source="native",
        source_event_type="x",
        occurred_at=1,
        recorded_at=1,
        producer_id="p",
        sequence=1,
    )
    value = EventEncoder(b"\0\0\0\0\7")(stamped)

    await schemas.refresh("id:7")

    assert stamped == decode(value, schemas)


async def test_what_nobody_knows_is_not_asked_again_at_once() -> None:
    """A flood of senseless ids is not one of requests."""
    schemas, answers = with_registry({})
    for _ in range(5):
        await schemas.refresh("id:9")

    assert [9] == answers.asked
    assert schemas.by_id(9) is None


async def test_a_registered_schema_that_we_do_not_read_is_the_decoders_to_refuse() -> (
    None
):
    """A foreign schema is known, and its records are refused by name."""
    foreign = json.dumps({"type": "record", "name": "Foreign", "fields": []})
    schemas, _ = with_registry({7: foreign})
    await schemas.refresh("id:7")

    with pytest.raises(UnsupportedSchemaError):
        decode(b"\0\0\0\0\7", schemas)


async def test_without_a_registry_an_id_is_unknown() -> None:
    """Nobody can be asked: that is an answer."""
    schemas = NetworkSchemas(KafkaSettings(), NO_REGISTRY)
    await schemas.refresh("id:7")

    assert schemas.by_id(7) is None
