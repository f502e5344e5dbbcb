"""`/livez`, `/readyz` and `/metrics` of a running service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from fleetwake.consumers.runtime.serving import serving

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from starlette.requests import Request

    from fleetwake.consumers.runtime.runner import Runner

__all__ = ["serving_health"]

# The loop turns several times a second; a flush may take its whole deadline.
_DEAD_AFTER_S = 90.0


def serving_health(
    runner: Runner, host: str, port: int
) -> AbstractAsyncContextManager[int]:
    """
    Serve while the context is open; gives the port, which matters for port 0.

    Raises:
        ConfigurationError: the port is in use.
    """
    return serving(_app(runner), host, port, setting="FLEETWAKE_RUNTIME_HEALTH_PORT")


def _app(runner: Runner) -> Starlette:
    async def livez(_: Request) -> PlainTextResponse:
        if runner.idle_s > _DEAD_AFTER_S:
            return PlainTextResponse("the consume loop hangs\n", 503)
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> PlainTextResponse:
        if not runner.is_ready:
            return PlainTextResponse("not all partitions are being processed\n", 503)
        return PlainTextResponse("ok\n")

    # Not the library's own application, which a Mount answers with a redirect first.
    async def metrics(request: Request) -> Response:
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(REGISTRY), headers={"content-type": kind})

    return Starlette(
        routes=[
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
        ]
    )
