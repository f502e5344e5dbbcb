"""
One POST to one address, and what its answer means.

No redirect is followed, whoever asks for it: what is sent was meant for the configured
host. TLS is verified with the system's certificates or `cafile`. Proxies are those of
the environment (HTTPS_PROXY, NO_PROXY). Of an answer's body nothing is kept.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from fleetwake.consumers.notify.notice import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import httpx
    from pydantic import SecretStr

__all__ = ["Post", "answer_of"]

_MAX_ANSWER_BYTES: Final = 64 * 1024
_LONGEST_RETRY_AFTER_S: Final = 3600.0
_TRY_AGAIN: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,
        HTTPStatus.LOCKED,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)

# They log the addresses of requests, which are secrets here.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.ERROR)


class Post:
    """
    Posts to one URL. Belongs to one event loop; connections are kept.

    `timeout_s` is of each wait for the network; a deadline for all is the caller's.
    """

    def __init__(
        self, url: SecretStr, *, timeout_s: float, cafile: Path | None
    ) -> None:
        import httpx

        self._url = url
        self._client = httpx.AsyncClient(
            verify=ssl.create_default_context(cafile=cafile),
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=2, keepalive_expiry=60.0),
            follow_redirects=False,
            headers={"user-agent": "fleetwake"},
        )

    async def __call__(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send `body` once. Raises nothing but cancellation."""
        import httpx

        url = self._url.get_secret_value()
        try:
            async with self._client.stream(
                "POST", url, content=body, headers=headers
            ) as response:
                answer = answer_of(
                    response.status_code, response.headers.get("retry-after")
                )
                # The status says it all; an answer that breaks off says no less.
                with contextlib.suppress(httpx.TransportError):
                    await _read(response)
        except httpx.TransportError as error:
            return Answer("retried", error=_problem(error))
        return answer

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def answer_of(status: int, retry_after: str | None = None) -> Answer:
    """Tell what a status means: what the sender did wrong is not tried again."""
    if HTTPStatus(200) <= status < HTTPStatus(300):
        return Answer("delivered", status)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRY_AGAIN:
        return Answer("retried", status, f"HTTP {status}", _seconds(retry_after))
    if HTTPStatus(300) <= status < HTTPStatus(400):
        return Answer("refused", status, f"HTTP {status}: redirects are not followed")
    return Answer("refused", status, f"HTTP {status}")


def _seconds(retry_after: str | None) -> float | None:
    """Read Retry-After, a number of seconds or a date; at most an hour."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return None
        now = datetime.now(UTC)
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S)


async def _read(response: httpx.Response) -> None:
    """Read what is short, so that the connection can be used again."""
    size = 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > _MAX_ANSWER_BYTES:
            return


def _problem(error: httpx.TransportError) -> str:
    """Name the kind; the words of a failed connect hold no more than the host."""
    kind = type(error).__name__
    return f"{kind}: {error}"[:200] if kind == "ConnectError" else kind
