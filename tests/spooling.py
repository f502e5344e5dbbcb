"""Records for tests of the spool."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetwake.producer.spool import Spool, Spooled

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MAX_BYTES = 64 * 1024 * 1024


def record(sequence: int, *, size: int = 200, **fields: object) -> Spooled:
    """Return a record that no other sequence has."""
    session_id = f"session-{sequence % 7}"
    value = sequence.to_bytes(8) * (size // 8 + 1)
    return Spooled(
        topic="events",
        key=session_id.encode(),
        value=value[:size],
        headers=[("fleetwake-digest", sequence.to_bytes(32))],
        recorded_at=1_700_000_000_000_000 + sequence,
        session_id=session_id,
        producer_id="producer-1",
        sequence=sequence,
    )._replace(**fields)


def records(first: int, count: int, *, size: int = 200) -> list[Spooled]:
    """Return some records that follow each other."""
    return [record(sequence, size=size) for sequence in range(first, first + count)]


def new_spool(
    folder: Path, *, max_bytes: int = MAX_BYTES, durable: bool = False
) -> Spool:
    return Spool.create(
        folder, producer_id="producer-1", max_bytes=max_bytes, durable=durable
    )


def filled(folder: Path, batches: int, *, count: int = 10, size: int = 200) -> Path:
    """Return the path of a spool whose owner is gone, as `close` leaves it."""
    spool = new_spool(folder)
    for index in range(batches):
        spool.append(records(1 + index * count, count, size=size))
    spool.close()
    return spool.path


def read_all(spool: Spool, *, max_bytes: int = 1 << 20) -> list[Spooled]:
    """Return everything that is not settled, by several reads."""
    found: list[Spooled] = []
    after = 0
    while batches := spool.read(after, max_bytes=max_bytes):
        after = batches[-1].number
        found += [record for batch in batches for record in batch.records]
    return found


def adopted(path: Path) -> Spool:
    """Open a spool that somebody must have left."""
    spool = Spool.adopt(path)
    assert spool is not None
    return spool


def recovered(path: Path) -> list[int]:
    """Return the sequences that an adopter reads, and leave the file as it was."""
    spool = adopted(path)
    try:
        return sequences(read_all(spool))
    finally:
        spool.close()


def sequences(found: Iterable[Spooled]) -> list[int]:
    return [one.sequence for one in found]
