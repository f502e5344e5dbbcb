"""`fleetwake tail`."""

from __future__ import annotations

import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fleetwake.consumers.cli.command import command
from fleetwake.consumers.cli.exits import OK, say
from fleetwake.schemas.errors import ConfigurationError, InvalidRecordError
from fleetwake.schemas.topics import ALL_TOPICS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from fleetwake.consumers.cli.records import Shown
    from fleetwake.consumers.runtime.service import Record
    from fleetwake.producer.settings import KafkaSettings
    from fleetwake.schemas.topics import Topic

__all__ = ["readable", "tail"]


@command(
    "fleetwake tail",
    "fleetwake tail --session s-42 --from-start",
    "fleetwake tail --topic alerts --json | jq .reason",
    "fleetwake tail --from-start --max 1000 > events.jsonl",
    exits={
        0: "so many were shown as --max says",
        1: "there is no such topic yet",
        2: "there never will be",
        4: "the broker does not answer",
        130: "stopped by Ctrl-C",
    },
)
async def tail(
    *,
    topic: Annotated[
        str, typer.Option(metavar="NAME", help="events, alerts, metrics, ...")
    ] = "events",
    session: Annotated[
        str | None, typer.Option(metavar="ID", help="Only this session's.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON lines, also on a terminal.")
    ] = False,
    last: Annotated[
        int,
        typer.Option("-n", "--last", min=0, help="Begin with the last of a partition."),
    ] = 1,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Begin with the first there is.")
    ] = False,
    maximum: Annotated[
        int | None, typer.Option("--max", min=1, help="End after so many.")
    ] = None,
) -> int:
    """
    Follow a topic: a line for each record as it comes, until Ctrl-C.

    JSON lines where no terminal reads. Those of events are what `fleetwake ingest`
    takes. A session's events come in order, those of several sessions nearly so.
    """
    from fleetwake.consumers.cli.cluster import kafka_settings, partitions_of, reach
    from fleetwake.consumers.cli.records import as_json as json_of
    from fleetwake.consumers.cli.records import as_line
    from fleetwake.consumers.cli.terminal import out, print_text
    from fleetwake.consumers.runtime.kafka import tail as follow

    chosen, kafka = _topic(topic), kafka_settings()
    partitions_of(kafka, chosen, await reach(kafka))
    console = out()
    plain = as_json or not sys.stdout.isatty()
    shown = 0
    records = follow(kafka, chosen, from_start=from_start, last=last)
    async with aclosing(readable(kafka, chosen, records)) as contents:
        async for _, record, content in contents:
            if session is not None and not _is_of(session, record, content):
                continue
            if plain:
                print(json_of(content), flush=True)  # noqa: T201  # data
            else:
                print_text(console, as_line(content, record.timestamp_ms))
            shown += 1
            if shown == maximum:
                break
    return OK


def _topic(name: str) -> Topic:
    for topic in ALL_TOPICS:
        if topic.name == name:
            return topic
    names = ", ".join(topic.name for topic in ALL_TOPICS)
    raise ConfigurationError(f"no topic {name!r}; there are: {names}")


def _is_of(session: str, record: Record, content: Shown) -> bool:
    own = getattr(content, "session_id", None)
    return own == session or (own is None and record.key == session.encode())


async def readable(
    kafka: KafkaSettings,
    topic: Topic,
    records: AsyncIterator[tuple[int, Record]],
) -> AsyncGenerator[tuple[int, Record, Shown]]:
    """
    Decode records; of those that cannot be read, say so, and go on.

    Closes `records`, an asynchronous generator.
    """
    from fleetwake.consumers.cli.records import read
    from fleetwake.producer.lookup import NetworkSchemas

    schemas = NetworkSchemas(kafka)
    async with aclosing(cast("AsyncGenerator[tuple[int, Record]]", records)) as source:
        async for partition, record in source:
            try:
                content = await read(topic, record, schemas)
            except InvalidRecordError as error:
                where = f"partition {partition}, offset {record.offset}"
                say(f"fleetwake: {where}: {error}")
            else:
                yield partition, record, content
