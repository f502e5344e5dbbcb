"""A strict HTTP server for the tests of what is sent, and for what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable


@dataclass
class Request:
    """What a sink has sent."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    def json(self) -> Any:
        return json.loads(self.body)


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def status(code: int, **headers: str) -> bytes:
    """A whole answer with that status."""
    told = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in headers.items())
    return f"HTTP/1.1 {code} X\r\n{told}content-length: 0\r\n\r\n".encode()


@dataclass
class Receiver:
    """
    Answers each POST with what `answer` says: bytes as they are, or None for nothing.

    `check` raises on a payload that is not as published; that fails the test that asks
    for `requests`.
    """

    answer: Callable[[int], bytes | Awaitable[bytes] | None] = lambda _: OK
    check: Callable[[Request], None] = lambda _: None
    taken: list[Request] = field(default_factory=list)
    tls: ssl.SSLContext | None = None
    problems: list[str] = field(default_factory=list)
    connections: int = 0

    @property
    def requests(self) -> list[Request]:
        assert self.problems == []
        return self.taken

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def until(self, count: int) -> list[Request]:
        """Wait for so many requests."""
        async with asyncio.timeout(20):
            while len(self.requests) < count:
                await asyncio.sleep(0.005)
        return self.requests

    async def __aenter__(self) -> Self:
        self._writers: set[asyncio.StreamWriter] = set()
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, ssl=self.tls
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        async with asyncio.timeout(5):
            while self._writers:
                await asyncio.sleep(0.005)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    request = await self._read(reader)
                    try:
                        self.check(request)
                    except (
                        AssertionError,
                        LookupError,
                        TypeError,
                        ValueError,
                    ) as error:
                        self.problems.append(repr(error))
                    self.taken.append(request)
                    answer = self.answer(len(self.taken))
                    if isinstance(answer, Awaitable):
                        answer = await answer
                    if answer is None:
                        await reader.read()
                        return
                    writer.write(answer)
                    await writer.drain()
                    if b"content-length" not in answer:
                        return
        finally:
            writer.close()
            self._writers.discard(writer)

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
        first, *lines = head.strip().split("\r\n")
        method, path, _ = first.split(" ")
        assert method == "POST"
        headers = {
            name.lower(): value.strip()
            for name, value in (line.split(":", 1) for line in lines)
        }
        body = await reader.readexactly(int(headers["content-length"]))
        return Request(path, headers, body, asyncio.get_running_loop().time())
