"""`fleetwake archive verify`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetwake.consumers.cli.archive_place import ArchivePlace, Since, since_time
from fleetwake.consumers.cli.command import command
from fleetwake.consumers.cli.exits import FAILED, INTEGRITY, OK, say
from fleetwake.producer.loop import run_loop

if TYPE_CHECKING:
    from collections.abc import Generator

    from fleetwake.consumers.archive.proof.report import Report
    from fleetwake.consumers.archive.proof.verify import Progress, Verification
    from fleetwake.consumers.stores import Store
    from fleetwake.producer.settings import KafkaSettings

__all__ = ["verify"]


@command(
    "fleetwake archive verify",
    "fleetwake archive verify --topic-check --json | jq .findings",
    "fleetwake archive verify --keys ./trusted-keys --anchor ./anchor.json",
    exits={
        0: "all is as it was written",
        1: "nothing is archived there",
        2: "a setting, the keys or the anchor cannot be used",
        4: "the broker or a store does not answer",
        5: "something is not: it is named",
        130: "stopped by Ctrl-C",
    },
)
def verify(
    *,
    archive: ArchivePlace = None,
    digests: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="The signed lists; default: this home's."),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Whom to trust; default: this home's own keys."
        ),
    ] = None,
    partition: Annotated[
        list[int] | None,
        typer.Option("--partition", "-p", help="Only this one; may be repeated."),
    ] = None,
    since: Since = None,
    signed: Annotated[
        bool,
        typer.Option(
            "--signed", help="Nothing writes any more: all files must be signed."
        ),
    ] = False,
    topic_check: Annotated[
        bool,
        typer.Option("--topic-check", help="Compare with what the topic still has."),
    ] = False,
    anchor: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Compare with the heads in it; then keep the present ones there.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> int:
    """
    Prove that the archive is what was archived, or name what is not.

    Every record_sha256, root, signature, hash and chain is computed again, columns are
    compared with the kept bytes, offsets and each producer's sequences must be whole;
    curated files must hold the same records, and what is gone needs a tombstone.
    Public keys are enough. With --since, files that were listed before must be there,
    and are not read. docs/proof.md says what each finding means, and what nobody can
    find without an anchor.
    """
    from fleetwake.consumers.archive.proof.anchor import read_anchor, write_anchor
    from fleetwake.consumers.archive.proof.keys import KeyRing, KeySettings
    from fleetwake.consumers.archive.proof.sealed_rows import SealedRows, trusted
    from fleetwake.consumers.archive.proof.settings import DigestSettings
    from fleetwake.consumers.archive.proof.verify import Verification
    from fleetwake.consumers.archive.proof.verify import verify as prove
    from fleetwake.consumers.archive.settings import ArchiveSettings
    from fleetwake.consumers.cli.archive_findings import show
    from fleetwake.consumers.cli.cluster import kafka_settings
    from fleetwake.consumers.cli.terminal import print_json
    from fleetwake.consumers.content import Erasures, SealingSettings, open_content
    from fleetwake.consumers.stores import open_store
    from fleetwake.schemas.codec import PackagedSchemas

    store = open_store(archive or ArchiveSettings().folder)
    # Before: the archive may go on meanwhile.
    kafka = kafka_settings() if topic_check else None
    committed = run_loop(_committed(kafka)) if kafka is not None else {}
    lists = open_store(digests or DigestSettings().folder)
    ring = KeyRing.load(keys or KeySettings().folder)
    with _progress(store) as progress:
        what = Verification(
            archive=store,
            digests=lists,
            ring=ring,
            sealed=SealedRows(
                Erasures(lists, trusted(ring)), open_content(SealingSettings())
            ),
            lookup=PackagedSchemas(),
            partitions=frozenset(partition or ()),
            since=since_time(since),
            signed=signed,
            anchors=read_anchor(anchor) if anchor else (),
            progress=progress,
        )
        report = prove(what)
    if kafka is not None:
        run_loop(_compare(kafka, committed, what, report))
    if as_json:
        print_json(report.to_json())
    else:
        show(report, store.url)
    if not report.ok:
        return INTEGRITY
    if not report.partitions:
        return FAILED
    if anchor:
        # Those of partitions that were not looked at stay.
        write_anchor(anchor, [*what.anchors, *report.heads])
        say(f"kept the newest lists in {anchor}")
    return OK


async def _committed(kafka: KafkaSettings) -> dict[int, int]:
    """Look up how far the archive says that it has come, by partition."""
    from fleetwake.consumers.cli.cluster import reach
    from fleetwake.consumers.runtime.kafka_admin import group_lag, topic_bounds
    from fleetwake.consumers.runtime.source import TopicPartition
    from fleetwake.schemas.topics import EVENTS

    await reach(kafka)
    lag = await group_lag(kafka, kafka.group("archive"))
    name = kafka.topic(EVENTS)
    return {
        number: end - lag[TopicPartition(name, number)]
        for number, (_, end) in (await topic_bounds(kafka, EVENTS)).items()
        if TopicPartition(name, number) in lag
    }


async def _compare(
    kafka: KafkaSettings,
    committed: dict[int, int],
    what: Verification,
    report: Report,
) -> None:
    from fleetwake.consumers.archive.proof.check_topic import Retained, check_topic
    from fleetwake.consumers.archive.proof.lists import Place
    from fleetwake.consumers.runtime.kafka import KafkaTopicReader
    from fleetwake.consumers.runtime.kafka_admin import topic_bounds
    from fleetwake.schemas.topics import EVENTS

    for number, (start, end) in (await topic_bounds(kafka, EVENTS)).items():
        if what.partitions and number not in what.partitions:
            continue
        place = Place(kafka.topic(EVENTS), number)
        retained = Retained(start, end, committed.get(number))
        records = KafkaTopicReader(kafka).read(EVENTS, number)
        keys = what.sealed.keys if what.sealed else None
        await check_topic(what.archive, place, retained, records, report, keys)


@contextlib.contextmanager
def _progress(store: Store) -> Generator[Progress]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from fleetwake.consumers.cli.terminal import talk

    console = talk()
    if not console.is_terminal:
        yield _said_by_partition()
        return
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("looking", total=None)
        folders = ("raw", "curated", "dropped")
        sizes = [one.size for folder in folders for one in store.list(folder)]
        progress.update(task, total=sum(sizes))

        def advance(place: str, size: int) -> None:
            progress.update(task, description=place, advance=size)

        yield advance


def _said_by_partition() -> Progress:
    begun: set[str] = set()

    def tell(place: str, _: int) -> None:
        if place not in begun:
            begun.add(place)
            say(f"verifying {place}")

    return tell
