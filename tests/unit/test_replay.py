"""What is replayed, in which order and when, and who sees it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from tests.replaying import THEN_MS, environment, happened, logged, put_records
from tests.running import PROMPT, LearningSchemas, Recorder, Running, event
from typer.testing import CliRunner

from fleetwake.consumers.cli.app import app
from fleetwake.consumers.cli.archive_replay import _noted
from fleetwake.consumers.cli.replaying import (
    Replaying,
    as_fast_as_possible,
    as_it_happened,
    at_rate,
)
from fleetwake.consumers.query import open_archive
from fleetwake.consumers.query.replay import (
    ReplayRecord,
    Selection,
    archived_topics,
    choose,
    read_records,
    run_replay,
)
from fleetwake.consumers.runtime import metrics
from fleetwake.consumers.runtime.replays import (
    ORIGIN_HEADER,
    REPLAY_HEADER,
    TIME_HEADER,
    Admission,
    AdmittingReader,
    has_replays,
)
from fleetwake.consumers.runtime.runner import Runner
from fleetwake.consumers.runtime.service import OutRecord, Record, Records
from fleetwake.consumers.runtime.settings import RuntimeSettings
from fleetwake.consumers.testing import MemoryLog
from fleetwake.producer.settings import KafkaSettings
from fleetwake.schemas.codec import SHA256_HEADER, PackagedSchemas, decode
from fleetwake.schemas.errors import ConfigurationError
from fleetwake.schemas.topics import ALERTS, DEAD_LETTERS, EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from fleetwake.consumers.runtime.service import EventBatch

TOPIC = "fleetwake.events"
MARKS = (
    (REPLAY_HEADER, b"r"),
    (ORIGIN_HEADER, b"t[0]@7"),
    (TIME_HEADER, str(THEN_MS).encode()),
    (SHA256_HEADER, b"\0" * 32),
)
EVER = Selection(TOPIC, datetime(2100, 1, 1, tzinfo=UTC))


def marked(offset: int, at_ms: int = THEN_MS) -> Record:
    headers = ((REPLAY_HEADER, b"r"), (TIME_HEADER, str(at_ms).encode()))
    return Record(offset, 2 * THEN_MS, b"k", b"v", headers)


def unmarked(offset: int) -> Record:
    return Record(offset, 2 * THEN_MS, b"k", b"v", ((SHA256_HEADER, b"\0" * 32),))


# What a service sees


def test_replays_are_told_from_what_is_none() -> None:
    """By the first header."""
    plain = [Record(0, 0, None, None), unmarked(1)]

    assert not has_replays(Records.of(plain))
    assert has_replays(Records.of([*plain, marked(2)]))


def test_who_skips_does_not_see_them() -> None:
    """And gets all others in order."""
    found = Admission("skip").admit(Records.of([unmarked(0), marked(1), unmarked(2)]))

    assert [unmarked(0), unmarked(2)] == list(found)


def test_who_processes_sees_them_as_they_were_and_time_stands() -> None:
    """What came later than the replay began has no time of its own."""
    admission = Admission("process")
    found = admission.admit(
        Records.of([unmarked(0), marked(1), marked(2, THEN_MS + 5), unmarked(3)])
    )

    assert [2 * THEN_MS, THEN_MS, THEN_MS + 5, THEN_MS + 5] == [
        one.timestamp_ms for one in found
    ]
    assert THEN_MS + 5 == admission.clock_ms


@pytest.mark.parametrize(
    "stated", [b"", None, b"-1", b"tomorrow", b"9" * 30, b"1" * 5_000]
)
def test_a_time_that_is_none_is_that_of_now(stated: Any) -> None:
    """Anyone may write a header, and Kafka has nulls."""
    hostile = marked(0)._replace(headers=((REPLAY_HEADER, b"r"), (TIME_HEADER, stated)))

    assert hostile == Admission("process").admit_one(hostile)


def serving(log: MemoryLog, service: Any, **settings: Any) -> Running:
    source = log.source("g", *service.topics)
    schemas = LearningSchemas()
    runner = Runner(
        service,
        source,
        schemas,
        RuntimeSettings(poll_timeout_s=0.01, **settings),
        topic_name=lambda topic: topic.name,
    )
    return Running(service, runner, schemas, source)


def skipped() -> float:
    return metrics.REPLAYS_SKIPPED.labels("recorder", "events")._value.get()


@pytest.mark.parametrize("order", [(0, 0, 1), (1, 0, 0), (1, 1, 1), (0, 1, 0)])
async def test_a_live_service_passes_over_replays_and_commits(
    order: tuple[int, ...],
) -> None:
    """They are counted, and make neither lag nor a dead letter."""
    log, service, before = MemoryLog(1), Recorder(owns_dead_letters=True), skipped()
    for n, is_replay in enumerate(order):
        log.append(EVENTS, 0, b"junk", headers=MARKS) if is_replay else log.append(
            EVENTS, 0, event(n)
        )
    async with serving(log, service) as running:
        await running.until(
            lambda: (at := log.committed("g", EVENTS, 0)) is not None and at.offset == 3
        )

    assert [n for n, one in enumerate(order) if not one] == service.live.get(0, [])
    assert sum(order) == skipped() - before
    assert [] == list(log.records(DEAD_LETTERS, 0))


class Keeper(Recorder):
    """A service that has a row for every offset."""

    replays = "keep"


async def test_who_keeps_all_sees_them_at_the_time_of_now() -> None:
    """A replay that cannot be read has been a dead letter before."""
    log, service, seen = MemoryLog(1), Keeper(owns_dead_letters=True), []
    service.on_process = lambda batch: seen.extend(batch.records)
    for value in (event(0), b"junk"):
        log.append(EVENTS, 0, value, headers=(MARKS[0], MARKS[2]))
    async with serving(log, service, replays="process") as running:
        await running.until(lambda: log.committed("g", EVENTS, 0) is not None)

    assert list(log.records(EVENTS, 0)) == seen
    assert [(1, "unknown_framing")] == service.invalid
    assert [] == list(log.records(DEAD_LETTERS, 0))


@dataclass
class Echo(Recorder):
    """A service that tells of each batch, and of silence."""

    ticks: list[int] = field(default_factory=list)

    async def open(self, start: Any) -> Any:
        processor = await super().open(start)

        def told(batch: EventBatch) -> None:
            self.told = [one.timestamp_ms for one in batch.records]

        async def flush(_: int) -> None:
            await start.publisher.publish([OutRecord(ALERTS, b"k", b"v", 0)])

        self.on_process, self.on_flush = told, flush
        processor.tick = self.tick
        return processor

    def tick(self, now_ms: int) -> bool:
        self.ticks.append(now_ms)
        return False


async def test_what_is_made_of_replays_is_marked_and_their_time_is_that_of_then() -> (
    None
):
    """So nobody is paged, and silence of today means nothing."""
    log, service = MemoryLog(1), Echo()
    log.append(EVENTS, 0, event(0), headers=(MARKS[0], MARKS[2]))
    async with serving(log, service, replays="process") as running:
        await running.until(lambda: bool(service.ticks and log.records(ALERTS, 0)))
    told = log.records(ALERTS, 0)

    assert [THEN_MS] == service.told
    assert {THEN_MS} == set(service.ticks)
    assert has_replays(Records.of(told[:1]))
    assert [] == [one async for one in AdmittingReader(log, "skip").read(ALERTS, 0)]
    assert list(told) == [
        one async for one in AdmittingReader(log, "process").read(ALERTS, 0)
    ]


def test_who_pages_has_no_place_where_replays_are_processed() -> None:
    """A variable that is set by mistake must not mute all pages in silence."""
    service = SimpleNamespace(
        name="notify", topics=(ALERTS,), replays="skip", flush_policy=PROMPT
    )

    with pytest.raises(ConfigurationError, match="notify has nothing to do"):
        serving(MemoryLog(1), service, replays="process")


# What is replayed


def found(
    folder: Path, selection: Selection = EVER, after: Mapping[int, int] | None = None
) -> list[ReplayRecord]:
    with (
        open_archive(folder) as archive,
        run_replay(archive, selection, after) as running,
    ):
        records = list(read_records(running))
        assert choose(archive, selection, after).records == len(records)
    return records


def places(records: Sequence[ReplayRecord]) -> list[tuple[int, int]]:
    return [(one.partition, one.offset) for one in records]


def test_keys_and_bytes_are_those_of_the_log_in_the_order_of_append(
    tmp_path: Path,
) -> None:
    """Across partitions by time, in each by offset."""
    first, second = (logged(happened(n, s) for n in range(4)) for s in "ab")
    put_records(tmp_path, 0, first)
    put_records(tmp_path, 1, second)
    records = found(tmp_path)

    assert [(p, n) for n in range(4) for p in (0, 1)] == places(records)
    assert [(one.key, one.value) for one in first] == [
        (one.key, one.value) for one in records if one.partition == 0
    ]
    assert [one.timestamp_ms for one in first] == [
        one.appended_ms for one in records if one.partition == 0
    ]


def test_a_clock_that_goes_back_does_not_change_the_order(tmp_path: Path) -> None:
    """Records after it are due with the one before it."""
    times = [10, 20, 5, 6, 30]
    records = [
        one._replace(timestamp_ms=THEN_MS + at)
        for one, at in zip(logged(happened(n) for n in range(5)), times, strict=True)
    ]
    put_records(tmp_path, 0, records)
    read = found(tmp_path)

    assert [0, 1, 2, 3, 4] == [one.offset for one in read]
    assert times == [one.appended_ms - THEN_MS for one in read]
    assert [10, 20, 20, 20, 30] == [one.due_ms - THEN_MS for one in read]


def test_a_selection_is_by_append_time_session_and_agent(tmp_path: Path) -> None:
    """The end of the time is not in it."""
    put_records(tmp_path, 0, logged(happened(n, "ab"[n % 2]) for n in range(10)))
    start = datetime.fromtimestamp(THEN_MS / 1000, UTC)
    times = EVER._replace(
        since=start + timedelta(seconds=3), until=start + timedelta(seconds=6)
    )

    assert [2, 3, 4] == [one.offset for one in found(tmp_path, times)]
    assert [0, 2, 4, 6, 8] == [
        one.offset for one in found(tmp_path, EVER._replace(sessions=("a", "x")))
    ]
    assert [3] == [
        one.offset for one in found(tmp_path, times._replace(agents=("agent-of-b",)))
    ]
    assert [] == found(tmp_path, EVER._replace(sessions=("' OR true --",)))
    assert [] == found(tmp_path, EVER._replace(topic="another"))


def test_it_goes_on_after_what_was_reached(tmp_path: Path) -> None:
    """Partitions that nothing was reached in begin at their start."""
    for partition in range(3):
        put_records(tmp_path, partition, logged(happened(n) for n in range(2)))

    assert [(0, 1), (1, 0), (1, 1), (2, 0), (2, 1)] == sorted(
        places(found(tmp_path, after={0: 1}))
    )
    assert [(0, 0), (0, 1), (1, 0), (1, 1)] == sorted(
        places(found(tmp_path, after={2: 2}))
    )


def test_a_value_that_was_not_kept_is_encoded_anew(tmp_path: Path) -> None:
    """The same event."""
    events = [happened(n, attributes={"n": str(n)}) for n in range(3)]
    put_records(tmp_path, 0, logged(events), keep_bytes=False)
    records = found(tmp_path)

    assert events == [decode(one.value, PackagedSchemas()) for one in records]
    assert all(one.is_encoded_anew for one in records)


def test_what_nobody_could_read_is_left_out(tmp_path: Path) -> None:
    """It has a replay of its own, that of dead letters."""
    records = logged(happened(n) for n in range(4))
    records[1] = records[1]._replace(value=b"junk")
    records[2] = records[2]._replace(value=None)
    put_records(tmp_path, 0, records)

    assert [0, 3] == [one.offset for one in found(tmp_path)]


def test_a_replay_into_the_live_topic_is_one_fact_in_the_views(tmp_path: Path) -> None:
    """However far apart: every offset has a row, every event counts once."""
    original = logged(happened(n) for n in range(6))
    year_ms = 31_536_000_000
    again = [
        one._replace(offset=9_000_000 + n, timestamp_ms=one.timestamp_ms + year_ms)
        for n, one in enumerate(original)
    ]
    put_records(tmp_path, 0, original)
    put_records(tmp_path, 0, again)
    with open_archive(tmp_path) as archive:
        counted = {
            view: archive.sql(f"SELECT count(*) FROM {view}").column(0)[0].as_py()
            for view in ("events", "unique_events", "unique_log", "calls")
        }
        firsts = archive.sql("SELECT max(kafka_offset) FROM unique_events")

        assert [TOPIC] == archived_topics(archive)

    assert {"events": 12, "unique_events": 6, "unique_log": 6, "calls": 6} == counted
    assert 5 == firsts.column(0)[0].as_py()


# When


def due(*at_ms: int) -> list[ReplayRecord]:
    return [
        ReplayRecord(0, n, THEN_MS + at, THEN_MS + at, b"k", b"v", False)
        for n, at in enumerate(at_ms)
    ]


def test_a_rate_is_kept_in_tenths_of_a_second() -> None:
    """Below ten a second each for itself."""
    fast, slow = at_rate(25), at_rate(2)

    assert [0, 0, 0.08, 0.08, 0.16] == [fast(one) for one in due(*[0] * 5)]
    assert [0, 0.5, 1] == [slow(one) for one in due(0, 0, 0)]


def test_as_it_happened_keeps_the_pauses() -> None:
    """So many times shorter."""
    pace, twice = as_it_happened(), as_it_happened(2)
    records = due(0, 40, 100, 2_000)

    assert pytest.approx([0, 0, 0.1, 2]) == [pace(one) for one in records]
    assert pytest.approx([0, 0, 0, 1]) == [twice(one) for one in records]


class Written:
    """A writer that keeps the transactions."""

    def __init__(self, look: Callable[[], object] = lambda: None) -> None:
        self.transactions: list[tuple[list[OutRecord], Any]] = []
        self._look = look

    async def write(self, records: list[OutRecord], reached: Any) -> None:
        self._look()
        self.transactions.append((records, reached))


async def test_transactions_are_bounded_and_say_how_far_they_reach() -> None:
    """Also while all is due at once."""
    records = due(*range(12_000))
    writer, counted = Written(), []
    work = Replaying("r", TOPIC, "note")
    await work.run(iter(records), writer, as_fast_as_possible(), counted.append)  # type: ignore[arg-type]

    assert [5_000, 5_000, 2_000] == counted
    assert [{0: (n, "note")} for n in (5_000, 10_000, 12_000)] == [
        reached for _, reached in writer.transactions
    ]
    assert {REPLAY_HEADER: b"r", ORIGIN_HEADER: b"fleetwake.events[0]@0"}.items() < (
        dict(writer.transactions[0][0][0].headers).items()
    )
    assert (12_000, 12_000) == (work.records, work.bytes)


async def test_a_large_record_is_a_transaction_of_its_own() -> None:
    """Memory is bounded by bytes too."""
    large = [one._replace(value=b"x" * 5_000_000) for one in due(0, 0, 0)]
    writer = Written()
    await Replaying("r", TOPIC, "").run(
        iter(large),
        writer,  # type: ignore[arg-type]
        as_fast_as_possible(),
        lambda _: None,
    )

    assert [1, 1, 1] == [len(records) for records, _ in writer.transactions]


async def test_nothing_is_published_before_it_is_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A replay waits between what happened apart."""
    waits = list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(round(seconds, 1))

    monkeypatch.setattr(asyncio, "sleep", sleep)
    await Replaying("r", TOPIC, "").run(
        iter(due(0, 50_000, 50_010)),
        Written(),  # type: ignore[arg-type]
        as_it_happened(10),
        lambda _: None,
    )

    assert [0, 5.0] == waits


# How it is asked for


def test_another_run_of_an_id_has_the_times_of_the_first() -> None:
    """`--since 7d` means other events a day later."""
    first = EVER._replace(since=datetime(2026, 1, 1, tzinfo=UTC), sessions=("a",))
    chosen, note = _noted(first, [])
    later = first._replace(since=datetime(2026, 1, 2, tzinfo=UTC))

    assert first == chosen
    assert (first, note) == _noted(later, [note, note])
    with pytest.raises(ConfigurationError, match="other sessions"):
        _noted(first._replace(sessions=("b",)), [note])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--to", "fleetwake.events"], "--into-live, if that is meant"),
        (["--to", "fleetwake.alerts"], "for other records"),
        (["--into-live"], "--into-live is for --to fleetwake.events"),
        (["--rate", "5", "--as-it-happened"], "not both"),
        (["--speed", "3x"], "--speed is for"),
        (["--as-it-happened", "--speed", "0x"], "--speed takes a number"),
        (["--id", "../up"], "--id takes"),
        (["--until", "soon"], "--until 'soon'"),
    ],
)
def test_an_option_that_cannot_be_used_is_told_before_all_else(
    options: list[str], problem: str, tmp_path: Path
) -> None:
    """Nothing is asked or created."""
    nowhere = KafkaSettings(bootstrap_servers="127.0.0.1:1")
    told = CliRunner().invoke(
        app, ["archive", "replay", *options], env=environment(nowhere, tmp_path)
    )

    assert (2, True) == (told.exit_code, problem in told.stderr), told.stderr


def test_a_broker_that_is_away_is_told(tmp_path: Path) -> None:
    """With its own exit code."""
    put_records(tmp_path / "archive", 0, logged([happened(0)]))
    nowhere = KafkaSettings(bootstrap_servers="127.0.0.1:1")
    told = CliRunner().invoke(
        app, ["archive", "replay"], env=environment(nowhere, tmp_path)
    )

    assert 4 == told.exit_code
