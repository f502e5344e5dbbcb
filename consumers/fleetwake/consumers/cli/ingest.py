"""`fleetwake ingest`."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from fleetwake.consumers.cli.account import Account, rejects_file
from fleetwake.consumers.cli.command import command
from fleetwake.consumers.cli.exits import FAILED, OK, UnreachableError, say
from fleetwake.consumers.ingest.lines import STDIN
from fleetwake.producer.loop import run_loop
from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Generator

    from fleetwake.consumers.ingest.follow import Followed
    from fleetwake.consumers.ingest.run import Ingestion
    from fleetwake.consumers.ingest.stream import Way
    from fleetwake.producer.settings import KafkaSettings

__all__ = ["AgentOption", "FormatOption", "SessionOption", "ingest"]

FormatOption = Annotated[
    Literal["auto", "calute", "agent-framework", "agent-sdk", "atof", "native"],
    typer.Option("--format", help="Of the lines; auto: of each line."),
]
SessionOption = Annotated[
    str | None,
    typer.Option(
        metavar="ID",
        help="Of records that carry none; default: the file's stem, or stdin.",
    ),
]
AgentOption = Annotated[
    str | None, typer.Option(metavar="ID", help="Of records that carry none.")
]

_IDLE_S: Final = 0.2
_TURN_LINES: Final = 1_000
"""Of one followed file, before the next one has its turn."""


@command(
    "fleetwake ingest audit.jsonl trace.jsonl.gz",
    "fleetwake ingest --follow --session run-7 tools.jsonl",
    "zcat march.jsonl.gz | fleetwake ingest - --rejects refused.jsonl",
    """echo '{"event_type": "mark", "session_id": "s-1"}' | fleetwake ingest -""",
    exits={
        0: "all lines are published",
        1: "lines were refused, the others are published",
        2: "a file cannot be read",
        4: "Kafka does not answer, or did not take all within --timeout",
        130: "stopped by Ctrl-C",
    },
)
def ingest(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE", help="- is standard input.")
    ],
    *,
    format_: FormatOption = "auto",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as files grow: tail -F.")
    ] = False,
    times: Annotated[
        Literal["original", "shift"],
        typer.Option(
            "--time", help="shift: the last event (--follow, -: the first) is now."
        ),
    ] = "original",
    session: SessionOption = None,
    agent: AgentOption = None,
    rejects: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Append refused lines, redacted, with the reason."
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Publish also what is published.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="For Kafka to answer.")
    ] = 30.0,
) -> int:
    """
    Publish JSON lines of agents: of Calute, agent_framework, agent-sdk, ATOF, or ours.

    A line that makes no event goes to the dead letters with its reason, and the rest
    goes on. Nothing is dropped: the reader waits for Kafka. What is published of a
    file is written down, so that the next run goes on from there; after a kill some
    events may come twice, with the same event_id.
    """
    from fleetwake.consumers.cli.cluster import kafka_settings, partitions_of, reach
    from fleetwake.consumers.home import home
    from fleetwake.consumers.ingest.stream import Way
    from fleetwake.schemas.topics import DEAD_LETTERS, EVENTS

    _check(files, follow=follow)
    kafka = kafka_settings()
    way = Way(
        format_=format_,
        session_id=session,
        agent_id=agent,
        is_shifted=times == "shift",
        destination=f"{kafka.bootstrap_servers}/{kafka.topic(EVENTS)}",
        bookmarks=home() / "ingest",
        restart=restart,
    )
    with rejects_file(rejects) as refused:
        topics = run_loop(reach(kafka, timeout, patient=True))
        for topic in (EVENTS, DEAD_LETTERS):
            partitions_of(kafka, topic, topics)
        account = Account(refused)
        with _work(kafka, timeout, account) as work:
            if follow and files != [STDIN]:
                work.follow(files, way)
            else:
                work.read(files, way)
    return OK if account.is_clean else FAILED


def _check(files: list[str], *, follow: bool) -> None:
    """
    See that all files are there, before anything is published.

    Raises:
        ConfigurationError: one is not, or standard input is named beside others.
    """
    if STDIN in files and len(files) > 1:
        raise ConfigurationError("standard input is read alone, without files")
    for path in map(Path, files):
        if str(path) == STDIN:
            continue
        if path.is_dir():
            raise ConfigurationError(f"{path} cannot be read: it is a folder")
        if path.exists() and not os.access(path, os.R_OK):
            raise ConfigurationError(f"{path} cannot be read: permission denied")
        if not path.exists() and not follow:
            raise ConfigurationError(f"{path} cannot be read: there is no such file")


@contextlib.contextmanager
def _work(kafka: KafkaSettings, timeout_s: float, account: Account) -> Generator[_Work]:
    """
    A producer and what goes with it; at the end all is delivered and written down.

    Raises:
        UnreachableError: Kafka does not take all.
    """
    from fleetwake.consumers.ingest.keeper import Keeper
    from fleetwake.consumers.ingest.run import Ingestion, NotTakenError
    from fleetwake.producer import AuditProducer
    from fleetwake.producer.settings import ProducerSettings

    settings = ProducerSettings(
        durability="memory", on_full="block", block_timeout_s=timeout_s
    )
    producer = AuditProducer(settings, kafka=kafka)
    keeper = Keeper(producer, timeout_s)
    ingestion = Ingestion(producer, keeper, account, timeout_s)
    is_delivered = False
    try:
        with _terminable(), account.showing(producer):
            yield _Work(ingestion, account)
    except NotTakenError as error:
        raise UnreachableError(f"{kafka.bootstrap_servers}: {error}") from error
    finally:
        is_delivered = producer.close(timeout_s)
        keeper.close(is_delivered=is_delivered)
        account.tell(producer.statistics(), keeper.problem)
    if not is_delivered:
        raise UnreachableError(
            f"{kafka.bootstrap_servers} did not take all within {timeout_s:g} s: "
            f"{producer.statistics().last_error}"
        )


class _Work:
    """Reads files, and has their lines taken and the account shown."""

    def __init__(self, ingestion: Ingestion, account: Account) -> None:
        self._ingestion = ingestion
        self._show = account.show

    def read(self, files: list[str], way: Way) -> None:
        """One file after the other, to its end."""
        from fleetwake.consumers.ingest.lines import opened
        from fleetwake.consumers.ingest.stream import Stream

        for file in files:
            with opened(file) as source:
                stream = Stream(file, source, way, now_us=_now_us())
                try:
                    while line := stream.reader.read():
                        self._ingestion.take(stream, line)
                        self._show()
                except ConfigurationError:  # it breaks: what was before it is taken
                    self._ingestion.keep(stream)
                    raise
                self._ingestion.keep(stream)

    def follow(self, files: list[str], way: Way) -> None:
        """All files in turns, until interrupted."""
        from fleetwake.consumers.ingest.follow import Followed

        for file in files:
            if not Path(file).exists():
                say(f"{file} is not there yet: waiting for it")
        with contextlib.ExitStack() as stack:
            followed = [Followed(file, way, _now_us) for file in files]
            for one in followed:
                stack.callback(one.close)
            while True:
                if not sum(map(self._turn, followed)):
                    time.sleep(_IDLE_S)

    def _turn(self, followed: Followed) -> int:
        """Take what is there of one file, and return the number of lines."""
        lines = 0
        while lines < _TURN_LINES and (line := followed.read()):
            if followed.stream is not None:
                self._ingestion.take(followed.stream, line)
            self._show()
            lines += 1
        if followed.stream is not None:
            self._ingestion.keep(followed.stream)
        self._show()
        return lines


@contextlib.contextmanager
def _terminable() -> Generator[None]:
    """SIGTERM ends it in order, as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _now_us() -> int:
    return time.time_ns() // 1000
