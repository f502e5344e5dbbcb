"""The schemas of the network: those of the schemas topic and of a registry."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from fleetwake.producer.kafka import read_topic
from fleetwake.producer.registry import Registry, RegistryError
from fleetwake.producer.settings import RegistrySettings
from fleetwake.producer.transport import TopicMissingError, TransportError
from fleetwake.schemas.codec import PackagedSchemas, Schema
from fleetwake.schemas.errors import RetriableError, UnsupportedSchemaError
from fleetwake.schemas.topics import SCHEMAS

if TYPE_CHECKING:
    from fleetwake.producer.settings import KafkaSettings

__all__ = ["NetworkSchemas"]

logger = logging.getLogger("fleetwake.producer")

_ASK_AGAIN_S: Final = 60.0
_MAX_SCHEMAS: Final = 10_000


class NetworkSchemas:
    """
    A `SchemaLookup`: packaged schemas first, then what `refresh` has learned.

    Look-ups answer from memory, from any thread; `refresh` belongs to one event loop.
    What comes from the topic is believed only if its fingerprint is that of its key.

    Raises:
        ConfigurationError: the registry's address is not usable.
    """

    def __init__(
        self, kafka: KafkaSettings, registry: RegistrySettings | None = None
    ) -> None:
        settings = registry or RegistrySettings()
        self._kafka = kafka
        self._registry = Registry(settings) if settings.url else None
        self._packaged = PackagedSchemas()
        self._by_fingerprint: dict[bytes, Schema] = {}
        self._by_id: dict[int, Schema] = {}
        self._unknown: dict[str, float] = {}

    def by_fingerprint(self, fingerprint: bytes, /) -> Schema | None:
        """Find by the eight bytes of a single-object frame."""
        known = self._packaged.by_fingerprint(fingerprint)
        return known or self._by_fingerprint.get(fingerprint)

    def by_id(self, schema_id: int, /) -> Schema | None:
        """Find by the id of a Confluent frame."""
        return self._by_id.get(schema_id)

    async def refresh(self, *references: str) -> None:
        """
        Ask for what the `reference` of each `UnknownSchemaError` names.

        The topic is read once for all of them. Nothing happens where nobody knows one;
        then it is not asked for again for 60 s, so that a flood of senseless records
        does not become one of requests.

        Raises:
            RetriableError: the topic or the registry cannot be asked now.
        """
        now = time.monotonic()
        due = [
            one.partition(":")
            for one in references
            if now - self._unknown.get(one, -_ASK_AGAIN_S) >= _ASK_AGAIN_S
        ]
        if any(kind != "id" for kind, _, _ in due):
            await self._read_topic()
        for kind, colon, name in due:
            if kind == "id":
                found = await self._ask_registry(int(name))
            else:
                found = self.by_fingerprint(bytes.fromhex(name)) is not None
            if not found:
                if len(self._unknown) >= _MAX_SCHEMAS:
                    self._unknown.clear()
                self._unknown[kind + colon + name] = now

    async def _ask_registry(self, schema_id: int) -> bool:
        if self._registry is None:
            return False
        try:
            text = await asyncio.to_thread(self._registry.schema_text, schema_id)
        except RegistryError as error:
            raise RetriableError(str(error), after_s=5.0) from error
        if text is None or len(self._by_id) >= _MAX_SCHEMAS:
            return False
        # Not parsed here: a schema that we cannot read is the decoder's to refuse.
        self._by_id[schema_id] = Schema(f"id:{schema_id}", text, b"")
        return True

    async def _read_topic(self) -> None:
        topic = self._kafka.topic(SCHEMAS)
        try:
            records = await read_topic(self._kafka, topic)
        except TopicMissingError:
            return
        except TransportError as error:
            raise RetriableError(str(error), after_s=5.0) from error
        for key, value in records:
            if key and value and len(self._by_fingerprint) < _MAX_SCHEMAS:
                self._learn(key, value)

    def _learn(self, key: bytes, value: bytes) -> None:
        try:
            schema = Schema.parse(value.decode())
        except (UnicodeDecodeError, UnsupportedSchemaError):
            schema = None
        if schema is None or schema.fingerprint.hex().encode() != key:
            logger.warning("The schemas topic holds no schema under key %r", key[:32])
        else:
            self._by_fingerprint[schema.fingerprint] = schema
