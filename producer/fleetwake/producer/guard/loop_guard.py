"""Asks before each call of a tool, and stops it if a verdict says so."""

from __future__ import annotations

import contextlib
import inspect
import logging
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from fleetwake.producer.guard.decision import SessionBlockedError
from fleetwake.schemas.event import AuditEvent
from fleetwake.schemas.text import well_formed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from fleetwake.producer.guard.decision import Decision
    from fleetwake.producer.guard.follower import Follower
    from fleetwake.producer.guard.verdicts import GuardStatistics, Verdicts
    from fleetwake.producer.settings import KafkaSettings

__all__ = ["LoopGuard"]

logger = logging.getLogger("fleetwake.producer")

P = ParamSpec("P")
R = TypeVar("R")


class Emitter(Protocol):
    """An `AuditProducer`, or its asynchronous sister."""

    def emit(self, event: AuditEvent, /) -> None:
        """Accept an event."""
        ...


class LoopGuard:
    """
    The brake of one session. Cheap to make, safe to share by threads and coroutines.

        guard = LoopGuard(session_id, producer=producer)

        @guard.protect
        def web_search(query: str) -> str: ...

    All guards of a process share one thread, which reads the verdicts topic; the first
    guard starts it, and reads the settings from the environment and `fleetwake.toml`
    unless `kafka` is given. With `verdicts` there is no thread and no Kafka.

    `on_warn` is called in the caller's thread before a call that a verdict only warns
    of. With `producer`, each stopped call is also an event `tool.blocked`.

    Fails open: where the verdicts are not known a call is made, and counted. Nothing
    here waits for the network or raises anything but `SessionBlockedError`.
    """

    def __init__(
        self,
        session_id: str,
        *,
        agent_id: str | None = None,
        kafka: KafkaSettings | None = None,
        verdicts: Verdicts | None = None,
        producer: Emitter | None = None,
        on_warn: Callable[[Decision], object] | None = None,
    ) -> None:
        self.session_id = well_formed(session_id)
        self._agent_id = agent_id
        self._producer = producer
        self._on_warn = on_warn
        self._follower: Follower | None = None
        if verdicts is None:
            # Here, not above: asyncio takes 30 ms, and importing us must not.
            from fleetwake.producer.guard.follower import follower_of

            self._follower = follower_of(kafka)
            self._hold = self._follower.hold()
            verdicts = self._follower.verdicts
        self._verdicts = verdicts

    def check(self, tool_name: str | None = None) -> Decision:
        """
        Answer for one tool, or for the session as a whole; from memory, about 1 us.

        Without a tool's name, a block of some tool is a warning.
        """
        # After a fork there is a follower without a thread.
        if self._follower is not None and not self._follower.is_running:
            self._follower.start()
        return self._verdicts.check(self.session_id, tool_name)

    def wait(self, timeout_s: float = 5.0) -> bool:
        """
        Wait until the verdicts are known for the first time; False: they are not yet.

        For who wants no call to pass unasked at the start of a process. The only method
        that waits.
        """
        return self._verdicts.wait(timeout_s)

    def statistics(self) -> GuardStatistics:
        """Return the counts of now, of all guards that share these verdicts."""
        return self._verdicts.statistics()

    @contextlib.contextmanager
    def call(self, tool_name: str) -> Generator[Decision]:
        """
        Run the body, unless the call of this tool is stopped.

        Raises:
            SessionBlockedError: it is.
        """
        yield self._admit(tool_name)

    @overload
    def protect(self, function: Callable[P, R], /) -> Callable[P, R]: ...

    @overload
    def protect(
        self, /, *, tool_name: str
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def protect(
        self, function: Callable[..., Any] | None = None, /, *, tool_name: str = ""
    ) -> Callable[..., Any]:
        """
        Decorate a tool, synchronous or not, so that each call asks first.

        Its name is that of the function unless you give one. A call that is stopped
        raises `SessionBlockedError`; of a coroutine function, when it is awaited.
        """
        if function is None:
            return partial(self._protected, tool_name=tool_name)
        return self._protected(function, _name(function))

    def _protected(
        self, function: Callable[..., Any], tool_name: str
    ) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def coroutine(*args: object, **options: object) -> object:
                self._admit(tool_name)
                return await function(*args, **options)

            return coroutine

        @wraps(function)
        def plain(*args: object, **options: object) -> object:
            self._admit(tool_name)
            return function(*args, **options)

        return plain

    def _admit(self, tool_name: str) -> Decision:
        decision = self.check(tool_name)
        if decision.action == "block":
            self._verdicts.count("stopped")
            self._tell(tool_name, decision)
            raise SessionBlockedError(self.session_id, tool_name, decision)
        if decision.action == "warn":
            self._verdicts.count("warned")
            if self._on_warn is not None:
                try:
                    self._on_warn(decision)
                except Exception:
                    logger.exception("on_warn of a LoopGuard failed")
        return decision

    def _tell(self, tool_name: str, decision: Decision) -> None:
        if self._producer is None:
            return
        facts = {
            "scope": decision.scope,
            "alert_id": decision.alert_id,
            "until": None if decision.until is None else str(decision.until),
        }
        event = AuditEvent(
            event_type="tool.blocked",
            session_id=self.session_id,
            agent_id=self._agent_id,
            tool_name=tool_name,
            severity="warning",
            outcome="blocked",
            reason=decision.reason,
            attributes={name: text for name, text in facts.items() if text is not None},
        )
        try:
            self._producer.emit(event)
        except Exception:
            logger.exception("A stopped call could not be told")


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
