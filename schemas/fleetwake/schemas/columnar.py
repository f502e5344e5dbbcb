"""
From a poll of records to Arrow columns, as `decode` says and ten times as fast.

With pyruhvro (the extra `fast`) the datums of one writer schema are decoded together;
without it, and for what its guard turns down, `decode` runs record by record. Both
ways give the same batch. Needs pyarrow.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from hashlib import sha256
from itertools import repeat
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import pyarrow as pa

from fleetwake.schemas import guarded
from fleetwake.schemas.arrow import EVENT_SCHEMA, compute, to_arrow
from fleetwake.schemas.codec import MAX_VALUE_BYTES, decode, plain_event_schema
from fleetwake.schemas.errors import InvalidRecordError, TombstoneError
from fleetwake.schemas.framing import CONFLUENT, unframe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.schemas.codec import Schema, SchemaLookup
    from fleetwake.schemas.event import AuditEvent

__all__ = ["EVENT_SCHEMA", "DecodedBatch", "decode_batch"]

_CACHED_ROWS: Final = 500
"""Are looked at together: so many frames stay in a core's cache from look to look."""

_BISECT_ROWS: Final = 32
"""Fewer are decoded one by one sooner than halved once more."""


class DecodedBatch(NamedTuple):
    """
    What came of a list of values.

    `events` has a row for each value that is an event, in the order of the values;
    `rows[i]` is the index of the value of row `i`. `invalid` has the others, in order.
    """

    events: pa.RecordBatch
    rows: list[int]
    invalid: list[tuple[int, InvalidRecordError]]


class _Part(NamedTuple):
    rows: list[int]
    events: pa.RecordBatch


def decode_batch(
    values: Sequence[bytes | None],
    lookup: SchemaLookup,
    *,
    digests: Sequence[bytes | None] | None = None,
) -> DecodedBatch:
    """
    Decode `values`; `digests[i]` is what the SHA-256 of `values[i]` must be.

    Raises nothing for bad bytes: they are in `invalid`, with the error that `decode`
    raises, and a None with a TombstoneError. The values together must stay below
    2 GiB, as the columns of a batch do. Costs 3 us per event of 750 bytes, more than
    half of it with the GIL held: run it in a thread.
    """
    if digests is None:
        digests = [None] * len(values)
    parts: list[_Part] = []
    alone, groups = _by_header(values, digests)
    for rows in groups.values():
        passed, rest = _decode_together(cast("Sequence[bytes]", values), rows, lookup)
        parts += passed
        alone += rest
    invalid: list[tuple[int, InvalidRecordError]] = []
    if alone or not parts:
        events, invalid = _decode_alone(values, digests, sorted(alone), lookup)
        if events.rows or not parts:
            parts.append(events)
    joined = _join(parts)
    return DecodedBatch(joined.events, joined.rows, invalid)


def _by_header(
    values: Sequence[bytes | None], digests: Sequence[bytes | None]
) -> tuple[list[int], dict[bytes, list[int]]]:
    """Return the rows to decode alone, and the others by their frame header."""
    alone: list[int] = []
    groups: defaultdict[bytes, list[int]] = defaultdict(list)
    for start in range(0, len(values), _CACHED_ROWS):
        some = values[start : start + _CACHED_ROWS]
        told = digests[start : start + _CACHED_ROWS]
        rows = range(start, start + len(some))
        header = _header(some[0] or b"")
        if _are_alike(some, told, header):
            groups[header] += rows
            continue
        for row, value, digest in zip(rows, some, told, strict=True):
            if (
                value is None
                or len(value) > MAX_VALUE_BYTES
                or (digest is not None and sha256(value).digest() != digest)
            ):
                alone.append(row)
            else:
                groups[_header(value)].append(row)
    return alone, groups


def _are_alike(
    values: Sequence[bytes | None], digests: Sequence[bytes | None], header: bytes
) -> bool:
    """Tell whether all have that header, and none needs to be decoded alone."""
    # Never a step of Python for each, but for the digest: it would cost as much as
    # all the rest of this.
    if not header or not all(values):
        return False
    frames = cast("Sequence[bytes]", values)
    return (
        all(map(bytes.startswith, frames, repeat(header)))
        and max(map(len, frames)) <= MAX_VALUE_BYTES
        and [
            None if digest is None else sha256(frame).digest()
            for frame, digest in zip(frames, digests, strict=True)
        ]
        == list(digests)
    )


def _header(frame: bytes) -> bytes:
    """Return what stands before the datum; empty: it is cut."""
    size = 5 if frame[:1] == CONFLUENT else 10
    return frame[:size] if len(frame) >= size else b""


def _decode_alone(
    values: Sequence[bytes | None],
    digests: Sequence[bytes | None],
    rows: list[int],
    lookup: SchemaLookup,
) -> tuple[_Part, list[tuple[int, InvalidRecordError]]]:
    decoded: list[int] = []
    events: list[AuditEvent] = []
    invalid: list[tuple[int, InvalidRecordError]] = []
    for row in rows:
        value = values[row]
        if value is None:
            invalid.append((row, TombstoneError()))
            continue
        try:
            events.append(decode(value, lookup, sha256=digests[row]))
        except InvalidRecordError as error:
            invalid.append((row, error))
        else:
            decoded.append(row)
    return _Part(decoded, to_arrow(events)), invalid


def _decode_together(
    values: Sequence[bytes], rows: list[int], lookup: SchemaLookup
) -> tuple[list[_Part], list[int]]:
    """Return what passed the guard, and the rows to decode alone."""
    if not guarded.IS_INSTALLED:
        return [], rows
    try:
        reader = _reader(*unframe(values[rows[0]], lookup))
    except InvalidRecordError:
        return [], rows
    frames = values if len(rows) == len(values) else [values[row] for row in rows]
    return _bisect(frames, rows, reader)


@lru_cache(maxsize=256)
def _reader(schema: Schema, start: int) -> guarded.GuardedReader:
    return guarded.GuardedReader(plain_event_schema(schema), start)


def _bisect(
    frames: Sequence[bytes], rows: list[int], reader: guarded.GuardedReader
) -> tuple[list[_Part], list[int]]:
    """Halve until the halves pass: one bad record must not slow down 10,000 others."""
    events = reader.read(frames)
    if events is not None:
        return [_Part(rows, events)], []
    if len(rows) <= _BISECT_ROWS:
        return [], rows
    middle = len(rows) // 2
    left, left_alone = _bisect(frames[:middle], rows[:middle], reader)
    right, right_alone = _bisect(frames[middle:], rows[middle:], reader)
    return left + right, left_alone + right_alone


def _join(parts: list[_Part]) -> _Part:
    """Bring the parts together, in the order of the values."""
    if len(parts) == 1:
        return parts[0]
    rows = [row for part in parts for row in part.rows]
    order = compute.sort_indices(pa.array(rows, pa.int64()))
    table = pa.Table.from_batches([part.events for part in parts]).take(order)
    return _Part(sorted(rows), table.combine_chunks().to_batches()[0])
