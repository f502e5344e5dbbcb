"""What the embedded broker is told: `server.properties` and the flags of Java."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["HOST", "Node", "java_command", "server_properties"]

HOST = "127.0.0.1"


class Node(NamedTuple):
    """One broker and controller; `voters` are the controller ports of all nodes."""

    node_id: int
    port: int
    voters: Mapping[int, int]


def server_properties(
    node: Node, log_dir: str, own: Mapping[str, str] | None = None
) -> str:
    """The file for Kafka and its StorageTool; what is in `own` goes before ours."""
    controllers = (f"{n}@{HOST}:{port}" for n, port in node.voters.items())
    copies = min(3, len(node.voters))
    settings = {
        "process.roles": "broker,controller",
        "node.id": node.node_id,
        # Static voters: the ports may be others at the next start.
        "controller.quorum.voters": ",".join(controllers),
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{HOST}:{node.port},"
        f"CONTROLLER://{HOST}:{node.voters[node.node_id]}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{node.port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": log_dir,
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "min.insync.replicas": max(1, copies - 1),
        "group.initial.rebalance.delay.ms": 0,
        **_internal_topics(copies),
        **_small(),
        **(own or {}),
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _internal_topics(copies: int) -> dict[str, object]:
    in_sync = max(1, copies - 1)
    return {
        "offsets.topic.num.partitions": 4,
        "offsets.topic.replication.factor": copies,
        # A group that is away for a holiday must not start again from nothing.
        "offsets.retention.minutes": 365 * 24 * 60,
        "transaction.state.log.num.partitions": 2,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": 2,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
    }


def _small() -> dict[str, object]:
    """What makes it light on a laptop."""
    return {
        "num.network.threads": 2,
        "num.io.threads": 4,
        "group.coordinator.threads": 1,
        # After kill -9 a new broker waits until the old one's session has ended.
        "broker.session.timeout.ms": 3_000,
        "broker.heartbeat.interval.ms": 500,
        # 128 MB of heap by default; this holds 600,000 keys of a pass.
        "log.cleaner.dedupe.buffer.size": 16 << 20,
    }


def java_command(
    java: Path,
    jars: Sequence[Path],
    heap_mb: int,
    temporary: Path,
    main: Sequence[str],
) -> list[str]:
    """The command that runs a main class of Kafka."""
    return [
        str(java),
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        # The first compiler only: starts in 2.4 s instead of 3.9 s, for half the CPU
        # time, and serves 200,000 records with 0.8 s of CPU time instead of 1.1 s.
        "-XX:TieredStopAtLevel=1",
        # Better dead and restarted than half alive.
        "-XX:+ExitOnOutOfMemoryError",
        # Nothing of it stays in the system's temporary folder, not even killed.
        "-XX:-UsePerfData",
        f"-Djava.io.tmpdir={temporary}",
        "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        "-cp",
        os.pathsep.join(map(str, jars)),
        *main,
    ]
