"""Calute's AuditEmitter: the same calls, the same events."""
# ruff: noqa: FBT001, FBT002, PLR0917  # its order of parameters

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import uuid4

from fleetwake.producer.adapters.calute.collectors import InMemoryCollector
from fleetwake.producer.adapters.calute.events import (
    AgentSwitchEvent,
    ErrorEvent,
    HookMutationEvent,
    SandboxDecisionEvent,
    SkillAuthoredEvent,
    SkillFeedbackEvent,
    SkillUsedEvent,
    ToolCallAttemptEvent,
    ToolCallCompleteEvent,
    ToolCallFailureEvent,
    ToolLoopBlockEvent,
    ToolLoopWarningEvent,
    ToolPolicyDecisionEvent,
    TurnEndEvent,
    TurnStartEvent,
)
from fleetwake.producer.adapters.live import renew_after_fork

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.producer.adapters.calute.collectors import AuditCollector
    from fleetwake.producer.adapters.calute.events import AuditEvent

__all__ = ["AuditEmitter"]

_PREVIEW_CHARS: Final = 200
_TURN_ID_CHARS: Final = 12
_LOOP_HOOK: Final = "on_loop_warning"


class _HookRunner(Protocol):
    """Of Calute's hook runner, what the emitter calls."""

    def has_hooks(self, name: str, /) -> bool: ...

    def run(self, name: str, /, **arguments: Any) -> object: ...  # noqa: ANN401


class AuditEmitter:
    """
    Makes events and hands them to a collector, one at a time. Thread-safe.

    Prompts, arguments, contents and results are cut to their first 200 code points;
    what is empty becomes "". Each event gets the emitter's session, None included.
    What the collector raises is raised.

    Names, order and defaults of the parameters are Calute's; what it took later
    (skills, agent switches, hooks) is there, too.
    """

    def __init__(
        self,
        collector: AuditCollector | None = None,
        session_id: str | None = None,
        hook_runner: _HookRunner | None = None,
    ) -> None:
        self._collector = InMemoryCollector() if collector is None else collector
        # Calute's runtime assigns it later.
        self._session_id = session_id
        self._hook_runner = hook_runner
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Take a new lock: called for you in a forked child."""
        self._lock = threading.Lock()

    @property
    def collector(self) -> AuditCollector:
        """Where the events go."""
        return self._collector

    @property
    def session_id(self) -> str | None:
        """The session of all events."""
        return self._session_id

    def emit_turn_start(
        self, agent_id: str | None = None, turn_id: str | None = None, prompt: str = ""
    ) -> str:
        """Tell that a turn begins; return its id, a new one if none is given."""
        turn_id = turn_id or uuid4().hex[:_TURN_ID_CHARS]
        self._emit(
            TurnStartEvent(
                agent_id=agent_id, turn_id=turn_id, prompt_preview=_preview(prompt)
            )
        )
        return turn_id

    def emit_turn_end(
        self,
        agent_id: str | None = None,
        turn_id: str | None = None,
        content: str = "",
        fc_count: int = 0,
    ) -> None:
        """Tell that a turn is over, and how many functions it called."""
        self._emit(
            TurnEndEvent(
                agent_id=agent_id,
                turn_id=turn_id,
                content_preview=_preview(content),
                function_calls_count=fc_count,
            )
        )

    def emit_tool_call_attempt(
        self,
        tool_name: str,
        args: str = "",
        agent_id: str | None = None,
        turn_id: str | None = None,
    ) -> None:
        """Tell that a tool is about to run."""
        self._emit(
            ToolCallAttemptEvent(
                agent_id=agent_id,
                turn_id=turn_id,
                tool_name=tool_name,
                arguments_preview=_preview(args),
            )
        )

    def emit_tool_call_complete(
        self,
        tool_name: str,
        status: str = "success",
        duration_ms: float = 0.0,
        result: str = "",
        agent_id: str | None = None,
        turn_id: str | None = None,
    ) -> None:
        """Tell what a tool has answered."""
        self._emit(
            ToolCallCompleteEvent(
                agent_id=agent_id,
                turn_id=turn_id,
                tool_name=tool_name,
                status=status,
                duration_ms=duration_ms,
                result_preview=_preview(result),
            )
        )

    def emit_tool_call_failure(
        self,
        tool_name: str,
        error_type: str = "",
        error_msg: str = "",
        agent_id: str | None = None,
        turn_id: str | None = None,
    ) -> None:
        """Tell why a tool has failed; the message is not cut."""
        self._emit(
            ToolCallFailureEvent(
                agent_id=agent_id,
                turn_id=turn_id,
                tool_name=tool_name,
                error_type=error_type,
                error_message=error_msg,
            )
        )

    def emit_tool_policy_decision(
        self,
        tool_name: str,
        agent_id: str | None = None,
        action: str = "",
        source: str = "",
        turn_id: str | None = None,
    ) -> None:
        """Tell whether a tool may run; `agent_id` stands second here."""
        self._emit(
            ToolPolicyDecisionEvent(
                agent_id=agent_id,
                turn_id=turn_id,
                tool_name=tool_name,
                action=action,
                policy_source=source,
            )
        )

    def emit_tool_loop_warning(
        self,
        tool_name: str,
        pattern: str = "",
        severity: str = "warning",
        count: int = 0,
        agent_id: str | None = None,
        turn_id: str | None = None,
    ) -> None:
        """Tell what the loop detector says; `severity` becomes `severity_level`."""
        self._emit(
            ToolLoopWarningEvent(
                agent_id=agent_id,
                turn_id=turn_id,
                tool_name=tool_name,
                pattern=pattern,
                severity_level=severity,
                call_count=count,
            )
        )

    def emit_tool_loop_block(
        self,
        tool_name: str,
        pattern: str = "",
        count: int = 0,
        agent_id: str | None = None,
        turn_id: str | None = None,
    ) -> None:
        """Tell that the loop detector has stopped a call."""
        self._emit(
            ToolLoopBlockEvent(
                agent_id=agent_id,
                turn_id=turn_id,
                tool_name=tool_name,
                pattern=pattern,
                call_count=count,
            )
        )

    def emit_sandbox_decision(
        self,
        tool_name: str,
        context: str = "",
        reason: str = "",
        backend_type: str = "",
        agent_id: str | None = None,
        turn_id: str | None = None,
    ) -> None:
        """Tell where a tool runs."""
        self._emit(
            SandboxDecisionEvent(
                agent_id=agent_id,
                turn_id=turn_id,
                tool_name=tool_name,
                context=context,
                reason=reason,
                backend_type=backend_type,
            )
        )

    def emit_hook_mutation(
        self,
        hook_name: str,
        tool_name: str = "",
        agent_id: str | None = None,
        field: str = "",
        turn_id: str | None = None,
        *,
        mutated_field: str = "",
    ) -> None:
        """
        Tell that a hook has changed something.

        `mutated_field` is another name of `field`: one of Calute's own tools uses it.
        """
        self._emit(
            HookMutationEvent(
                agent_id=agent_id,
                turn_id=turn_id,
                hook_name=hook_name,
                tool_name=tool_name,
                mutated_field=mutated_field or field,
            )
        )

    def emit_error(
        self,
        error_type: str = "",
        error_msg: str = "",
        context: str = "",
        agent_id: str | None = None,
        turn_id: str | None = None,
    ) -> None:
        """Tell that something other than a tool has failed."""
        self._emit(
            ErrorEvent(
                agent_id=agent_id,
                turn_id=turn_id,
                error_type=error_type,
                error_message=error_msg,
                error_context=context,
            )
        )

    def emit_skill_used(
        self,
        skill_name: str,
        version: str = "",
        outcome: str = "unknown",
        duration_ms: float = 0.0,
        triggered_automatically: bool = True,
        agent_id: str | None = None,
        turn_id: str | None = None,
    ) -> None:
        """Tell that a skill has run."""
        self._emit(
            SkillUsedEvent(
                agent_id=agent_id,
                turn_id=turn_id,
                skill_name=skill_name,
                version=version,
                outcome=outcome,
                duration_ms=duration_ms,
                triggered_automatically=triggered_automatically,
            )
        )

    def emit_skill_authored(
        self,
        skill_name: str,
        version: str = "",
        source_path: str = "",
        tool_count: int = 0,
        unique_tools: Sequence[str] | None = None,
        confirmed_by_user: bool = False,
        agent_id: str | None = None,
        turn_id: str | None = None,
    ) -> None:
        """Tell that a skill was written or changed."""
        self._emit(
            SkillAuthoredEvent(
                agent_id=agent_id,
                turn_id=turn_id,
                skill_name=skill_name,
                version=version,
                source_path=source_path,
                tool_count=tool_count,
                unique_tools=list(unique_tools or ()),
                confirmed_by_user=confirmed_by_user,
            )
        )

    def emit_skill_feedback(
        self,
        skill_name: str,
        rating: str = "neutral",
        reason: str = "",
        source: str = "user",
        agent_id: str | None = None,
        turn_id: str | None = None,
    ) -> None:
        """Tell how a skill was rated."""
        self._emit(
            SkillFeedbackEvent(
                agent_id=agent_id,
                turn_id=turn_id,
                skill_name=skill_name,
                rating=rating,
                reason=reason,
                source=source,
            )
        )

    def emit_agent_switch(
        self,
        from_agent: str,
        to_agent: str,
        reason: str = "",
        agent_id: str | None = None,
        turn_id: str | None = None,
    ) -> None:
        """Tell that one agent hands over to another."""
        self._emit(
            AgentSwitchEvent(
                agent_id=agent_id,
                turn_id=turn_id,
                from_agent=from_agent,
                to_agent=to_agent,
                reason=reason,
            )
        )

    def emit_loop_warning(
        self,
        tool_name: str,
        pattern: str = "",
        severity: str = "warning",
        count: int = 0,
        agent_id: str | None = None,
        turn_id: str | None = None,
    ) -> None:
        """Run the hooks on_loop_warning; if there are none, emit_tool_loop_warning."""
        arguments: dict[str, Any] = {
            "tool_name": tool_name,
            "pattern": pattern,
            "severity": severity,
            "count": count,
            "agent_id": agent_id,
            "turn_id": turn_id,
        }
        if self._hook_runner is not None and self._hook_runner.has_hooks(_LOOP_HOOK):
            self._hook_runner.run(_LOOP_HOOK, **arguments)
        else:
            self.emit_tool_loop_warning(**arguments)

    def flush(self) -> None:
        """Flush the collector."""
        with self._lock:
            self._collector.flush()

    def _emit(self, event: AuditEvent) -> None:
        event.session_id = self._session_id
        with self._lock:
            self._collector.emit(event)


def _preview(text: str) -> str:
    return text[:_PREVIEW_CHARS] if text else ""
