"""What `fleetwake doctor` looks at."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import socket
import sys
import time
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final, Literal

from pydantic import ValidationError

from fleetwake.consumers.broker.lock import running
from fleetwake.consumers.broker.settings import BrokerSettings
from fleetwake.consumers.cli.cluster import (
    checked,
    is_configured,
    kafka_settings,
    reach,
)
from fleetwake.consumers.cli.exits import EXTRAS, UnreachableError, explained
from fleetwake.consumers.cli.topics import partition_problems
from fleetwake.consumers.home import home
from fleetwake.producer.home import spool_folder
from fleetwake.producer.settings import (
    KafkaSettings,
    ProducerSettings,
    RegistrySettings,
)
from fleetwake.producer.spool import spools
from fleetwake.schemas.errors import FleetwakeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from importlib.metadata import EntryPoint

    from fleetwake.producer.spool import SpoolSummary

__all__ = ["Check", "all_checks"]

_OLDEST_PYTHON: Final = (3, 11)
_LITTLE_DISK_BYTES: Final = 2 * 1024**3
_PATIENCE_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; `advice` says what to do about it."""

    name: str
    verdict: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""


async def all_checks() -> AsyncIterator[Check]:
    """Every check, one after the other; those that make no sense are left out."""
    yield _python()
    yield _extras()
    yield _disk()
    settings = list(_settings())
    for check in settings:
        yield check
    if any(check.verdict == "fail" for check in settings):
        return  # what follows would fail for the same reason
    for check in _producers():
        yield check
    kafka = kafka_settings()
    if not is_configured(KafkaSettings()):
        for check in _embedded():
            yield check
    async for check in _kafka(kafka):
        yield check
    if RegistrySettings().url is not None:
        yield await _registry()


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < _OLDEST_PYTHON:
        return Check("python", "fail", found, "install Python 3.11 or newer")
    return Check("python", "ok", found)


def _extras() -> Check:
    missing = [one for one in EXTRAS if importlib.util.find_spec(one) is None]
    if not missing:
        return Check("packages", "ok", "those of all extras are there")
    extras = ",".join(sorted({EXTRAS[one] for one in missing}))
    found = f"not installed: {', '.join(missing)}"
    return Check("packages", "warn", found, f'pip install "fleetwake[{extras}]"')


def _disk() -> Check:
    try:
        folder = home()
    except FleetwakeError as error:
        return Check("home", "fail", str(error))
    free = shutil.disk_usage(folder).free
    found = f"{folder}, {free / 1e9:,.0f} GB free"
    if free < _LITTLE_DISK_BYTES:
        return Check("home", "warn", found, "free some space, or set FLEETWAKE_HOME")
    return Check("home", "ok", found)


def _settings() -> Iterator[Check]:
    """The settings of every room and of every service that is installed."""
    rooms: dict[str, Callable[[], object]] = {
        "kafka": lambda: checked(KafkaSettings()),
        "producer": ProducerSettings,
        "registry": RegistrySettings,
        "broker": BrokerSettings,
    }
    for point in entry_points(group="fleetwake.services"):
        rooms[point.name] = partial(_load_service, point)
    wrong = list(_wrong(rooms))
    yield from wrong
    if not wrong:
        yield Check("settings", "ok", f"of {', '.join(rooms)}")
    if not wrong and KafkaSettings().security_protocol == "SASL_PLAINTEXT":
        found = "SASL_PLAINTEXT: the password travels without TLS"
        yield Check("security", "warn", found, "use SASL_SSL where the cluster has it")
    if not wrong and not KafkaSettings().ssl_check_hostname:
        found = "who has any certificate of the CA can pose as the cluster"
        advice = "leave FLEETWAKE_KAFKA_SSL_CHECK_HOSTNAME on"
        yield Check("security", "warn", found, advice)


def _producers() -> Iterator[Check]:
    """The producers of this machine that have a spool, and what ended ones left."""
    folder = spool_folder(ProducerSettings())
    found = [one for sub in sorted(folder.glob("*/")) for one in spools(sub)]
    for one in found:
        if one.alive:
            yield _producer(one)
        elif one.events:
            age = _age(one.oldest_recorded_at)
            yield Check(
                "spool",
                "warn",
                f"process {one.pid} ended and left {one.events:,} events{age} in "
                f"{one.path}",
                "the next producer on this machine with the same Kafka delivers them",
            )
    if not found:
        yield Check("producers", "ok", f"none has a spool in {folder}")


def _producer(spool: SpoolSummary) -> Check:
    name = f"process {spool.pid}, producer {spool.producer_id}: "
    try:
        told = json.loads(spool.statistics or "")
        dropped: dict[str, int] = told["dropped"]
        counts = [
            f"{told[count]:,} {count}"
            for count in ("accepted", "acknowledged", "sent", "queued", "spooled")
        ]
        counts += [f"{count:,} dropped ({why})" for why, count in dropped.items()]
        problem = f"; last error: {told['last_error']}" if told["last_error"] else ""
        is_well = bool(told["connected"]) and not dropped
    except (ValueError, LookupError, TypeError, AttributeError):
        return Check("producer", "ok", f"{name}has told nothing yet")
    found = name + ", ".join(counts) + _age(spool.oldest_recorded_at) + problem
    if is_well:
        return Check("producer", "ok", found)
    advice = "see the agent's log, and whether its Kafka answers; then raise "
    return Check("producer", "warn", found, advice + "FLEETWAKE_PRODUCER_SPOOL_MAX_...")


def _age(recorded_at: int | None) -> str:
    if recorded_at is None:
        return ""
    return f", the oldest {max(0.0, time.time() - recorded_at / 1e6):,.0f} s old"


def _load_service(point: EntryPoint) -> object:
    return point.load()()


def _wrong(rooms: dict[str, Callable[[], object]]) -> Iterator[Check]:
    for name, load in rooms.items():
        try:
            load()
        except ModuleNotFoundError:
            continue  # told with the packages
        except (ValidationError, ValueError, FleetwakeError) as error:
            for line in explained(error):
                advice = "correct the environment or fleetwake.toml"
                yield Check(f"{name} settings", "fail", line, advice)


def _embedded() -> Iterator[Check]:
    """What the embedded broker needs, where it is the one that is used."""
    from fleetwake.consumers.broker.java import find_java

    try:
        yield Check("java", "ok", str(find_java()))
    except FleetwakeError as error:
        yield Check("java", "fail", str(error))
    broker = BrokerSettings()
    if running(broker.data_dir):
        return
    for variable, port in (
        ("FLEETWAKE_BROKER_PORT", broker.port),
        ("FLEETWAKE_BROKER_CONTROLLER_PORT", broker.controller_port),
    ):
        yield _port(variable, port)


def _port(variable: str, port: int) -> Check:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            advice = f"stop what listens there, or set {variable} to a free one"
            return Check("port", "fail", f"{port}: {error.strerror}", advice)
    return Check("port", "ok", f"{port} is free")


async def _kafka(kafka: KafkaSettings) -> AsyncIterator[Check]:
    try:
        topics = await reach(kafka, _PATIENCE_S)
    except UnreachableError as error:
        # Nobody said that there is one: then it has just not been started.
        if is_configured(KafkaSettings()):
            yield Check("broker", "fail", error.problem, error.advice)
        else:
            yield Check("broker", "warn", str(error))
        return
    yield Check("broker", "ok", f"{kafka.bootstrap_servers} answers")
    problems = list(partition_problems(kafka, topics))
    for problem in problems:
        yield Check("topics", "warn", problem)
    if not problems:
        count = f"{len(topics)} there, {kafka.partitions} partitions each"
        yield Check("topics", "ok", count)


async def _registry() -> Check:
    from fleetwake.producer.registry import Registry, RegistryError

    try:
        # No registry has it: we want to know whether one answers.
        await asyncio.to_thread(Registry(RegistrySettings()).schema_text, 2**31 - 1)
    except (RegistryError, FleetwakeError) as error:
        advice = "see SCHEMA_REGISTRY_URL, FLEETWAKE_REGISTRY_USERNAME and _PASSWORD"
        return Check("registry", "fail", str(error), advice)
    return Check("registry", "ok", "answers")
