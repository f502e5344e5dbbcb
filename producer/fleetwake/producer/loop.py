"""Event loops: one that can hang up, and that of a producer's thread."""

from __future__ import annotations

import asyncio
import logging
import weakref
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["THREAD_NAME", "ClosingLoop", "PrivateLoop", "run_loop"]

THREAD_NAME: Final = "fleetwake-producer"

logger = logging.getLogger("fleetwake.producer")

_T = TypeVar("_T")


def run_loop(main: Coroutine[Any, Any, _T]) -> _T:
    """
    Do what `asyncio.run` does, and hang up at the end.

    aiokafka closes the connection to a bootstrap server, also one that has refused our
    password, without waiting for it or telling of it. With TLS that lasts until the
    server has answered; a loop that ends before would leave the socket open.
    """
    loop = ClosingLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        try:
            return runner.run(main)
        finally:
            runner.run(loop.hang_up())


class ClosingLoop(asyncio.SelectorEventLoop):
    """Can hang up: it remembers its connections."""

    def __init__(self) -> None:
        super().__init__()
        self._connections: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()

    async def create_connection(
        self,
        *args: Any,  # noqa: ANN401  # the base class's 14 parameters
        **options: Any,  # noqa: ANN401
    ) -> tuple[asyncio.Transport, Any]:
        """Connect, and remember it for `hang_up`."""
        transport, protocol = await super().create_connection(*args, **options)
        self._connections.add(transport)
        return transport, protocol

    async def hang_up(self) -> None:
        """Close all sockets now; what was not sent is not sent any more."""
        for transport in tuple(self._connections):
            transport.abort()
        await asyncio.sleep(0)


class PrivateLoop(ClosingLoop):
    """
    Runs executor jobs inline, and reports stray errors at DEBUG level.

    The default executor refuses work once the interpreter exits, and by then a short
    script may not have looked up its broker's name yet (asyncio does that, and aiokafka
    SASL, in the executor). Blocking this loop delays deliveries, nothing else.
    """

    def __init__(self) -> None:
        super().__init__()
        self.set_exception_handler(_report)

    def run_in_executor(
        self,
        executor: object,  # noqa: ARG002  # the base class's signature
        func: Callable[..., Any],
        *args: object,
    ) -> asyncio.Future[Any]:
        """Call `func` now; `executor` is not used."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  # passed on, as an executor does
            future.set_exception(error)
        return future


def _report(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # What a client leaves behind when it is cut off; its failure was reported.
    logger.debug("%s", context.get("message"), exc_info=context.get("exception"))
