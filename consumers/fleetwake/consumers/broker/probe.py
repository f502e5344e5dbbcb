"""Ask a broker whether it serves: one Metadata request on a plain socket."""

from __future__ import annotations

import asyncio
import struct

__all__ = ["is_serving"]

_METADATA = 3
_VERSION = 4
_TIMEOUT_S = 2.0
_MAX_BYTES = 1 << 20


async def is_serving(host: str, port: int, node_id: int) -> bool:
    """
    Whether the broker answers and counts itself among the live ones.

    An open port is not enough: a broker answers before it is unfenced, and topics
    cannot be created until then.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            return node_id in await _live_nodes(host, port)
    except (OSError, TimeoutError, EOFError, struct.error):
        return False


async def _live_nodes(host: str, port: int) -> list[int]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(_request())
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        if not 0 < size <= _MAX_BYTES:
            return []
        return _node_ids(await reader.readexactly(size))
    finally:
        writer.close()


def _request() -> bytes:
    header = struct.pack(">hhih", _METADATA, _VERSION, 1, -1)
    body = struct.pack(">i?", 0, False)  # no topics, and create none
    return struct.pack(">i", len(header) + len(body)) + header + body


def _node_ids(response: bytes) -> list[int]:
    _correlation, _throttle, brokers = struct.unpack_from(">iii", response)
    at, found = 12, list[int]()
    for _ in range(brokers):
        node_id, host_size = struct.unpack_from(">ih", response, at)
        at += 6 + host_size + 4  # the host, and its port
        (rack_size,) = struct.unpack_from(">h", response, at)
        at += 2 + max(rack_size, 0)  # -1: there is none
        found.append(node_id)
    return found
