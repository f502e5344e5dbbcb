"""The question whether a broker serves, against servers that answer anything."""

from __future__ import annotations

import asyncio
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from fleetwake.consumers.broker.probe import is_serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def answering(response: bytes) -> AsyncIterator[int]:
    """A server that sends the same response to everyone; its port."""

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.read(1)
        writer.write(response)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def metadata(*node_ids: int, rack: bytes | None = None) -> bytes:
    """A Metadata response, version 4, as far as the brokers go."""
    body = struct.pack(">iii", 1, 0, len(node_ids))
    for node_id in node_ids:
        body += struct.pack(">ih4si", node_id, 4, b"host", 9092)
        body += struct.pack(">h", -1) if rack is None else b"\x00\x04" + rack
    return struct.pack(">i", len(body)) + body


@pytest.mark.parametrize(
    "response", [metadata(1), metadata(3, 2, 1), metadata(3, 1, rack=b"rack")]
)
async def test_a_broker_serves_when_it_is_among_the_live_ones(response: bytes) -> None:
    """Topics can be created from then on."""
    async with answering(response) as port:
        assert await is_serving("127.0.0.1", port, 1)


@pytest.mark.parametrize(
    "response",
    [
        metadata(),
        metadata(2),
        metadata(1)[:-9],
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff\xff\xff\xff",
        struct.pack(">i", 8) + bytes(8),
    ],
)
async def test_an_open_port_is_not_enough(response: bytes) -> None:
    """An answer that is cut, strange or without the node does not count."""
    async with answering(response) as port:
        assert not await is_serving("127.0.0.1", port, 1)


async def test_nobody_serves_on_a_closed_port() -> None:
    """A refused connection is an answer too."""
    async with answering(b"") as port:
        pass

    assert not await is_serving("127.0.0.1", port, 1)
