"""
A whole archive of many rows, as the service lays it out: files, footers, signed lists.

Made, not recorded: a few sessions are encoded and decoded once, and then repeated with
other ids, places and times in columns and bytes alike. So `archive verify` has
everything to check, at some 10 us a row.
"""

from __future__ import annotations

import itertools
import random
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa

from bench.patches import digits, varint
from fleetwake.consumers.archive.chain import Chain
from fleetwake.consumers.archive.columns import record_digests, to_table
from fleetwake.consumers.archive.proof.keys import KeySettings
from fleetwake.consumers.archive.proof.lists import Heads, Place
from fleetwake.consumers.archive.proof.settings import DigestSettings
from fleetwake.consumers.archive.proof.signer import Signer
from fleetwake.consumers.archive.proof.thread import ListThread
from fleetwake.consumers.archive.proof.writer import ListWriter
from fleetwake.consumers.runtime.decode import decode
from fleetwake.consumers.runtime.service import Record
from fleetwake.consumers.stores import open_store
from fleetwake.schemas.codec import PackagedSchemas, encode
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.topics import EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from bench.patches import Bytes, Longs

__all__ = ["write_archive"]

TOPIC: Final = "fleetwake.events"
_PARTITIONS: Final = 12
_CALLS: Final = 100
_TEMPLATES: Final = 20
"""Sessions that differ in more than ids."""

_COPIES: Final = 21
"""Of a row group: of 131,072 rows, nearly."""

_FILE_GROUPS: Final = 4
_START_US: Final = 1_790_000_000_000_000
_STEP_US: Final = 40_000
_ID: Final = "0190a1b2-0000-7000-8000-"
_FAILING: Final = 0.07
_TOOLS: Final = ("bash", "read_file", "edit", "grep", "search", "fetch")


class _Template(NamedTuple):
    """Some sessions: their rows, their values, and where in those the ids are."""

    table: pa.Table
    value: Bytes
    lengths: Longs
    session: Longs
    event: Longs
    call: Longs
    has_call: npt.NDArray[np.bool_]
    at: Longs
    recorded: Longs
    fact: Longs
    """Which event of the sessions a row is: one that is published again is the same."""


def write_archive(folder: Path, rows: int) -> int:
    """Write `archive`, `digests` and `keys` of so many rows or a few more; count."""
    archive, lists = open_store(folder / "archive"), _lists(folder)
    ends, written = [0] * _PARTITIONS, 0
    for number in itertools.count():
        if written >= rows:
            return written
        partition = number % _PARTITIONS
        chain = Chain(archive, TOPIC, partition)
        draft = chain.draft(ends[partition], zstd_level=3)
        start = ends[partition]
        for nth in range(_FILE_GROUPS):
            group = number * _FILE_GROUPS + nth
            draft.add(_row_group(_template(), group, partition, start + draft.rows))
        ends[partition] = start + draft.rows
        written += draft.rows
        writer = lists[partition]
        writer.appended(chain.publish(draft.finish(ends[partition] - 1)))
        writer.complete(_START_US // 1_000)
        writer.write_if_due()
    raise AssertionError  # it counts for ever


def _lists(folder: Path) -> list[ListWriter]:
    archive, digests = open_store(folder / "archive"), open_store(folder / "digests")
    signer, heads = Signer(KeySettings(folder=folder / "keys")), Heads()
    thread = ListThread(lambda: None)
    return [
        ListWriter(
            archive,
            digests,
            Place(TOPIC, partition),
            next_offset=0,
            signer=signer,
            heads=heads,
            settings=DigestSettings(folder="unused", interval_s=1e-9),
            thread=thread,
        )
        for partition in range(_PARTITIONS)
    ]


def _row_group(one: _Template, nth: int, partition: int, start: int) -> pa.Table:
    """Make the nth row group: the template many times, from an offset on."""
    copies = np.arange(nth * _COPIES, (nth + 1) * _COPIES)[:, None]
    fact = copies * (int(one.fact[-1]) + 1) + one.fact
    session = copies * _TEMPLATES + one.fact // (3 * _CALLS)
    happened = _START_US + fact * _STEP_US
    value = _values(one, fact, session, happened)
    names, at = _texts("s-", session, 8), happened.reshape(-1)
    key = names.cast(pa.binary())
    offsets = np.arange(start, start + fact.size)
    digests = record_digests(
        TOPIC, partition, offsets.tolist(), key.to_pylist(), value.to_pylist()
    )
    no_call = np.tile(~one.has_call, _COPIES)
    called = pa.array(np.arange(fact.size), mask=no_call)  # a null takes a null
    made = {
        "kafka_partition": pa.array(np.full(fact.size, partition)),
        "kafka_offset": pa.array(offsets),
        "kafka_timestamp": pa.array(at // 1_000),
        "event_id": _texts(_ID, fact, 12),
        "session_id": names,
        "tool_call_id": _texts("c-", fact // 3, 10).take(called),
        "occurred_at": pa.array(at),
        "recorded_at": pa.array(at + 1),
        "kafka_key": key,
        "kafka_value": value,
        "record_sha256": pa.array(digests, pa.binary(32)),
        "duplicate_of": _duplicates(offsets, np.tile(one.fact, _COPIES)),
    }
    rows = np.tile(np.arange(one.table.num_rows), _COPIES)
    same = one.table.drop_columns(list(made)).take(pa.array(rows))
    return pa.table(
        [
            made[field.name].cast(field.type)
            if field.name in made
            else same[field.name]
            for field in one.table.schema
        ],
        schema=one.table.schema,
    )


def _values(one: _Template, fact: Longs, session: Longs, happened: Longs) -> pa.Array:
    values = np.tile(one.value, (_COPIES, 1))
    _fill(values, one.event, digits(fact, 12))
    _fill(values, one.session, digits(session, 8))
    _fill(values, one.call[one.has_call], digits((fact // 3)[:, one.has_call], 10))
    _fill(values, one.at, varint(happened, 8))
    _fill(values, one.recorded, varint(happened + 1, 8))
    return _binary(values.reshape(-1), np.tile(one.lengths, _COPIES))


@cache
def _template() -> _Template:
    rng = random.Random(7)
    events = [one for nth in range(_TEMPLATES) for one in _session(rng, nth)]
    fact = np.arange(len(events))
    # One in a thousand is published twice.
    fact = np.sort(
        np.append(fact, rng.sample(range(len(events)), len(events) // 1_000))
    )
    values = [encode(events[nth]) for nth in fact]
    records = [Record(n, 0, b"", one) for n, one in enumerate(values)]
    batch = decode(EVENTS, 0, records, PackagedSchemas(), replayed=False)
    lengths = np.array([len(one) for one in values])
    begins = np.cumsum(lengths) - lengths

    def places(text: bytes, skip: int) -> Longs:
        found = np.array([one.find(text) for one in values])
        width = np.arange(skip, len(text))
        return (begins + found)[:, None] + width

    has_call = np.array([events[nth].tool_call_id is not None for nth in fact])
    return _Template(
        table=to_table(batch, TOPIC, keep_bytes=True).combine_chunks(),
        value=np.frombuffer(b"".join(values), np.uint8),
        lengths=lengths,
        session=places(b"s-" + bytes(b"0" * 8), 2),
        event=places(_ID.encode() + b"0" * 12, len(_ID)),
        call=places(b"c-" + b"0" * 10, 2),
        has_call=has_call,
        at=places(bytes(varint(np.array([_START_US]), 8)[0]), 0),
        recorded=places(bytes(varint(np.array([_START_US + 1]), 8)[0]), 0),
        fact=fact,
    )


def _session(rng: random.Random, nth: int) -> Iterator[AuditEvent]:
    common = AuditEvent(
        event_id=_ID + "0" * 12,
        source="native",
        session_id="s-" + "0" * 8,
        agent_id=f"agent-{nth:02d}",
        team=f"team-{nth % 5}",
        environment="production",
        producer_id="p-1",
        occurred_at=_START_US,
        recorded_at=_START_US + 1,
    )
    for call in range(_CALLS):
        yield from _call(rng, call, common._replace(turn_id=f"turn-{call // 10}"))


def _call(rng: random.Random, nth: int, common: AuditEvent) -> Iterator[AuditEvent]:
    """The model answers, a tool is called, the tool answers."""
    yield common._replace(
        source_event_type="model.response",
        event_type="model.response",
        sequence=3 * nth + 1,
        outcome="success",
        duration_ms=rng.expovariate(1 / 2_000),
        provider="acme",
        model="model-x",
        input_tokens=rng.randrange(1_000, 30_000),
        output_tokens=rng.randrange(20, 800),
        cost_usd=rng.random() / 50,
        text_digest=rng.getrandbits(62),
    )
    asked = common._replace(
        source_event_type="tool.attempt",
        event_type="tool.attempt",
        sequence=3 * nth + 2,
        tool_call_id="c-" + "0" * 10,
        tool_name=rng.choice(_TOOLS),
        outcome="attempted",
        arguments_digest=rng.getrandbits(62),
        fingerprint_version=1,
        digest_basis="full",
        arguments_preview='{"path": "src/app/main.py", "pattern": "def main"}',
        arguments_chars=48,
        payload=f'{{"path": "src/app/{rng.randrange(10**6)}.py"}}',
    )
    yield asked
    fails = rng.random() < _FAILING
    yield asked._replace(
        source_event_type="tool.complete",
        event_type="tool.failure" if fails else "tool.complete",
        sequence=3 * nth + 3,
        outcome="failure" if fails else "success",
        error_kind="timeout" if fails else None,
        outcome_digest=rng.getrandbits(62),
        result_preview="3 matches in 2 files; see the list for the lines",
        result_chars=1_900,
        duration_ms=rng.expovariate(1 / 250),
    )


def _fill(values: Bytes, at: Longs, what: Bytes) -> None:
    values[:, at] = what.reshape(len(values), *at.shape)


def _texts(prefix: str, numbers: Longs, width: int) -> pa.Array:
    count = numbers.size
    chars = np.empty((count, len(prefix) + width), np.uint8)
    chars[:, : len(prefix)] = np.frombuffer(prefix.encode(), np.uint8)
    chars[:, len(prefix) :] = digits(numbers.reshape(-1), width)
    lengths = np.full(count, chars.shape[1])
    return _binary(chars.reshape(-1), lengths).cast(pa.string())


def _binary(data: Bytes, lengths: Longs) -> pa.Array:
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.binary(), len(lengths), buffers)


def _duplicates(offsets: Longs, fact: Longs) -> pa.Array:
    again = np.append([False], fact[1:] == fact[:-1])
    return pa.array(offsets - 1, mask=~again)
