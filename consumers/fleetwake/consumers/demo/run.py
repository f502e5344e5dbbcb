"""The demonstration from its first process to its last line."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleetwake.consumers.broker import BrokerSettings, kafka_jars
from fleetwake.consumers.demo import live
from fleetwake.consumers.demo.alerts import latest_alerts
from fleetwake.consumers.demo.display import Counts, showing
from fleetwake.consumers.demo.inputs import choose
from fleetwake.consumers.demo.place import check_home, isolate, reset
from fleetwake.consumers.demo.publish import Publisher
from fleetwake.consumers.demo.report import Report, command
from fleetwake.consumers.demo.watch import progress, scrape
from fleetwake.consumers.fleet.address import PageAddress
from fleetwake.consumers.fleet.settings import FleetSettings
from fleetwake.consumers.runtime.kafka_admin import create_topics
from fleetwake.consumers.runtime.settings import RuntimeSettings
from fleetwake.consumers.supervisor import (
    ProcessFailedError,
    Supervisor,
    broker_process,
    free_ports,
    interruptible,
    service_processes,
)
from fleetwake.producer import AsyncAuditProducer
from fleetwake.producer.settings import (
    KafkaSettings,
    ProducerSettings,
    RegistrySettings,
)
from fleetwake.schemas.errors import FleetwakeError
from fleetwake.schemas.topics import EVENTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleetwake.consumers.broker import Progress
    from fleetwake.consumers.demo.display import Display
    from fleetwake.consumers.supervisor import ProcessSpec
    from fleetwake.schemas.event import AuditEvent

__all__ = ["CannotStartError", "Options", "run"]

_COUNTED: Final = ("loops", "archive", "metrics")
_SERVICES: Final = (*_COUNTED, "fleet")
_INTERRUPTED: Final = 130
_LOOK_EVERY_S: Final = 0.25
_CLOSE_DEADLINE_S: Final = 2.0
_DEADLINE_S: Final = 180.0
"""From the start of the services until all is consumed; 10 s on two idle cores."""


class CannotStartError(FleetwakeError):
    """Raised when Kafka or a service does not start. Has its words and exit code."""

    def __init__(self, failed: ProcessFailedError, logs: Path) -> None:
        last = str(failed).splitlines()[-1]
        told = last.removeprefix("fleetwake: ").removeprefix(f"{failed.name}: ")
        if told == last:
            told = (
                f"{failed.name} ended with exit code {failed.exit_code}; its log: "
                f"{logs / failed.name}.log"
            )
        super().__init__(told)
        self.exit_code = failed.exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asks for. `stay`: when all is shown, until Ctrl-C."""

    home: Path
    files: Sequence[Path]
    sessions: int | None
    seed: int | None
    trajectories: Path
    stay: bool


async def run(options: Options) -> int:
    """
    Run it on the main thread's event loop and return the exit code.

    SIGINT, SIGTERM and SIGHUP stop everything in order; a second one kills it.

    Raises:
        FleetwakeError: something cannot be started, or ends before it should.
    """
    check_home(options.home)
    isolate(options.home)
    broker = BrokerSettings()
    kafka = KafkaSettings(bootstrap_servers=f"127.0.0.1:{broker.port}")
    demo = _Demonstration(options, kafka)
    with interruptible():
        async with Supervisor(
            options.home, bootstrap_servers=kafka.bootstrap_servers
        ) as supervisor:
            try:
                await demo.run(supervisor, broker)
            except asyncio.CancelledError:
                sys.stderr.write("\nstopping ...\n")
                raise
    return 0 if demo.is_done else _INTERRUPTED


class _Demonstration:
    def __init__(self, options: Options, kafka: KafkaSettings) -> None:
        self._options = options
        self._kafka = kafka
        self._urls: dict[str, str] = {}
        self._page = FleetSettings()
        self._over: list[AuditEvent] = []
        self.is_done = False

    async def run(self, supervisor: Supervisor, broker: BrokerSettings) -> None:
        began = time.monotonic()
        with showing() as display:
            publisher = await self._prepare(supervisor, broker, display)
            services = self._services()
            await self._work(supervisor, services, publisher, display)
            display.say("done")
        await self._report(time.monotonic() - began)
        self.is_done = True
        if self._options.stay:
            await self._stay(supervisor)

    async def _stay(self, supervisor: Supervisor) -> None:
        """Let a fleet work, until Ctrl-C or a process fails."""
        producer = AsyncAuditProducer(
            ProducerSettings(durability="memory"),
            kafka=self._kafka,
            registry=RegistrySettings(url=None),
        )
        playing = asyncio.create_task(live.play(producer, self._kafka, self._over))
        waiting = asyncio.create_task(supervisor.wait())
        try:
            await asyncio.wait({playing, waiting}, return_when=asyncio.FIRST_COMPLETED)
            for task in (waiting, playing):
                if task.done():
                    task.result()
        finally:
            for task in (playing, waiting):
                task.cancel()
            await asyncio.gather(playing, waiting, return_exceptions=True)
            await producer.close(_CLOSE_DEADLINE_S)

    async def _prepare(
        self, supervisor: Supervisor, broker: BrokerSettings, display: Display
    ) -> Publisher:
        """Read what is to be published, and start Kafka."""
        options = self._options
        chosen = await asyncio.to_thread(
            choose,
            options.files,
            sessions=options.sessions,
            seed=options.seed,
            trajectories=options.trajectories,
            now_us=time.time_ns() // 1000,
        )
        display.say(
            f"fleet: {chosen.origin}; {len(chosen.events):,} events with recordings"
        )
        self._over = live.endings(chosen.events)
        removed = reset(options.home)
        was = "an earlier demonstration's was removed" if removed else "none was there"
        display.say(f"data: {options.home} ({was})")
        await _download(display)
        display.say(f"starting Apache Kafka on {self._kafka.bootstrap_servers}")
        await self._start(supervisor, broker_process(broker))
        await create_topics(self._kafka)
        return Publisher(chosen.events, self._kafka)

    def _services(self) -> list[ProcessSpec]:
        rules = self._options.home / "rules.toml"
        rules.write_text(live.RULES)
        page = FleetSettings()
        self._page = page.model_copy(
            update={"port": next(free_ports(page.host, page.port))}
        )
        servers = {
            "FLEETWAKE_KAFKA_BOOTSTRAP_SERVERS": self._kafka.bootstrap_servers,
            "FLEETWAKE_LOOPS_BRAKE": "enforce",
            "FLEETWAKE_LOOPS_RULES": str(rules),
            "FLEETWAKE_FLEET_PORT": str(self._page.port),
        }
        specs = service_processes(
            _SERVICES, servers, first_port=RuntimeSettings().health_port
        )
        self._urls = {
            spec.name: (spec.ready_url or "").replace("/readyz", "/metrics")
            for spec in specs
            if spec.name in _COUNTED
        }
        return specs

    async def _start(self, supervisor: Supervisor, *specs: ProcessSpec) -> None:
        try:
            await supervisor.start(*specs)
        except ProcessFailedError as error:
            raise CannotStartError(error, self._options.home / "logs") from error

    async def _work(
        self,
        supervisor: Supervisor,
        services: Sequence[ProcessSpec],
        publisher: Publisher,
        display: Display,
    ) -> None:
        """Publish, and start the services meanwhile; until all is consumed."""
        display.say("publishing; starting loops, archive, metrics and the page")
        tasks = [
            asyncio.create_task(publisher.run()),
            asyncio.create_task(self._start(supervisor, *services)),
        ]
        try:
            async with asyncio.timeout(_DEADLINE_S):
                while not await self._is_over(tasks, publisher, display):
                    _check(supervisor)
                    await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            raise FleetwakeError(
                f"not all was consumed within {_DEADLINE_S:.0f} s; the services' logs: "
                f"{self._options.home / 'logs'}"
            ) from None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _is_over(
        self,
        tasks: Sequence[asyncio.Task[None]],
        publisher: Publisher,
        display: Display,
    ) -> bool:
        for task in tasks:
            if task.done():
                task.result()
        is_published = all(task.done() for task in tasks)
        consumed, alerts = await progress(self._urls, self._kafka.topic(EVENTS))
        total = publisher.total
        display.show(Counts(total, publisher.published, consumed, alerts))
        return is_published and min(consumed.values()) >= total

    async def _report(self, took_s: float) -> None:
        home, report = self._options.home, Report()
        report.alerts(await latest_alerts(self._kafka))
        report.archive(home / "archive")
        report.metrics(await scrape(self._urls["metrics"]), self._urls["metrics"])
        if self._options.stay:
            report.places({"Kafka": self._kafka.bootstrap_servers, **self._urls}, home)
            report.meanwhile(command(home, self._kafka))
        else:
            report.afterwards(command(home, self._kafka))
        if self._options.stay:
            report.page(PageAddress(self._page).url_with_token)
        then = "stays up until Ctrl-C" if self._options.stay else "stopping"
        sys.stderr.write(f"\nall in {took_s:.0f} s; {then}\n")


async def _download(display: Display) -> None:
    """
    Get Apache Kafka, unless it is there.

    Raises:
        DownloadError: it cannot be had now. What is there is kept.
    """
    loop = asyncio.get_running_loop()
    cancelled = threading.Event()
    told = -1

    def tell(progress: Progress) -> None:  # in another thread
        nonlocal told
        quarter = 4 * progress.size // progress.size_total
        if quarter > told:
            told = quarter
            size = f"{25 * quarter} % of {progress.size_total / 1e6:.0f} MB"
            loop.call_soon_threadsafe(display.say, f"downloading Apache Kafka: {size}")

    try:
        await asyncio.to_thread(kafka_jars, progress=tell, cancelled=cancelled)
    finally:
        cancelled.set()


def _check(supervisor: Supervisor) -> None:
    """
    See that all runs: in a demonstration nothing is started a second time.

    Raises:
        FleetwakeError: a process has ended.
    """
    for state in supervisor.states:
        if state.phase in {"waiting", "failed"} or state.restarts:
            raise FleetwakeError(
                f"{state.name} ended with exit code {state.exit_code}; its log: "
                f"{state.log_file}"
            )
