"""The embedded broker: a real Apache Kafka as a child process."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
import uuid
from typing import TYPE_CHECKING, Final

from fleetwake.consumers.broker.config import (
    HOST,
    Node,
    java_command,
    server_properties,
)
from fleetwake.consumers.broker.errors import BrokerStartError, PortInUseError
from fleetwake.consumers.broker.jars import kafka_jars
from fleetwake.consumers.broker.java import find_java, tied_command
from fleetwake.consumers.broker.lock import PATIENCE_S, FolderLock
from fleetwake.consumers.broker.probe import is_serving

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from fleetwake.consumers.broker.jars import Progress
    from fleetwake.consumers.broker.settings import BrokerSettings

__all__ = ["EmbeddedKafka", "new_cluster_id"]

START_DEADLINE_S: Final = 120.0
STOP_DEADLINE_S: Final = 15.0

_POLL_S = 0.05
_FORMAT_HEAP_MB = 128
_LOG_LINES = 8
_LOG_MAX_BYTES = 10 << 20


def new_cluster_id() -> str:
    """A random cluster id, in Kafka's form of a UUID."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


class EmbeddedKafka:
    """
    One broker, or one node of a cluster, on loopback, with its data in `data_dir`.

    Not bound to an event loop, but on Linux to a thread: so that no broker is left
    behind, the kernel kills it when the thread that awaited `start` ends, however
    that comes. Use one that lives as long as the program. On macOS and Windows a
    program that is killed leaves its broker behind; `running` finds it.

    `properties` of Kafka go before ours, as for a test that needs more listeners; the
    one on `port` must stay in plain text: it is asked whether the broker serves.
    `format_options` are those of Kafka's own storage tool, at the first start.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = 19092,
        controller_port: int = 19093,
        heap_mb: int = 512,
        node_id: int = 1,
        voters: Mapping[int, int] | None = None,
        cluster_id: str | None = None,
        properties: Mapping[str, str] | None = None,
        format_options: Sequence[str] = (),
    ) -> None:
        self.data_dir = data_dir.expanduser().absolute()
        self.log_file = self.data_dir / "broker.log"
        self._node = Node(node_id, port, voters or {node_id: controller_port})
        self._heap_mb = heap_mb
        self._cluster_id = cluster_id or new_cluster_id()
        self._properties = properties
        self._format_options = format_options
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = FolderLock(self.data_dir)
        self._log_start = 0

    @classmethod
    def from_settings(cls, settings: BrokerSettings) -> EmbeddedKafka:
        """The broker of a deployment."""
        return cls(
            settings.data_dir,
            port=settings.port,
            controller_port=settings.controller_port,
            heap_mb=settings.heap_mb,
        )

    @property
    def bootstrap_servers(self) -> str:
        """What clients connect to."""
        return f"{HOST}:{self._node.port}"

    @property
    def pid(self) -> int | None:
        """The process id of Java, if it runs."""
        process = self._process
        return process.pid if process and process.poll() is None else None

    async def start(
        self, *, progress: Callable[[Progress], None] | None = None
    ) -> None:
        """
        Start the broker and wait until it serves.

        The first start downloads Apache Kafka (45 MB) and calls `progress`, from
        other threads.

        Raises:
            BrokerRunningError: a broker runs on this folder already.
            ConfigurationError: the folder cannot be written.
            PortInUseError: another process listens on one of the ports.
            JavaNotFoundError: there is no Java to run it.
            DownloadError: Apache Kafka cannot be downloaded.
            BrokerStartError: Kafka ended or did not answer; with its last words.
        """
        if self.pid is not None:
            return
        self.kill()  # what is left of one that ended by itself
        await self._lock.acquire()
        try:
            await self._check_ports()
            java = await asyncio.to_thread(find_java)
            jars = await _download(progress)
            await self._run_kafka(java, jars)
        except OSError as error:
            self.kill()
            raise BrokerStartError(
                f"cannot start Kafka in {self.data_dir}: {error}"
            ) from error
        except BaseException:
            self.kill()
            raise

    async def stop(self, *, deadline_s: float = STOP_DEADLINE_S) -> None:
        """Stop the broker in order; kill it after `deadline_s` seconds."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            await _ended(process, deadline_s)
        self.kill()

    def kill(self) -> None:
        """Kill the broker at once (SIGKILL). Its data stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._lock.release()

    async def wait(self) -> int:
        """Wait until the broker ends, for whatever reason; its exit code."""
        process = self._process
        if process is None:
            return 0
        await _ended(process, None)
        return process.returncode

    def last_words(self) -> str:
        """The last lines that Kafka logged since its start, without stack traces."""
        try:
            with self.log_file.open("rb") as file:
                file.seek(self._log_start)
                lines = file.read().decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return ""
        told = [line for line in lines if not line.startswith(("\t", "WARNING:"))]
        return "\n".join(told[-_LOG_LINES:])

    async def _check_ports(self) -> None:
        own = self._node.voters[self._node.node_id]
        await _until_free(self._node.port, "FLEETWAKE_BROKER_PORT")
        await _until_free(own, "FLEETWAKE_BROKER_CONTROLLER_PORT")

    async def _run_kafka(self, java: Path, jars: Sequence[Path]) -> None:
        self._rotate_log()
        await self._format(java, jars)
        name = self._write_properties("server.properties", "log")
        process = self._spawn(java, jars, self._heap_mb, ["kafka.Kafka", name])
        self._lock.write(process.pid, self._node.port)
        await self._until_serving()

    async def _format(self, java: Path, jars: Sequence[Path]) -> None:
        """Make `log`, which is there either whole or not at all."""
        log, half = self.data_dir / "log", self.data_dir / "log.formatting"
        if log.exists():
            return
        shutil.rmtree(half, ignore_errors=True)
        name = self._write_properties("format.properties", half.name)
        main = ["kafka.tools.StorageTool", "format", f"--cluster-id={self._cluster_id}"]
        main += ["--config", name, *self._format_options]
        self._spawn(java, jars, _FORMAT_HEAP_MB, main)
        if await self.wait() != 0:
            raise BrokerStartError(
                f"cannot format the folder {self.data_dir}:\n{self.last_words()}"
            )
        half.rename(log)

    def _write_properties(self, name: str, log_dir: str) -> str:
        """Write the settings; paths in it are relative, so that any folder will do."""
        text = server_properties(self._node, log_dir, self._properties)
        (self.data_dir / name).write_text(text)
        return name

    def _rotate_log(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self.log_file.stat().st_size > _LOG_MAX_BYTES:
                self.log_file.replace(self.log_file.with_suffix(".log.1"))
        with self.log_file.open("ab") as log:
            self._log_start = log.tell()

    def _spawn(
        self, java: Path, jars: Sequence[Path], heap_mb: int, main: Sequence[str]
    ) -> subprocess.Popen[bytes]:
        temporary = self.data_dir / "tmp"  # native libraries are unpacked there
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        command = java_command(java, jars, heap_mb, temporary, main)
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                tied_command(command, os.getpid()),
                cwd=self.data_dir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal is for us: we stop it in order.
                start_new_session=True,
                # The lock is held as long as Java lives, whatever becomes of us.
                pass_fds=self._lock.descriptors,
            )
        return self._process

    async def _until_serving(self) -> None:
        node = self._node
        deadline = time.monotonic() + START_DEADLINE_S
        while not await is_serving(HOST, node.port, node.node_id):
            if self.pid is None:
                raise BrokerStartError(
                    f"Kafka ended at its start; see {self.log_file}:\n"
                    f"{self.last_words()}"
                )
            if time.monotonic() > deadline:
                raise BrokerStartError(
                    f"Kafka did not answer on {self.bootstrap_servers} within "
                    f"{START_DEADLINE_S:.0f} s; see {self.log_file}"
                )
            await asyncio.sleep(_POLL_S)


async def _download(progress: Callable[[Progress], None] | None) -> list[Path]:
    cancelled = threading.Event()
    try:
        return await asyncio.to_thread(
            kafka_jars, progress=progress, cancelled=cancelled
        )
    except asyncio.CancelledError:
        cancelled.set()
        raise


async def _ended(process: subprocess.Popen[bytes], deadline_s: float | None) -> None:
    end = None if deadline_s is None else time.monotonic() + deadline_s
    while process.poll() is None and (end is None or time.monotonic() < end):  # noqa: ASYNC110
        await asyncio.sleep(_POLL_S)


async def _until_free(port: int, setting: str) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while (problem := _try_port(port)) is not None:
        if time.monotonic() > give_up:
            raise PortInUseError(
                f"port {port} cannot be used ({problem}): stop what listens there, or "
                f"set {setting} to a free one"
            )
        await asyncio.sleep(_POLL_S)


def _try_port(port: int) -> str | None:
    """Say what is wrong with a port, or None."""
    with socket.socket() as probe:
        if os.name == "posix":
            # As Java does: connections of an earlier broker may linger.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error.strerror or str(error)
    return None
