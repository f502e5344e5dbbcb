"""`fleetwake run`."""

from __future__ import annotations

import logging
import os
from typing import Annotated

import typer

from fleetwake.consumers.cli.command import command
from fleetwake.schemas.errors import ConfigurationError

__all__ = ["run"]


@command(
    "fleetwake run archive",
    "KAFKA_BOOTSTRAP_SERVERS=kafka:9092 fleetwake run loops",
    exits={
        0: "stopped by SIGTERM or Ctrl-C",
        1: "it cannot go on",
        2: "a setting cannot be used",
        5: "what it has written is not whole",
    },
)
def run(
    service: Annotated[str, typer.Argument(help="loops, archive, metrics, ...")],
    *,
    parent: Annotated[int | None, typer.Option("--parent", hidden=True)] = None,
) -> None:
    """
    Run one service in the foreground: for containers, systemd and the like.

    It waits for Kafka, takes its share of the partitions, and on SIGTERM flushes,
    commits and ends within 25 s. Health and metrics: 127.0.0.1:8711, see
    FLEETWAKE_RUNTIME_HEALTH_HOST and _PORT. It is not started again when it fails.
    """
    from fleetwake.consumers.cli.cluster import kafka_settings

    if parent is not None:
        from fleetwake.consumers.supervisor import stop_with_parent

        stop_with_parent(parent)
    try:
        from fleetwake.consumers.runtime.main import configure_logging
        from fleetwake.consumers.runtime.main import run as run_service
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f'services need {error.name!r}: pip install "fleetwake[{service}]"'
        ) from error
    servers = kafka_settings().bootstrap_servers
    os.environ["FLEETWAKE_KAFKA_BOOTSTRAP_SERVERS"] = servers
    configure_logging(_log_level())
    run_service(service)


def _log_level() -> str:
    level = os.environ.get("FLEETWAKE_LOG_LEVEL", "INFO").upper()
    if level not in logging.getLevelNamesMapping():
        raise ConfigurationError(
            "FLEETWAKE_LOG_LEVEL: use one of DEBUG, INFO, WARNING, ERROR"
        )
    return level
