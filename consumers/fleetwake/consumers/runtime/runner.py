"""
The consume loop, written once.

    poll -> decode -> process -> flush -> commit

Commit is a consequence of durability, never of reading. What happens when this
process is killed
- after process: nothing was committed, the records come again;
- after the dead letters' acknowledgement: they may be published twice;
- after flush, before commit: the records come again, and flush is idempotent
  (put-if-absent, deterministic ids, snapshots);
- after commit: nothing comes again but what the processor holds back, muted.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from typing import TYPE_CHECKING, TypeVar

import structlog

from fleetwake.consumers.runtime import metrics
from fleetwake.consumers.runtime.dead_letters import DeadLetterLimit, dead_letter
from fleetwake.consumers.runtime.decode import decode, oldest_event, unknown_schemas
from fleetwake.consumers.runtime.lane import Lane
from fleetwake.consumers.runtime.replays import (
    Admission,
    AdmittingReader,
    MarkingPublisher,
    has_replays,
    is_replay,
    treatment_of,
)
from fleetwake.consumers.runtime.service import (
    Closing,
    PartitionFencedError,
    PartitionStart,
    Ticking,
)
from fleetwake.schemas.errors import FleetwakeError, RetriableError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from fleetwake.consumers.runtime.decode import Schemas
    from fleetwake.consumers.runtime.replays import Treatment
    from fleetwake.consumers.runtime.service import (
        EventBatch,
        Needed,
        Publisher,
        Records,
        Service,
    )
    from fleetwake.consumers.runtime.settings import RuntimeSettings
    from fleetwake.consumers.runtime.source import (
        Committed,
        Polled,
        Source,
        TopicPartition,
    )
    from fleetwake.schemas.topics import Topic

__all__ = ["FlushTimeoutError", "Runner", "StalledError"]

T = TypeVar("T")

_LAG_EVERY_S = 5.0
_TICK_EVERY_S = 1.0

_START_PATIENCE_S = 1.0
"""A start that ends within this after the stop leaves no connection behind."""

_BATCH_BYTES = 64 * 1024 * 1024
"""
What is decoded together, at most: that takes several times as much memory, and more
than 2 GiB fit in no column. A poll of what compresses well may have more.
"""

_log = structlog.get_logger("fleetwake.runtime")


class FlushTimeoutError(FleetwakeError):
    """Raised when a flush takes longer than its deadline. Nothing was committed."""


class StalledError(FleetwakeError):
    """Raised when records wait and none arrives: a new process may do better."""


class _StoppedError(RetriableError):
    """Raised when something was given up because the service is to stop."""


class Runner:
    """
    Runs one service as one member of its consumer group.

    Delivery guarantees: every record of every assigned partition is processed in
    offset order at least once per owner of the partition, and its effects are durable
    before its offset is committed. Effects are once where `flush` is idempotent.

    Not thread safe: `run` and the properties belong to one event loop. `request_stop`
    may be called from a signal handler of that loop.
    """

    def __init__(
        self,
        service: Service,
        source: Source,
        schemas: Schemas,
        settings: RuntimeSettings,
        *,
        topic_name: Callable[[Topic], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._source = source
        self._schemas = schemas
        self._settings = settings
        self._clock = clock
        self._topics = {topic_name(topic): topic for topic in service.topics}
        self._replays: Treatment = treatment_of(service, settings.replays)
        self._lanes: dict[int, Lane] = {}
        self._stop = asyncio.Event()
        self._has_assignment = False
        self._progress_at = self._lag_at = self._turned_at = clock()
        self._ticked_at = clock()

    def request_stop(self) -> None:
        """Flush, commit, leave the group and return from `run`."""
        self._stop.set()

    @property
    def is_ready(self) -> bool:
        """Whether the group has given us our share and all of it is being processed."""
        return self._has_assignment and all(
            lane.processor is not None and lane.retry_at is None
            for lane in self._lanes.values()
        )

    @property
    def idle_s(self) -> float:
        """Seconds since the loop last turned."""
        return self._clock() - self._turned_at

    async def run(self) -> None:
        """
        Process until `request_stop`.

        Raises:
            TooManyDeadLettersError: nearly everything is poison.
            FlushTimeoutError: a flush hangs.
            StalledError: records wait and none arrives.
            Exception: whatever a processor raised. Nothing of it was committed.
        """
        await self._start_source()
        try:
            while not self._stop.is_set():
                await self._turn()
            await self._last_flush()
        finally:
            await self._source.stop()

    async def _start_source(self) -> None:
        while not self._stop.is_set():
            try:
                start = self._source.start()
                await self._unless_stopped(start, patience_s=_START_PATIENCE_S)
            except _StoppedError:
                return
            except RetriableError as exc:
                _log.warning("source.retried", service=self._service.name, why=str(exc))
                self._turned_at = self._clock()
                await self._wait_for_stop(exc.after_s)
            else:
                self._progress_at = self._clock()
                return

    async def _wait_for_stop(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return

    async def _turn(self) -> None:
        self._turned_at = self._clock()
        polled = await self._source.poll(
            timeout_s=self._settings.poll_timeout_s,
            max_records=self._settings.max_poll_records,
        )
        await self._rebalance(polled)
        for at, records in polled.records.items():
            lane = self._lanes.get(at.partition)
            if lane is not None and lane.processor and lane.retry_at is None:
                await self._take(lane, at, records)
        await self._retry()
        await self._tick()
        await self._flush(self._due())
        self._watch()

    async def _tick(self) -> None:
        """Tell processors that the log has ended, if it has, and what time it is."""
        lanes = [
            lane
            for lane in self._lanes.values()
            if isinstance(lane.processor, Ticking) and lane.retry_at is None
        ]
        if not lanes or self._clock() - self._ticked_at < _TICK_EVERY_S:
            return
        self._ticked_at = self._clock()
        now_ms = time.time_ns() // 1_000_000
        try:
            ends = await self._source.ends(
                [at for one in lanes for at in one.partitions]
            )
        except RetriableError:
            return
        for lane in lanes:
            processor = lane.processor
            if isinstance(processor, Ticking) and all(
                lane.positions[at.topic] >= ends[at] for at in lane.partitions
            ):
                # In a replay time stands where its records are.
                at_ms = lane.admission.clock_ms or now_ms
                lane.ticked |= await asyncio.to_thread(processor.tick, at_ms)

    def _due(self) -> list[Lane]:
        """Name the lanes to flush now: by policy, and the fullest when memory asks."""
        now = self._clock()
        policy = self._service.flush_policy
        lanes = [lane for lane in self._lanes.values() if lane.retry_at is None]
        due = [lane for lane in lanes if lane.is_due(policy, now)]
        pending = sum(lane.pending_bytes for lane in self._lanes.values())
        if not due and lanes and pending > self._settings.max_pending_bytes:
            due = [max(lanes, key=lambda lane: lane.pending_bytes)]
        return due

    # Rebalance

    async def _rebalance(self, polled: Polled) -> None:
        gone = {at.partition for at in polled.revoked}
        for partition in gone & self._lanes.keys():
            # Without a flush: nothing of it is lost, the next owner reads it again.
            del self._lanes[partition]
        if polled.revoked or polled.assigned:
            self._has_assignment = True
            metrics.LAG.clear()
            _log.info(
                "partitions.changed",
                service=self._service.name,
                revoked=sorted(gone),
                assigned=sorted({at.partition for at in polled.assigned}),
            )
        for partition in sorted({at.partition for at in polled.assigned}):
            if self._stop.is_set():
                break  # each may take a store's whole patience
            await self._open(self._new_lane(partition))
        metrics.PARTITIONS.labels(self._service.name).set(len(self._lanes))

    def _new_lane(self, partition: int) -> Lane:
        limit = DeadLetterLimit(
            self._settings.dead_letter_window, self._settings.dead_letter_max_ratio
        )
        lane = Lane(
            partition=partition,
            topics=tuple(self._topics),
            limit=limit,
            admission=Admission(self._replays),
        )
        self._lanes[partition] = lane
        return lane

    async def _open(self, lane: Lane) -> None:
        """Make the lane's processor and begin to read; retried later if it fails."""
        try:
            starts = {at: await self._start_of(at) for at in lane.partitions}
            first = lane.at(lane.topics[0])
            (log_start, log_end), committed = starts[first]
            opening = self._service.open(
                PartitionStart(
                    topic=self._topics[first.topic],
                    topic_name=first.topic,
                    partition=lane.partition,
                    log_start=log_start,
                    log_end=log_end,
                    committed=committed.offset if committed else None,
                    publisher=self._publisher(),
                    reader=AdmittingReader(self._source.reader, self._replays),
                )
            )
            lane.processor = await self._unless_stopped(opening)
        except RetriableError as exc:
            self._put_off(lane, exc)
            return
        lane.retry_at, lane.retries = None, 0
        for at, (bounds, committed) in starts.items():
            resume = lane.processor.resume_from if at == first else None
            self._begin(lane, at, bounds, committed, resume)
        self._progress_at = self._clock()

    async def _unless_stopped(
        self, work: Coroutine[object, object, T], *, patience_s: float = 0.0
    ) -> T:
        """Give up what may wait for a broker or a store that hangs, when told to."""
        done = asyncio.create_task(work)
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({done, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                await asyncio.wait({done}, timeout=patience_s)
            if done.done():
                return done.result()
        finally:
            done.cancel()
            stopped.cancel()
        raise _StoppedError("told to stop")

    def _publisher(self) -> Publisher:
        publisher = self._source.publisher
        is_marked = self._settings.replays == "process"
        return MarkingPublisher(publisher) if is_marked else publisher

    async def _start_of(
        self, at: TopicPartition
    ) -> tuple[tuple[int, int], Committed | None]:
        return await self._source.bounds(at), await self._source.committed(at)

    def _begin(
        self,
        lane: Lane,
        at: TopicPartition,
        bounds: tuple[int, int],
        committed: Committed | None,
        resume: int | None,
    ) -> None:
        if resume is not None:
            live = start = resume
        elif committed is not None:
            live, start = committed.offset, committed.replay_from
        else:
            live = start = bounds[0]
        log_start, log_end = bounds
        if live > log_end:
            raise FleetwakeError(
                f"{at.topic}[{at.partition}] ends at offset {log_end}, and service "
                f"{self._service.name!r} has already processed up to {live}: the topic "
                "was made anew. Run `fleetwake reset`, or use another topic prefix"
            )
        if live < log_start:
            self._lost(at, live, log_start)
            live = log_start
        lane.live_from[at.topic] = live
        lane.positions[at.topic] = max(start, log_start)
        self._source.start_from(at, lane.positions[at.topic])

    def _lost(self, at: TopicPartition, first: int, end: int) -> None:
        metrics.LOST_RECORDS.labels(self._service.name, at.topic).inc(end - first)
        _log.error(
            "offsets.lost",
            service=self._service.name,
            topic=at.topic,
            partition=at.partition,
            first=first,
            last=end - 1,
            why="retention removed them before they were read",
        )

    # Processing

    async def _take(self, lane: Lane, at: TopicPartition, records: Records) -> None:
        """Process what a poll gave, first what is replayed and then what is live."""
        position = lane.positions[at.topic]
        records = records[bisect_left(records.offsets, position) :]
        if not records:
            return
        if records.offsets[0] > position and await self._fell_behind(lane, at):
            return
        seen, records = records, lane.admission.admit(records)
        if len(records) < len(seen):
            skipped = len(seen) - len(records)
            metrics.REPLAYS_SKIPPED.labels(self._service.name, at.topic).inc(skipped)
        live_from = lane.live_from[at.topic]
        cut = bisect_left(records.offsets, live_from)
        try:
            for part, replayed in ((records[:cut], True), (records[cut:], False)):
                if part:
                    await self._process(lane, at, part, replayed=replayed)
        except RetriableError as exc:
            self._put_off(lane, exc)
        else:
            if not records or records.offsets[-1] < seen.offsets[-1]:
                self._progress_at = self._clock()
                lane.passed(at.topic, seen, self._progress_at)

    async def _fell_behind(self, lane: Lane, at: TopicPartition) -> bool:
        """
        Whether retention overtook us.

        Then what we hold is flushed and the lane opened anew, so that the processor
        learns of the hole. Other holes (compaction, transaction markers) mean nothing.
        """
        log_start, _ = await self._source.bounds(at)
        if log_start <= lane.positions[at.topic]:
            return False
        await self._flush([lane])
        if lane.retry_at is None:
            await self._open(self._new_lane(lane.partition))
        return True

    async def _process(
        self,
        lane: Lane,
        at: TopicPartition,
        records: Records,
        *,
        replayed: bool,
    ) -> None:
        assert lane.processor is not None  # noqa: S101  # lanes without one do not take
        while records:
            batch = await self._decode(lane, at, records, replayed=replayed)
            lane.limit.add(at, len(batch.records), batch.invalid)
            await asyncio.to_thread(lane.processor.process, batch)
            self._progress_at = self._clock()
            lane.took(at.topic, batch, self._progress_at)
            self._count(at, batch)
            records = records[len(batch.records) :]

    async def _decode(
        self,
        lane: Lane,
        at: TopicPartition,
        records: Records,
        *,
        replayed: bool,
    ) -> EventBatch:
        """Decode the first of them, all if they are not too large."""

        def first() -> EventBatch:
            return decode(
                self._topics[at.topic],
                lane.partition,
                records.head(_BATCH_BYTES),
                self._schemas,
                replayed=replayed,
            )

        batch = await asyncio.to_thread(first)
        unknown = unknown_schemas(batch)
        if unknown:
            await self._schemas.refresh(*unknown)
        return await asyncio.to_thread(first) if unknown else batch

    def _count(self, at: TopicPartition, batch: EventBatch) -> None:
        name = self._service.name
        counter = metrics.RECORDS_REPLAYED if batch.replayed else metrics.RECORDS_IN
        counter.labels(name, at.topic).inc(len(batch.records))
        if batch.replayed:
            return
        for record, error in batch.invalid:
            if not is_replay(record):
                metrics.RECORDS_INVALID.labels(name, at.topic, error.reason).inc()
        oldest_us = oldest_event(batch)
        if oldest_us is not None and not has_replays(batch.records):
            age = time.time() - oldest_us / 1_000_000
            metrics.EVENT_AGE_SECONDS.labels(name).observe(max(0.0, age))

    # Flushing

    async def _flush(self, lanes: Iterable[Lane]) -> None:
        due = [
            lane
            for lane in lanes
            if lane.processor and (lane.pending_records or lane.ticked)
        ]
        if not due:
            return
        # A revocation that comes now waits, so that the next owner rarely redoes this.
        await self._source.flushing(active=True)
        try:
            flushed = await asyncio.gather(*map(self._flush_lane, due))
            commits = {at: c for one in flushed for at, c in one.items()}
            if commits and not await self._source.commit(commits):
                metrics.COMMITS_FAILED.labels(self._service.name).inc()
        finally:
            await self._source.flushing(active=False)
        for at, committed in commits.items():
            metrics.COMMITTED_OFFSET.labels(
                self._service.name, at.topic, at.partition
            ).set(committed.offset)

    async def _flush_lane(self, lane: Lane) -> dict[TopicPartition, Committed]:
        """Make one lane durable and return what may be committed."""
        started = self._clock()
        assert lane.processor is not None  # noqa: S101  # see _flush
        try:
            async with asyncio.timeout(self._settings.flush_deadline_s):
                await self._publish_dead_letters(lane)
                held = await lane.processor.flush()
        except RetriableError as exc:
            metrics.FLUSH_RETRIED.labels(self._service.name).inc()
            self._put_off(lane, exc)
            return {}
        except PartitionFencedError as exc:
            metrics.FENCED.labels(self._service.name).inc()
            _log.warning(
                "partition.fenced",
                service=self._service.name,
                partition=lane.partition,
                why=str(exc),
            )
            await self._open(self._new_lane(lane.partition))
            return {}
        except TimeoutError as exc:
            raise FlushTimeoutError(
                f"service {self._service.name!r} flushed partition {lane.partition} "
                f"for more than {self._settings.flush_deadline_s:.0f} s"
            ) from exc
        self._report(lane, started)
        needed = self._by_name(held)
        commits = lane.to_commit(needed, self._settings.max_replay_records)
        if any(commits[lane.at(name)].replay_from > needed[name] for name in needed):
            metrics.REPLAY_CAPPED.labels(self._service.name).inc()
        lane.flushed()
        return commits

    def _by_name(self, needed: Needed) -> dict[str, int]:
        if needed is None:
            return {}
        if isinstance(needed, int):
            return {next(iter(self._topics)): needed}
        return {
            name: needed[topic]
            for name, topic in self._topics.items()
            if topic in needed
        }

    async def _publish_dead_letters(self, lane: Lane) -> None:
        # Before the flush: an archive resumes from its last file, so what is not
        # published by then never is.
        if self._service.owns_dead_letters and lane.invalid:
            await self._source.publisher.publish(
                [dead_letter(self._service.name, at, one) for at, one in lane.invalid]
            )
            lane.invalid.clear()

    def _report(self, lane: Lane, started: float) -> None:
        name = self._service.name
        seconds = self._clock() - started
        metrics.FLUSH_SECONDS.labels(name).observe(seconds)
        metrics.LAST_FLUSH.labels(name).set(time.time())
        if lane.pending_records and not lane.admission.clock_ms:
            age = time.time() - lane.oldest_timestamp_ms / 1000
            metrics.END_TO_END_SECONDS.labels(name).observe(max(0.0, age))
        _log.info(
            "partition.flushed",
            service=name,
            partition=lane.partition,
            records=lane.pending_records,
            bytes=lane.pending_bytes,
            next_offset=lane.positions[lane.topics[0]],
            seconds=round(seconds, 3),
        )

    async def _last_flush(self) -> None:
        try:
            async with asyncio.timeout(self._settings.stop_deadline_s):
                await self._flush(
                    lane for lane in self._lanes.values() if lane.retry_at is None
                )
                if isinstance(self._service, Closing):
                    await self._service.close()
        except TimeoutError:
            _log.warning(
                "stop.unflushed",
                service=self._service.name,
                why="the deadline passed; the records will be read again",
            )

    # Retry and watch

    def _put_off(self, lane: Lane, why: RetriableError) -> None:
        """Pause one partition; the others go on."""
        for at in lane.partitions:
            self._source.pause(at)
        wait = lane.retry_after(why.after_s, self._clock())
        _log.warning(
            "partition.paused",
            service=self._service.name,
            partition=lane.partition,
            seconds=round(wait, 1),
            why=str(why),
        )

    async def _retry(self) -> None:
        now = self._clock()
        for lane in list(self._lanes.values()):
            if lane.retry_at is None or lane.retry_at > now:
                continue
            if lane.processor is None:
                await self._open(lane)
                continue
            lane.retry_at = None
            await self._flush([lane])
            if lane.retry_at is None and self._lanes.get(lane.partition) is lane:
                for topic, position in lane.positions.items():
                    self._source.start_from(lane.at(topic), position)

    def _watch(self) -> None:
        """Measure lag, and notice when records wait and none arrives."""
        now = self._clock()
        if now - self._lag_at < _LAG_EVERY_S:
            return
        self._lag_at = now
        lag = 0
        for lane in self._lanes.values():
            for at in lane.partitions:
                mark = self._source.high_water_mark(at)
                if mark is None or at.topic not in lane.positions:
                    continue
                behind = max(0, mark - lane.positions[at.topic])
                lag += behind if lane.retry_at is None else 0
                metrics.LAG.labels(self._service.name, *at).set(behind)
        if not lag:
            self._progress_at = now
        elif now - self._progress_at > self._settings.stall_timeout_s:
            raise StalledError(
                f"service {self._service.name!r}: {lag} records wait and none arrived "
                f"for {self._settings.stall_timeout_s:.0f} s"
            )
