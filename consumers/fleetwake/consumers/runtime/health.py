"""`/livez`, `/readyz` and `/metrics` of a running service."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import uvicorn
from prometheus_client import make_asgi_app
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from starlette.requests import Request

    from fleetwake.consumers.runtime.runner import Runner

__all__ = ["serving_health"]

# The loop turns several times a second; a flush may take its whole deadline.
_DEAD_AFTER_S = 90.0


class _Server(uvicorn.Server):
    """Leaves signals to the service that it runs in."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@contextlib.asynccontextmanager
async def serving_health(runner: Runner, host: str, port: int) -> AsyncGenerator[int]:
    """
    Serve while the context is open; gives the port, which matters for port 0.

    Raises:
        ConfigurationError: the port is in use.
    """
    config = uvicorn.Config(
        _app(runner), host=host, port=port, log_config=None, lifespan="off"
    )
    try:
        listening = config.bind_socket()
    except SystemExit as exc:
        raise ConfigurationError(
            f"port {port} of {host} is in use; set FLEETWAKE_RUNTIME_HEALTH_PORT"
        ) from exc
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    # bind_socket does not listen yet.
    while not server.started and not serving.done():  # noqa: ASYNC110  # no event of it
        await asyncio.sleep(0.01)
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(serving, 2.0)
        listening.close()


def _app(runner: Runner) -> Starlette:
    async def livez(_: Request) -> PlainTextResponse:
        if runner.idle_s > _DEAD_AFTER_S:
            return PlainTextResponse("the consume loop hangs\n", 503)
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> PlainTextResponse:
        if not runner.is_ready:
            return PlainTextResponse("not all partitions are being processed\n", 503)
        return PlainTextResponse("ok\n")

    return Starlette(
        routes=[
            Route("/livez", livez),
            Route("/readyz", readyz),
            Mount("/metrics", make_asgi_app()),
        ]
    )
