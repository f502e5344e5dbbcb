"""`fleetwake erase`."""

from __future__ import annotations

import getpass
import time
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from fleetwake.consumers.cli.archive_place import (
    ArchivePlace,  # noqa: TC001  # typer reads it
)
from fleetwake.consumers.cli.command import command
from fleetwake.consumers.cli.exits import FAILED, OK, say
from fleetwake.producer.loop import run_loop
from fleetwake.schemas.errors import ConfigurationError, RetriableError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from fleetwake.consumers.cli.erase_places import Left
    from fleetwake.consumers.content import Eraser
    from fleetwake.producer.settings import KafkaSettings

__all__ = ["erase", "eraser"]


class _Archived(NamedTuple):
    """What the archive has of a session; `open` rows were never sealed."""

    rows: int
    open: int
    latest: datetime | None


@command(
    "fleetwake erase s-42 --dry-run",
    'fleetwake erase s-42 --yes --why "asked for by the user, ticket 7"',
    "fleetwake erase --expired --every 3600",
    exits={
        0: "erased, or there was nothing; what is left elsewhere is said",
        1: "you said no, or rows of it were never sealed",
        2: "the master key is not here, or a setting cannot be used",
        4: "a store does not answer",
    },
)
def erase(
    *,
    session: Annotated[str | None, typer.Argument(help="The session's id.")] = None,
    expired: Annotated[
        bool,
        typer.Option(
            "--expired",
            help="All keys of periods that FLEETWAKE_SEALING_KEEP_DAYS has ended.",
        ),
    ] = False,
    every: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=1, help="With --expired: again and again."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be erased.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    why: Annotated[
        str, typer.Option(metavar="TEXT", help="For the signed statement.")
    ] = "",
    place: ArchivePlace = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> int:
    """
    Erase the content of a session from the archive, by its keys, for good.

    Arguments, results, messages and payloads are gone in every file and every copy of
    the archive; when what happened, and how often, stays. A signed statement tells
    `archive verify`. Says what is gone now, and when topics and others will have
    forgotten the rest (docs/erasure.md).
    """
    if expired == (session is not None) or (every is not None and not expired):
        raise ConfigurationError("name a session, or say --expired")
    if session is not None:
        return _erase(session, place, why, dry_run=dry_run, yes=yes, as_json=as_json)
    while every is not None:
        try:
            _expire(why, dry_run=dry_run, as_json=as_json)
        except RetriableError as exc:
            say(f"fleetwake: {exc}; tried again in {every:g} s")
        time.sleep(every)
    _expire(why, dry_run=dry_run, as_json=as_json)
    return OK


def _erase(
    session: str,
    place: str | None,
    why: str,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    from fleetwake.consumers.cli.cluster import kafka_settings
    from fleetwake.consumers.cli.erase_places import left
    from fleetwake.consumers.cli.terminal import clean, print_json
    from fleetwake.consumers.content import KeyStore, SealingSettings

    archived = _archived(session, place)
    has_keys = KeyStore(SealingSettings()).is_there()
    # Where nothing was sealed there is nothing to erase, and still what to say.
    content = eraser(why) if has_keys or archived.rows > archived.open else None
    count = len(content.find(session)) if content else 0
    if not dry_run and count and not yes:
        say(f"{archived.rows:,} rows of {clean(session)} under {count:,} keys")
        if not typer.confirm("Erase their content, for good?", err=True):
            say("nothing was erased")
            return FAILED
    if content and not dry_run:
        count = len(content.erase(session))
    kafka = kafka_settings()
    configured, behind = run_loop(_asked(kafka))
    elsewhere = list(left(kafka, configured, archived.latest))
    if as_json:
        told = _plain(session, archived, count, elsewhere, is_done=not dry_run)
        print_json(told | {"not_archived_yet": behind})
    else:
        _tell(archived, count, elsewhere, is_done=not dry_run)
        if behind:
            say(
                f"archive: {behind:,} records of all sessions are not archived yet: "
                "erase again after that, some may be of this one"
            )
    return FAILED if archived.open else OK


def _expire(why: str, *, dry_run: bool, as_json: bool) -> None:
    from fleetwake.consumers.cli.terminal import print_json
    from fleetwake.consumers.content import SealingSettings, expired_periods

    days = SealingSettings().keep_days
    if days is None:
        raise ConfigurationError(
            "FLEETWAKE_SEALING_KEEP_DAYS is not set: no key has an end"
        )
    content = eraser(why or f"older than {days} days")
    periods = expired_periods(content.keys, days)
    count = 0 if dry_run else content.expire(periods)
    if not dry_run:
        # Files of days that nobody writes any more become one for each partition.
        content.gather(expired_periods(content.keys, 2) - periods)
    if as_json:
        print_json({"periods": sorted(periods), "keys": count, "erased": not dry_run})
    else:
        done = "would be erased" if dry_run else f"erased, {count:,} keys"
        say(f"content of {len(periods):,} periods {done}")
        for one in sorted(periods):
            typer.echo(one)


def eraser(why: str) -> Eraser:
    """
    Make who erases in the archive of the settings, for a reason.

    Raises:
        ConfigurationError: a key or a store cannot be used.
    """
    from fleetwake.consumers.archive.proof.keys import KeySettings
    from fleetwake.consumers.archive.proof.sealed_rows import trusted
    from fleetwake.consumers.archive.proof.settings import DigestSettings
    from fleetwake.consumers.archive.proof.signer import Signer
    from fleetwake.consumers.content import (
        Eraser,
        Erasures,
        KeyStore,
        SealingSettings,
    )
    from fleetwake.consumers.stores import open_store

    keys = KeyStore(SealingSettings())
    # Before a key to sign with is made: who cannot erase needs none.
    keys.tagging()
    signing = Signer(KeySettings()).now()
    statements = open_store(DigestSettings().folder)
    return Eraser(
        keys=keys,
        statements=statements,
        erasures=Erasures(statements, trusted(signing.ring)),
        key_id=signing.key_id,
        key=signing.key,
        by=_user(),
        why=why,
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _archived(session: str, place: str | None) -> _Archived:
    from fleetwake.consumers.archive.settings import ArchiveSettings
    from fleetwake.consumers.query import EmptyArchiveError, open_archive

    try:
        with open_archive(place or ArchiveSettings().folder) as archive:
            found = archive.sql(
                """
                SELECT count(*), count(*) FILTER (
                    WHERE content_key IS NULL AND invalid_reason IS DISTINCT FROM
                    'tombstone'
                ), max(kafka_timestamp)
                FROM events
                WHERE session_id = $id
                OR (session_id IS NULL AND kafka_key = encode($id))
                """,
                {"id": session},
            )
    except EmptyArchiveError:
        return _Archived(0, 0, None)
    return _Archived(*(column[0].as_py() for column in found.columns))


async def _asked(
    kafka: KafkaSettings,
) -> tuple[dict[str, dict[str, str]] | None, int | None]:
    """Ask how topics are set, and what is not archived yet; None: no broker answers."""
    from fleetwake.consumers.cli.cluster import reach
    from fleetwake.consumers.cli.exits import UnreachableError
    from fleetwake.consumers.runtime.kafka_admin import group_lag, topic_settings

    try:
        await reach(kafka)
        lag = await group_lag(kafka, kafka.group("archive"))
        return await topic_settings(kafka), sum(lag.values())
    except (UnreachableError, RetriableError):
        return None, None


def _plain(
    session: str,
    archived: _Archived,
    keys: int,
    elsewhere: Sequence[Left],
    *,
    is_done: bool,
) -> dict[str, Any]:
    return {
        "session": session,
        "erased": is_done,
        "keys": keys,
        "rows": archived.rows,
        "rows_never_sealed": archived.open,
        "left": [
            one._asdict() | {"until": one.until and one.until.isoformat()}
            for one in elsewhere
        ],
    }


def _tell(
    archived: _Archived, keys: int, elsewhere: Sequence[Left], *, is_done: bool
) -> None:
    from rich.table import Table

    from fleetwake.consumers.cli.terminal import out

    sealed = archived.rows - archived.open
    gone = "is gone now" if is_done else "would be gone"
    if keys or archived.rows:
        say(f"archive: content of {sealed:,} rows {gone}, with {keys:,} keys")
    else:
        say("archive: nothing of this session is there")
    if archived.open:
        say(
            f"archive: {archived.open:,} rows were archived before sealing was on: "
            "their content stays until retention removes their files"
        )
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("left in", "what", "gone by", "why"):
        table.add_column(name)
    for one in elsewhere:
        until = "?" if one.until is None else f"{one.until:%Y-%m-%d %H:%M}Z"
        table.add_row(one.place, one.what, until, one.why)
    out().print(table)
