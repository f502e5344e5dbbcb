"""Reads what running services say of themselves on their `/metrics`."""

from __future__ import annotations

import asyncio
import http.client
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Progress", "progress", "samples", "scrape"]

_TIMEOUT_S: Final = 5.0


class Progress(NamedTuple):
    """Records of a topic that services have committed, and alerts that are raised."""

    consumed: dict[str, int]
    alerts: int


async def progress(urls: Mapping[str, str], topic: str) -> Progress:
    """
    Ask services, given by name and metrics URL, how far they are.

    The topic's log must start at offset 0. Who does not answer has consumed nothing.
    """
    exposed = await asyncio.gather(*map(scrape, urls.values()))
    consumed = {
        name: int(
            sum(
                value
                for labels, value in samples(text, "fleetwake_committed_offset")
                if labels["topic"] == topic
            )
        )
        for name, text in zip(urls, exposed, strict=True)
    }
    opened = sum(
        value
        for text in exposed
        for labels, value in samples(text, "fleetwake_loops_alerts_total")
        if labels["state"] == "open"
    )
    return Progress(consumed, int(opened))


async def scrape(url: str) -> str:
    """What a service exposes; empty where none answers."""
    return await asyncio.to_thread(_get, url)


def samples(exposed: str, name: str) -> Iterator[tuple[Mapping[str, str], float]]:
    """Yield labels and value of each sample of one metric."""
    # Picked by line first: the parser is slow, and most lines are of other metrics.
    starts = name + "{", name + " "
    lines = [line for line in exposed.split("\n") if line.startswith(starts)]
    for family in text_string_to_metric_families("\n".join([*lines, ""])):
        for sample in family.samples:
            yield sample.labels, sample.value


def _get(url: str) -> str:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
