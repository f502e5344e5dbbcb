"""What an agent embeds: `AuditProducer`, and the same for asyncio."""

from __future__ import annotations

import contextlib
import time
import weakref
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from typing import TYPE_CHECKING, Final

from fleetwake.producer.process import this_process
from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from types import TracebackType
    from typing import Self

    from fleetwake.producer.content import Content
    from fleetwake.producer.dead_letter import DeadLetter
    from fleetwake.producer.run import Run
    from fleetwake.producer.settings import (
        ContentSettings,
        KafkaSettings,
        ProducerSettings,
        RegistrySettings,
    )
    from fleetwake.producer.statistics import DeliveryStatistics
    from fleetwake.producer.transport import Transport
    from fleetwake.schemas.event import AuditEvent

__all__ = ["AsyncAuditProducer", "AuditProducer"]

# Of the time to close, what is left to disconnect when all else was in vain.
_STOP_SHARE: Final = 0.1


class _Producer:
    """What both have in common: everything but the way to wait."""

    def __init__(
        self,
        settings: ProducerSettings | None = None,
        *,
        kafka: KafkaSettings | None = None,
        registry: RegistrySettings | None = None,
        content: ContentSettings | None = None,
        redactors: Sequence[Callable[[AuditEvent], AuditEvent]] = (),
        source: str = "native",
        strict: bool = False,
        open_transport: Callable[[], Transport] | None = None,
    ) -> None:
        # Here, not above: pydantic takes 0.1 s, and importing us must not.
        from fleetwake.producer import settings as defaults
        from fleetwake.producer.run import Run

        self._finalizer: weakref.finalize[[], _Producer] | None = None
        self._new_run: Callable[[], Run] = partial(
            Run,
            settings or defaults.ProducerSettings(),
            kafka or defaults.KafkaSettings(),
            registry or defaults.RegistrySettings(),
            content or defaults.ContentSettings(),
            redactors=redactors,
            source=source,
            open_transport=open_transport,
            strict=strict,
        )
        self.renew()

    @property
    def producer_id(self) -> str:
        """New for each process. Suffixed in events of returning sessions."""
        return self._run.producer_id

    def emit(self, event: AuditEvent, content: Content | None = None) -> None:
        """
        Accept an event. Takes microseconds, from any thread; never waits, never raises.

        From `content`, if given, come the digests, previews, lengths and the payload
        that the event does not have yet.

        Stamps producer_id, sequence and recorded_at; event_id, source,
        source_event_type, occurred_at, host and environment where they are empty.
        What is invalid is counted (see `statistics`) and logged once per kind to the
        logger fleetwake.producer. With `strict=True`, for tests, it raises instead.

        Raises:
            InvalidEventError: only with `strict=True`; so do the following.
            TooLargeError: it has more than 1 MiB without its payload.
            FleetwakeError: the producer is closed.
        """
        self._run.emit(event, content)

    def reject(self, letter: DeadLetter) -> None:
        """
        Send what could not become an event to the dead-letters topic.

        By the same way as events, redacted, and like `emit` it never waits and never
        raises; what is no DeadLetter is counted as invalid. While that topic is
        missing, events go on, and of dead letters what is beyond 4 MiB is dropped.

        Raises:
            InvalidEventError, FleetwakeError: only with `strict=True`, see `emit`.
        """
        self._run.reject(letter)

    def statistics(self) -> DeliveryStatistics:
        """Return the counts of now. From any thread."""
        return self._run.statistics()

    def renew(self) -> None:
        """Begin a new run: called for you in a forked child."""
        if self._finalizer is not None:
            self._finalizer.detach()
        run = self._new_run()
        self._run = run
        this_process().add(self, run)
        # A producer that nobody holds any longer delivers what it has, and ends.
        self._finalizer = weakref.finalize(self, partial(_release, run))
        self._finalizer.atexit = False


class AuditProducer(_Producer):
    """
    Publishes audit events to Kafka from a thread of its own, for synchronous code.

        with AuditProducer() as producer:
            producer.emit(AuditEvent(event_type="turn.start", session_id="s-1"))

    Settings come from the environment and `fleetwake.toml` unless given; `redactors`
    are hooks that see each event before it leaves (`Border`). Nothing is connected
    before the first event, and no broker needs to be there. Safe to share by threads,
    and across forks: a child gets an empty queue, a spool, threads and a producer_id of
    its own. At the end of the process it is closed, within
    `exit_timeout_s`.

    Delivery guarantees: an event that was accepted is on disk within 10 ms while the
    thread keeps up (`statistics().unstored_age_s` says; more wait in the queue else,
    and while a registry does not answer), and then it is delivered at least once, also
    when this process is killed: the next producer on this machine with the same Kafka
    delivers what another left. With durability
    `memory` it is while the process lives. A session's events arrive in the order of
    `emit`; duplicates have the same event_id. What is dropped (queue or spool are full,
    the broker refuses) is counted by reason, and a `gap` event names the sequences when
    there is room again. Each session's run ends with a `producer.close` event.
    """

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def flush(self, timeout_s: float = 5.0) -> bool:
        """
        Wait until all that was accepted before is acknowledged, or dropped and counted.

        Returns False when that takes longer than `timeout_s`.
        """
        return _wait(self._run.flush(), timeout_s)

    def close(self, timeout_s: float = 5.0) -> bool:
        """
        Accept no more events, deliver those that there are, and disconnect.

        Returns within `timeout_s`, whatever the broker does: False if not everything
        was delivered. What was not stays in the spool; with durability `memory` it is
        dropped and counted. Calling it again returns the same.
        """
        deadline = time.monotonic() + timeout_s
        delivered = _wait(self._run.close(), timeout_s * (1 - _STOP_SHARE))
        self._run.abandon()
        _wait(self._run.finished, deadline - time.monotonic())
        return delivered


class AsyncAuditProducer(_Producer):
    """
    `AuditProducer` for asyncio: the same, and the waiting is awaited.

        async with AsyncAuditProducer() as producer:
            producer.emit(AuditEvent(event_type="turn.start", session_id="s-1"))

    It works in a thread of its own as well, so it neither blocks your loop nor is it
    held up by it. `emit` is not a coroutine because it does not wait. To make one
    reads the settings file, and takes 0.2 s of imports the first time.

    Raises:
        ConfigurationError: `on_full` is `block`, which would block your loop.
    """

    def __init__(
        self,
        settings: ProducerSettings | None = None,
        *,
        kafka: KafkaSettings | None = None,
        registry: RegistrySettings | None = None,
        content: ContentSettings | None = None,
        redactors: Sequence[Callable[[AuditEvent], AuditEvent]] = (),
        source: str = "native",
        strict: bool = False,
        open_transport: Callable[[], Transport] | None = None,
    ) -> None:
        super().__init__(
            settings,
            kafka=kafka,
            registry=registry,
            content=content,
            redactors=redactors,
            source=source,
            strict=strict,
            open_transport=open_transport,
        )
        if self._run.settings.on_full == "block":
            raise ConfigurationError(
                "on_full: `block` would block the event loop; use drop_newest or "
                "drop_oldest, or AuditProducer in a thread"
            )

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        await self.close()

    async def flush(self, timeout_s: float = 5.0) -> bool:
        """See `AuditProducer.flush`."""
        return await _wait_async(self._run.flush(), timeout_s)

    async def close(self, timeout_s: float = 5.0) -> bool:
        """See `AuditProducer.close`."""
        deadline = time.monotonic() + timeout_s
        end = self._run.close()
        delivered = await _wait_async(end, timeout_s * (1 - _STOP_SHARE))
        self._run.abandon()
        await _wait_async(self._run.finished, deadline - time.monotonic())
        return delivered


def _release(run: Run) -> None:
    run.close(abandon_after_s=run.settings.exit_timeout_s)


def _wait(future: Future[bool], timeout_s: float) -> bool:
    try:
        return future.result(timeout=max(0.0, timeout_s))
    except FutureTimeoutError:
        return False


async def _wait_async(future: Future[bool], timeout_s: float) -> bool:
    import asyncio

    # Not asyncio.wrap_future: that needs this loop to outlive the future.
    loop, settled = asyncio.get_running_loop(), asyncio.Event()

    def wake(_: object) -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settled.set)

    future.add_done_callback(wake)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, timeout_s)):
            await settled.wait()
    return future.done() and future.result()
