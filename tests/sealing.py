"""Sealed archives, made without a runtime: for tests of content and its erasure."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import zlib
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
from tests.archiving import PARTITION, SCHEMAS, TOPIC, feed, start

from fleetwake.consumers.archive.archive import Archive
from fleetwake.consumers.archive.proof.keys import KeyRing, KeySettings
from fleetwake.consumers.archive.proof.proof import Proof
from fleetwake.consumers.archive.proof.sealed_rows import SealedRows, trusted
from fleetwake.consumers.archive.proof.settings import DigestSettings
from fleetwake.consumers.archive.proof.signer import Signer
from fleetwake.consumers.archive.proof.verify import Verification, verify
from fleetwake.consumers.archive.sealing import Sealing
from fleetwake.consumers.archive.settings import ArchiveSettings
from fleetwake.consumers.content import (
    ContentKeys,
    Eraser,
    Erasures,
    KeyStore,
    SealingSettings,
    open_content,
)
from fleetwake.consumers.query import ArchiveQuery, open_archive
from fleetwake.consumers.runtime.service import Record
from fleetwake.consumers.stores import open_store
from fleetwake.schemas.codec import encode
from fleetwake.schemas.event import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleetwake.consumers.archive.processor import PartitionArchive
    from fleetwake.consumers.archive.proof.report import Report

DAY_MS = 86_400_000
T0_MS = 1_790_000_000_000
"""In September 2026."""


def settings(folder: Path, /, **more: object) -> SealingSettings:
    return SealingSettings(
        **(
            {
                "on": True,
                "folder": str(folder / "content-keys"),
                "master_file": folder / "content-master.key",
            }
            | more
        )
    )


def keys(folder: Path, /, **sealing: object) -> ContentKeys:
    found = open_content(settings(folder, **sealing))
    assert found is not None
    return found


def service(folder: Path, /, **sealing: object) -> Archive:
    """The archive service, its keys and lists in folders beside it."""
    digests = DigestSettings(folder=str(folder / "digests"), interval_s=1e-9)
    return Archive(
        ArchiveSettings(folder=folder / "archive"),
        Proof(digests, KeySettings(folder=folder / "keys")),
        Sealing(settings(folder, **sealing), open_store(digests.folder)),
    )


def opened(folder: Path, /, **sealing: object) -> PartitionArchive:
    return asyncio.run(service(folder, **sealing).open(start()))


def said(
    offset: int,
    session: str,
    secret: str,
    *,
    at_ms: int | None = None,
    **fields: object,
) -> Record:
    """A record of an event whose every content field holds a secret."""
    made = AuditEvent(
        **{
            "event_id": f"event-{offset}",
            "source": "native",
            "source_event_type": "tool_call",
            "event_type": "tool.failure",
            "occurred_at": 1_760_000_000_000_000 + offset,
            "recorded_at": 1_760_000_000_000_001 + offset,
            "session_id": session,
            "producer_id": f"producer-{offset}",
            "sequence": 1,
            "tool_name": "bash",
            "outcome": "failure",
            "reason": f"reason {secret}",
            "error_message": f"error {secret}",
            "arguments_preview": f"arguments {secret}",
            "result_preview": f"result {secret}",
            "attributes": {"told": secret},
            "payload": f'{{"payload": "{secret}"}}',
        }
        | fields
    )
    at_ms = T0_MS + offset if at_ms is None else at_ms
    return Record(offset, at_ms, session.encode(), encode(made))


def put(processor: PartitionArchive, *records: Record) -> None:
    """Archive these as one file, and list it."""
    feed(processor, *records)
    processor.tick(T0_MS)
    asyncio.run(_flushed(processor))


async def _flushed(processor: PartitionArchive) -> None:
    await processor.flush()
    if processor._lists is not None:
        await processor._lists._thread.close()


def query(folder: Path, *, with_keys: bool = True) -> ArchiveQuery:
    found = keys(folder) if with_keys else None
    return open_archive(folder / "archive", content=found)


def eraser(folder: Path, /, **sealing: object) -> Eraser:
    """Who erases in the archive of `service`."""
    signing = Signer(KeySettings(folder=folder / "keys")).now()
    statements = open_store(folder / "digests")
    return Eraser(
        keys=KeyStore(settings(folder, **sealing)),
        statements=statements,
        erasures=Erasures(statements),
        key_id=signing.key_id,
        key=signing.key,
        by="a test",
        why="it was asked for",
    )


def verified(folder: Path, *, with_keys: bool = True) -> Report:
    """What `archive verify` finds."""
    digests = open_store(folder / "digests")
    ring = KeyRing.load(folder / "keys")
    return verify(
        Verification(
            archive=open_store(folder / "archive"),
            digests=digests,
            ring=ring,
            lookup=SCHEMAS,
            sealed=SealedRows(
                Erasures(digests, trusted(ring)), keys(folder) if with_keys else None
            ),
        )
    )


def found(report: Report) -> list[str]:
    return sorted({one.kind for one in report.findings})


def everything(*folders: Path) -> Iterator[tuple[str, bytes]]:
    """Every byte of all files, and what is compressed in them."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if not path.is_file():
                continue
            content = path.read_bytes()
            yield str(path), content
            if path.suffix == ".parquet":
                yield f"{path} rows", repr(pq.read_table(path).to_pylist()).encode()
                yield f"{path} footer", repr(pq.read_metadata(path).metadata).encode()


def traces(secret: str, *folders: Path) -> list[str]:
    """Where a secret can be found, as it is or in a form that anybody can undo."""
    plain = secret.encode()
    forms = {
        plain,
        plain.hex().encode(),
        plain.hex().upper().encode(),
        plain[::-1],
        repr(plain)[2:-1].encode(),
        secret.encode("utf-16-le"),
        *(base64.b64encode(b"x" * at + plain)[4:-4] for at in range(3)),
    }
    found: list[str] = []
    for where, content in everything(*folders):
        texts = [content, *_inflated(content)]
        if any(form in text for form in forms for text in texts):
            found.append(where)
    return found


def _inflated(content: bytes) -> Iterator[bytes]:
    for bits in (15, -15, 31):
        with contextlib.suppress(zlib.error):
            yield zlib.decompress(content, bits)


__all__ = [
    "DAY_MS",
    "PARTITION",
    "T0_MS",
    "TOPIC",
    "eraser",
    "everything",
    "found",
    "keys",
    "opened",
    "put",
    "query",
    "said",
    "service",
    "settings",
    "traces",
    "verified",
]
