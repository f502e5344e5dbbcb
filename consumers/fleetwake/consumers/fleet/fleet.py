"""The fleet service: the consume loop and the page beside it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, Final

import structlog

from fleetwake.consumers.fleet.access import Access
from fleetwake.consumers.fleet.address import PageAddress, page_token
from fleetwake.consumers.fleet.app import Page
from fleetwake.consumers.fleet.commands import Commands
from fleetwake.consumers.fleet.history import History
from fleetwake.consumers.fleet.live import Live
from fleetwake.consumers.fleet.pipeline import Pipeline, Tallies
from fleetwake.consumers.fleet.processor import PartitionFleet
from fleetwake.consumers.fleet.recent import Recent
from fleetwake.consumers.fleet.settings import ArchiveLocation
from fleetwake.consumers.fleet.table import FleetTable
from fleetwake.consumers.runtime.service import FlushPolicy
from fleetwake.consumers.runtime.serving import serving
from fleetwake.producer import AsyncAuditProducer
from fleetwake.producer.settings import ProducerSettings
from fleetwake.schemas.topics import ALERTS, DEAD_LETTERS, EVENTS, SESSIONS, VERDICTS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from fleetwake.consumers.fleet.settings import FleetSettings
    from fleetwake.consumers.runtime.service import PartitionStart, Publisher
    from fleetwake.producer.settings import KafkaSettings

__all__ = ["Fleet"]

_STOP_S: Final = 2.0

_log = structlog.get_logger("fleetwake.fleet")


class Fleet:
    """
    Makes the processors, and serves the page; see the package for what is promised.

    Raises:
        ConfigurationError: the address or the token cannot be used.
    """

    name = "fleet"
    topics = (EVENTS, SESSIONS, ALERTS, VERDICTS, DEAD_LETTERS)
    flush_policy = FlushPolicy(max_age_s=60.0)
    owns_dead_letters = False

    def __init__(self, settings: FleetSettings, kafka: KafkaSettings) -> None:
        self._settings = settings
        self._kafka = kafka
        self._table = FleetTable(settings.max_sessions, epoch=secrets.token_hex(4))
        self._recent = Recent(settings.recent_events)
        self._tallies = Tallies()
        self._access = Access(
            token=page_token(settings),
            bound_to=settings.host,
            hosts=frozenset({*settings.allowed_hosts, settings.host.lower()}),
        )

    async def open(self, start: PartitionStart, /) -> PartitionFleet:
        """
        Make a processor that knows what is published of its sessions.

        Raises:
            RetriableError: a topic cannot be read now.
        """
        processor = PartitionFleet(
            start,
            self._table,
            self._recent,
            self._tallies,
            read_back=self._settings.read_back,
        )
        await processor.restore()
        return processor

    @contextlib.asynccontextmanager
    async def beside(self, publisher: Publisher, /) -> AsyncGenerator[None]:
        """
        Serve the page.

        Raises:
            ConfigurationError: its port is in use.
        """
        live = Live(self._table, self._recent)
        # An act is evidence: it must not wait for a spool that another one adopts.
        settings = ProducerSettings(durability="memory")
        history = History(self._kafka, ArchiveLocation().folder)
        producer = AsyncAuditProducer(settings, kafka=self._kafka, source="fleetwake")
        page = Page(
            self._access,
            live,
            history,
            Pipeline(self._kafka, self._tallies, history.freshness),
            Commands(publisher, producer, self._table),
        )
        try:
            async with (
                serving(
                    page.app(),
                    self._settings.host,
                    self._settings.port,
                    setting="FLEETWAKE_FLEET_PORT",
                ) as port,
                # A page that shows nothing new must not look as if all were well.
                asyncio.TaskGroup() as group,
            ):
                patching = group.create_task(live.run())
                bound = self._settings.model_copy(update={"port": port})
                _log.info("page.served", url=PageAddress(bound).url)
                yield
                patching.cancel()
                await live.close()
        finally:
            history.close()
            await producer.close(_STOP_S)
