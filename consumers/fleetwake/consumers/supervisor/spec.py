"""What is to be run, and when it counts as ready."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import sys
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Final

from fleetwake.consumers.home import home
from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fleetwake.consumers.broker import BrokerSettings

__all__ = ["ProcessSpec", "broker_process", "free_ports", "service_processes"]

HOST: Final = "127.0.0.1"

# -P: a folder or a file of the present folder must not come before our packages.
_PYTHON: Final = (sys.executable, "-P", "-m")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """
    One process to keep running.

    It is ready when `ready_url` answers 200, or when it has printed `ready_line`;
    with neither, as soon as it runs. `environment` comes on top of ours.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    ready_url: str | None = None
    ready_line: str | None = None
    final_exit_codes: frozenset[int] = frozenset({2})
    """Starting it again would end in the same way: 2 is a wrong setting."""
    stop_timeout_s: float = 25.0
    """From SIGTERM to SIGKILL. A service takes 20 s at most for its last flush."""


def broker_process(settings: BrokerSettings) -> ProcessSpec:
    """Return the embedded broker as a process that ends with this one."""
    return ProcessSpec(
        name="broker",
        argv=(*_PYTHON, "fleetwake.consumers.broker", "--with-parent"),
        environment={
            "FLEETWAKE_BROKER_DATA_DIR": str(settings.data_dir),
            "FLEETWAKE_BROKER_PORT": str(settings.port),
            "FLEETWAKE_BROKER_CONTROLLER_PORT": str(settings.controller_port),
            "FLEETWAKE_BROKER_HEAP_MB": str(settings.heap_mb),
        },
        ready_line=f"{HOST}:{settings.port}",
    )


def service_processes(
    names: Sequence[str],
    environment: Mapping[str, str],
    *,
    health_host: str = HOST,
    first_port: int = 8711,
) -> list[ProcessSpec]:
    """
    Return services as processes that end with this one.

    Their health servers get the first free ports from `first_port` on; 0 means any.
    Each is a static member of its consumer group, the same after every start in this
    home: a killed one gets its partitions back at once, not after its session timeout.
    """
    ports = free_ports(health_host, first_port)
    return [
        _service_process(name, environment, health_host, next(ports)) for name in names
    ]


def _service_process(
    name: str, environment: Mapping[str, str], health_host: str, port: int
) -> ProcessSpec:
    # An address that means "everywhere" is none to connect to.
    reachable = HOST if health_host in {"0.0.0.0", "::"} else health_host  # noqa: S104
    parent = ("--parent", str(os.getpid()))
    own = {
        "FLEETWAKE_RUNTIME_HEALTH_PORT": str(port),
        "FLEETWAKE_RUNTIME_INSTANCE_ID": _instance_id(name),
    }
    return ProcessSpec(
        name=name,
        argv=(*_PYTHON, "fleetwake.consumers.cli", "run", name, *parent),
        environment=own | dict(environment),
        ready_url=f"http://{reachable}:{port}/readyz",
    )


def _instance_id(name: str) -> str:
    """One for each service, home and host (KIP-345)."""
    home_digest = hashlib.sha256(str(home().resolve()).encode()).hexdigest()
    return f"{platform.node()}-{home_digest[:8]}-{name}"


def free_ports(host: str, first: int) -> Iterator[int]:
    """
    Ports from `first` on that nobody listens on now; with 0, of the system's choice.

    Raises:
        ConfigurationError: there are no more.
    """
    for port in range(first, 65536) if first else repeat(0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            free: int = probe.getsockname()[1]
        yield free
    raise ConfigurationError(
        f"{host} has no free port from {first} on: set FLEETWAKE_RUNTIME_HEALTH_PORT"
    )
