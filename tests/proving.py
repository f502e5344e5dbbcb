"""Archives with their proof, made without a runtime: for tests of the proof."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from unittest.mock import patch

from fleetwake.consumers.archive.chain import Appended, Chain
from fleetwake.consumers.archive.columns import ARCHIVE_SCHEMA, to_table
from fleetwake.consumers.archive.compaction import CompactionSettings, Compactor
from fleetwake.consumers.archive.proof.keys import KeyRing, KeySettings
from fleetwake.consumers.archive.proof.lists import Heads, Place
from fleetwake.consumers.archive.proof.settings import DigestSettings
from fleetwake.consumers.archive.proof.signer import Signer
from fleetwake.consumers.archive.proof.thread import ListThread
from fleetwake.consumers.archive.proof.verify import Verification, verify
from fleetwake.consumers.archive.proof.writer import ListWriter
from fleetwake.consumers.archive.retention.retention import Outcome, Retention
from fleetwake.consumers.archive.retention.settings import RetentionSettings
from fleetwake.consumers.runtime.decode import decode
from fleetwake.consumers.runtime.service import Record
from fleetwake.consumers.stores import open_store
from fleetwake.schemas.codec import PackagedSchemas, encode
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.topics import EVENTS

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwake.consumers.archive.proof.report import Report

TOPIC = "fleetwake.events"
SCHEMAS = PackagedSchemas()
JUNK = b"\xc3\x01 no such schema and no datum"


@dataclass
class Proven:
    """
    An archive in a folder, as the service would write it.

    `next` are the next offsets, `sequences` the last ones of (session, producer); with
    a `url`, only the keys are in the folder. A record's append time is `append_ms` and
    its offset.
    """

    folder: Path
    seed: int = 0
    keep_bytes: bool = True
    url: str = ""
    append_ms: int = 1_760_000_000_000
    sequences: dict[tuple[str, str], int] = field(default_factory=dict)
    next: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        root = self.url or str(self.folder)
        self.archive = open_store(f"{root}/archive")
        self.digests = open_store(f"{root}/digests")
        self.keys = self.folder / "keys"
        self.signer = Signer(KeySettings(folder=self.keys))
        self.heads = Heads()
        self.thread = ListThread(lambda: None)
        self.writers: dict[int, ListWriter] = {}

    def writer(self, partition: int, **settings: object) -> ListWriter:
        """The writer of a partition's lists; with settings a new one."""
        if partition not in self.writers or settings:
            self.writers[partition] = ListWriter(
                self.archive,
                self.digests,
                Place(TOPIC, partition),
                next_offset=self.next.get(partition, 0),
                signer=self.signer,
                heads=self.heads,
                thread=self.thread,
                settings=DigestSettings(
                    **({"folder": "unused", "interval_s": 1e-9} | settings)
                ),
            )
        return self.writers[partition]

    def event(
        self, partition: int, session: str = "", producer: str = "p", **fields: object
    ) -> bytes:
        """The next event of a session, one of three of the partition by default."""
        session = session or f"s{partition}-{self.random.randrange(3)}"
        sequence = self.sequences.get((session, producer), 0) + 1
        self.sequences[session, producer] = sequence
        return encode(
            AuditEvent(
                **{
                    "event_id": f"{session}-{producer}-{sequence}",
                    "source": "native",
                    "source_event_type": "tool_call",
                    "event_type": "tool.attempt",
                    "occurred_at": 1_760_000_000_000_000 + sequence,
                    "recorded_at": 1_760_000_000_000_001,
                    "session_id": session,
                    "producer_id": producer,
                    "sequence": sequence,
                    "tool_name": self.random.choice(["bash", "grep", None]),
                    "cost_usd": self.random.choice([None, 0.25]),
                    "attributes": {"n": str(sequence)},
                    "payload": "x" * self.random.randrange(60),
                }
                | fields
            )
        )

    def append(
        self, partition: int, *values: bytes | None, gap: int = 0, holes: bool = False
    ) -> Appended:
        """Publish a file of these values; `gap`: of so many lost offsets."""
        chain = Chain(self.archive, TOPIC, partition)
        start = at = self.next.get(partition, 0)
        records = []
        for value in values:
            at += self.random.randrange(3) if holes else 0
            records.append(Record(at, self.append_ms + at, b"s", value))
            at += 1
        table = ARCHIVE_SCHEMA.empty_table()
        if records:
            batch = decode(EVENTS, partition, records, SCHEMAS, replayed=False)
            table = to_table(batch, TOPIC, keep_bytes=self.keep_bytes)
        end = (start + gap if gap else at) - 1
        appended = chain.append(
            table,
            start=start,
            end=end,
            zstd_level=1,
            gap="retention" if gap else "",
        )
        self.next[partition] = end + 1
        return appended

    def file(self, partition: int, rows: int = 5, **options: bool) -> Appended:
        """Publish a file of so many events."""
        values = [self.event(partition) for _ in range(rows)]
        return self.append(partition, *values, **options)

    def list(self, partition: int, *, complete_ms: int = 1_760_000_000_000) -> None:
        """Write a list of all that is there."""
        self.writer(partition).complete(complete_ms)
        self.writer(partition).write_if_due()

    def compact(self, *, merge: bool = False) -> None:
        """Curate all that is there; also merge small files."""
        settle_s, fan_in = (1.0, 2) if merge else (3e8, 64)
        chosen = CompactionSettings(
            threads=1, memory_mb=128, settle_s=settle_s, fan_in=fan_in
        )
        compactor = Compactor(self.archive, self.signer, chosen)
        while compactor.step(TOPIC):
            pass

    def retain(
        self,
        *,
        raw_days: float | None = 1,
        curated_days: float | None = None,
        dry_run: bool = False,
        keep: int = 16,
        **more: object,
    ) -> Outcome:
        """Remove what is old; by the clock all is. Of raw files `keep` stay."""
        job = Retention(
            **(
                {
                    "archive": self.archive,
                    "digests": self.digests,
                    "signer": self.signer,
                    "settings": RetentionSettings(
                        raw_days=raw_days, curated_days=curated_days
                    ),
                    "grace_s": 0,
                    "trust_clock": True,
                }
                | more
            )
        )
        with patch("fleetwake.consumers.archive.retention.raw.MAX_FILES", keep):
            return job.run(dry_run=dry_run)

    def verify(self, **what: object) -> Report:
        """Verify it all."""
        return verify(
            Verification(
                **(
                    {
                        "archive": self.archive,
                        "digests": self.digests,
                        "ring": KeyRing.load(self.keys),
                        "lookup": SCHEMAS,
                    }
                    | what
                )
            )
        )


def healthy(
    folder: Path, seed: int = 0, partitions: int = 3, rounds: int = 4, url: str = ""
) -> Proven:
    """An archive with some of everything that may be in one; one more is silent."""
    made = Proven(folder, seed, url=url)
    draw = made.random.randrange
    made.append(0, JUNK, None, made.event(0))
    made.append(1, gap=7)
    for _ in range(rounds):
        for partition in range(partitions):
            for _ in range(draw(1, 3)):
                made.file(partition, draw(2, 9), holes=draw(2) == 0)
            if draw(3) == 0:
                made.append(partition, JUNK, None, made.event(partition))
            if draw(4) == 0:
                made.append(partition, gap=draw(1, 50))
            if draw(3):
                made.list(partition)
        made.list(partitions)
    for partition in range(partitions):
        made.list(partition)
    return made


def retained(folder: Path, seed: int = 0) -> Proven:
    """
    A whole archive, half of whose raw files are gone; curated, and some of that gone.

    Some events were published twice. What is raw and not curated is in there, too.
    """
    made = Proven(folder, seed)
    for nth in range(3):
        for partition in range(2):
            values = [made.event(partition) for _ in range(6)]
            made.append(partition, *values, JUNK, None, *values[:3])
            made.append(partition, *values[3:], made.event(partition))
            made.file(partition, 2)
            made.list(partition)
        made.compact()
        if nth == 1:
            made.retain(raw_days=None, curated_days=1)
    for partition in range(2):
        made.file(partition, 2)
        made.list(partition)
    made.retain(keep=3)
    return made
