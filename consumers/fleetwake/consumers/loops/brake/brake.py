"""The brake of a partition: from alerts and commands to verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetwake.consumers.loops.brake.alert_log import AlertLog
from fleetwake.consumers.loops.brake.commands import Commands
from fleetwake.consumers.loops.brake.failing import failing_open
from fleetwake.consumers.loops.brake.others import Others
from fleetwake.consumers.loops.brake.restore import read_verdicts
from fleetwake.consumers.loops.brake.running import BlockedRunning
from fleetwake.consumers.loops.brake.verdicts import Verdicts
from fleetwake.schemas.codec import PackagedSchemas

if TYPE_CHECKING:
    from fleetwake.consumers.loops.rows import Row
    from fleetwake.consumers.loops.settings import LoopsSettings
    from fleetwake.consumers.runtime.decode import Schemas
    from fleetwake.consumers.runtime.service import EventBatch, PartitionStart
    from fleetwake.schemas.records import LoopAlert

__all__ = ["Brake"]


class _Packaged(PackagedSchemas):
    async def refresh(self, *references: str) -> None:
        """Learn nothing: there is nobody to ask."""


class Brake:
    """
    Publishes alerts, each change once, and the verdicts that follow from them.

    Delivery guarantees: a verdict is written after its alert is acknowledged and before
    the offsets of both are committed. What is written is compared with what is there,
    so that a crash in between writes the rest, and nothing twice.
    """

    def __init__(
        self,
        start: PartitionStart,
        settings: LoopsSettings,
        schemas: Schemas | None = None,
    ) -> None:
        schemas = schemas or _Packaged()
        self._start = start
        self._schemas = schemas
        self._idle_ms = int(settings.idle_s * 1000)
        self._log = AlertLog(settings.cooldown_s)
        self._verdicts = Verdicts(start.partition, settings, self._log)
        self._others = Others(start, schemas)
        self._commands = Commands(self._log, self._others, self._verdicts, schemas)
        self._running = BlockedRunning(
            start.partition, settings.grace_s, self._log, self._verdicts
        )

    def __bool__(self) -> bool:
        """Whether there may be something to publish."""
        return bool(self._log) or bool(self._verdicts)

    @property
    def needed(self) -> int | None:
        """The oldest offset of the commands that is needed again."""
        return self._commands.needed

    async def restore(self) -> None:
        """
        Read what this partition has written.

        Raises:
            RetriableError: a topic or a schema cannot be read now.
        """
        async for alert in self._others.read():
            self._log.restore(alert)
        self._log.restored()
        for verdict in await read_verdicts(self._start, self._schemas):
            self._verdicts.restore(verdict)
        for session_id in self._log.sessions:
            self._verdicts.touch(session_id)
        self._running.restore()

    def tell(self, alert: LoopAlert, *, muted: bool = False) -> None:
        """Publish a change of an alert, if its topic does not have it."""
        if self._log.add(alert, muted=muted):
            self._verdicts.touch(alert.session_id)

    def published(self, alert_id: str) -> LoopAlert | None:
        """Return an alert as its topic has it or will have it, if it is open."""
        return self._log.get(alert_id)

    def retell(self, alert: LoopAlert) -> None:
        """Publish an open alert again if its attributes or its level are others now."""
        if self._log.replace(alert):
            self._verdicts.touch(alert.session_id)

    def see(self, row: Row, *, muted: bool) -> None:
        """Take an event that the rules have seen."""
        if row.session_id in self._log.orphans:
            for alert in self._log.orphans.see(row):
                self.tell(alert)
        if row.session_id in self._verdicts:
            with failing_open(BlockedRunning.name):
                self._running.see(row, muted=muted)

    def take(self, batch: EventBatch) -> None:
        """Take commands."""
        self._commands.take(batch)

    def advance(self, now_ms: int) -> None:
        """Learn that it is `now_ms`: blocks end, and orphans are silent for long."""
        self._verdicts.advance(now_ms * 1000)
        for alert in self._log.orphans.sweep(now_ms, self._idle_ms):
            self.tell(alert)

    def tick(self, now_ms: int) -> None:
        """Learn that nothing more was appended before `now_ms`."""
        self.advance(now_ms)
        for alert in self._log.orphans.across_sessions():
            self.tell(alert)
        with failing_open(BlockedRunning.name):
            self._running.sweep(now_ms)
        self._verdicts.rewrite_old()

    async def publish(self) -> None:
        """
        Carry out the commands; publish the alerts, and then the verdicts.

        Raises:
            RetriableError: not all was acknowledged; the same is published again.
        """
        await self._commands.fold()
        due = self._verdicts.prepare()
        with failing_open(BlockedRunning.name):
            self._running.settle(due)
        publish = self._start.publisher.publish
        if alerts := self._log.records():
            await publish(alerts)
            self._log.acknowledged()
        if verdicts := self._verdicts.records():
            await publish(verdicts)
        self._verdicts.acknowledged()
