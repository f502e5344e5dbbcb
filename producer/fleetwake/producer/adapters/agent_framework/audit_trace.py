"""
A recorder with the names of `agent_framework.audit_trace`: change the import, no more.

It writes the same file, and publishes what it writes if it is given a producer. It
differs where an agent would suffer: it has a lock; what is no JSON becomes text instead
of raising; a file that cannot be written is logged.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from fleetwake.producer.adapters.agent_framework.adapter import AgentFrameworkAdapter
from fleetwake.producer.adapters.agent_framework.audit_subscriber import (
    AuditTraceSubscriber,
)
from fleetwake.producer.adapters.agent_framework.records import (
    AgentCallAuditRecord,
    CallbackAuditRecord,
    MemoryOperationRecord,
    PermissionRequestRecord,
    SkillInvocationRecord,
    UserInputRecord,
    UserOutputRecord,
    fields_of,
)
from fleetwake.producer.adapters.agent_framework.run_ids import session_of
from fleetwake.producer.adapters.agent_framework.subscriber import trace_record
from fleetwake.producer.adapters.agent_framework.told import SOURCE
from fleetwake.producer.adapters.live import LiveStream, renew_after_fork
from fleetwake.producer.adapters.reading import json_text
from fleetwake.producer.content import plain_json

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from _typeshed import DataclassInstance

    from fleetwake.producer.client import AsyncAuditProducer, AuditProducer

__all__ = [
    "AgentCallAuditRecord",
    "AuditTraceSubscriber",
    "CallbackAuditRecord",
    "InMemoryAuditTracer",
    "MemoryOperationRecord",
    "PermissionRequestRecord",
    "SkillInvocationRecord",
    "UserInputRecord",
    "UserOutputRecord",
]

_LOG: Final = logging.getLogger("fleetwake.producer")

_FILE_NAME: Final = f"trace-{datetime.now().astimezone():%y%m%d_%H%M%S}.jsonl"
"""One per process and folder: the source takes the time at import, too."""

_DECISION: Final = (
    *("kind", "message", "response", "parameters", "subagent_id", "tool_name"),
    "callback_intent",
)


class InMemoryAuditTracer:
    """
    Keeps the records of runs in memory until they finish, then writes and publishes.

    A run that does not finish is not written. Session records are written at once.
    Published session records belong to `session_id`, by default to the session of the
    run that started last. Thread-safe.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        active_records: dict[str, AgentCallAuditRecord] | None = None,
        output_path: object = None,
        *,
        producer: AuditProducer | AsyncAuditProducer | None = None,
        session_id: str | None = None,
        agent_id: str | None = None,
    ) -> None:
        del output_path  # The source, too, takes it and does not look at it.
        self.output_dir = Path(output_dir)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self.output_path = self.output_dir / _FILE_NAME
        self.active_records = {} if active_records is None else active_records
        self._follows_runs = session_id is None
        self._is_writable = True
        self.renew()
        renew_after_fork(self)
        self._adapter: AgentFrameworkAdapter | None = None
        self._stream: LiveStream | None = None
        if producer is not None:
            self._stream = LiveStream(
                producer,
                source=SOURCE,
                open_adapter=self._open_adapter,
                read=trace_record,
                session_id=session_id,
                agent_id=agent_id,
            )

    def renew(self) -> None:
        """Take a new lock: called for you in a forked child."""
        self._lock = threading.RLock()

    def start_agent_call(
        self,
        *,
        run_id: str,
        caller_id: str | None,
        agent_name: str,
        system_prompt: str,
        system_prompt_sources: Sequence[str],
        user_prompt: str,
        user_prompt_sources: Sequence[str],
    ) -> None:
        """Begin a record, in place of one that has the same run_id."""
        run_id = json_text(run_id)
        record = AgentCallAuditRecord(
            timestamp=_now(),
            run_id=run_id,
            caller_id=caller_id,
            agent_name=agent_name,
            system_prompt=system_prompt,
            system_prompt_sources=_tuple(system_prompt_sources),
            user_prompt=user_prompt,
            user_prompt_sources=_tuple(user_prompt_sources),
        )
        with self._lock:
            self.active_records[run_id] = record
            session_id = session_of(run_id)
            if self._follows_runs and self._adapter is not None and session_id:
                self._adapter.session_id = session_id

    def record_llm_request(self, *, run_id: str, payload: object) -> None:
        """Keep what the model was asked. The last one stays."""
        sent = _copy(payload)
        self._change(run_id, lambda record: replace(record, llm_message_sent=sent))

    def record_llm_response(
        self, *, run_id: str, raw_text: str, parsed_payload: object
    ) -> None:
        """Keep what the model answered. The last one stays."""
        response = _copy(parsed_payload)
        self._change(
            run_id,
            lambda record: replace(
                record, llm_message_received=raw_text, model_response=response
            ),
        )

    def record_decision(self, *, run_id: str, decision: object) -> None:
        """Keep a decision, of which the attributes are read. The last one stays."""
        kept = {name: _copy(getattr(decision, name, None)) for name in _DECISION}
        self._change(run_id, lambda record: replace(record, agent_decision=kept))

    def record_callback(
        self,
        *,
        run_id: str,
        intent: str,
        prompt: str,
        target: str,
        response: object = None,
    ) -> None:
        """Add a question to the caller, with the time of now."""
        one = CallbackAuditRecord(_now(), intent, prompt, target, _copy(response))
        self._change(
            run_id,
            lambda record: replace(record, callbacks=(*record.callbacks, one)),
        )

    def record_skill_invocation(
        self,
        *,
        run_id: str,
        skill_name: str,
        parameters: object,
        inventory: Sequence[str],
        status: str | None = None,
        loaded_resources: Sequence[str] | None = None,
        **_: object,
    ) -> None:
        """Add a skill, with the time of now. Later versions tell the last two."""
        one = SkillInvocationRecord(
            timestamp=_now(),
            skill_name=skill_name,
            parameters=_copy(parameters),
            inventory=_tuple(inventory),
            status=status,
            loaded_resources=(
                None if loaded_resources is None else _tuple(loaded_resources)
            ),
        )
        self._change(
            run_id,
            lambda record: replace(
                record, skill_invocations=(*record.skill_invocations, one)
            ),
        )

    def record_event(self, *, run_id: str, event: object) -> None:
        """Add an event, as it is now."""
        one = _copy(event)
        self._change(
            run_id, lambda record: replace(record, events=(*record.events, one))
        )

    def finish_agent_call(self, *, run_id: str) -> None:
        """Write the record and forget it."""
        with self._lock:
            record = self.active_records.pop(json_text(run_id), None)
            if record is not None:
                self._write(record.to_jsonable())

    def record_user_output(self, *, role: str, text: str) -> None:
        """Write what the user was shown."""
        self._write_session("user_output", UserOutputRecord(_now(), role, text))

    def record_user_input(self, *, prompt: str, response: str) -> None:
        """Write what the user said."""
        self._write_session("user_input", UserInputRecord(_now(), prompt, response))

    def record_permission(
        self,
        *,
        tool_name: str,
        action: str,
        resource: str,
        summary: str,
        allowed: bool,
        remember_for_session: bool,
    ) -> None:
        """Write what was asked for, and the answer."""
        record = PermissionRequestRecord(
            timestamp=_now(),
            tool_name=tool_name,
            action=action,
            resource=resource,
            summary=summary,
            allowed=allowed,
            remember_for_session=remember_for_session,
        )
        self._write_session("permission_request", record)

    def record_memory_operation(
        self,
        *,
        operation: str,
        memory_uri: str | None = None,
        scope: str | None = None,
        mime_type: str | None = None,
        title: str | None = None,
        summary: str | None = None,
        size_bytes: int | None = None,
        version: str | None = None,
        metadata: object = None,
    ) -> None:
        """Write a change of the memory."""
        record = MemoryOperationRecord(
            timestamp=_now(),
            operation=operation,
            memory_uri=memory_uri,
            scope=scope,
            mime_type=mime_type,
            title=title,
            summary=summary,
            size_bytes=size_bytes,
            version=version,
            metadata=_copy(metadata or {}),
        )
        self._write_session("memory_operation", record)

    def _change(
        self,
        run_id: str,
        changed: Callable[[AgentCallAuditRecord], AgentCallAuditRecord],
    ) -> None:
        run_id = json_text(run_id)
        with self._lock:
            record = self.active_records.get(run_id)
            if record is not None:
                self.active_records[run_id] = changed(record)

    def _write_session(self, kind: str, record: DataclassInstance) -> None:
        with self._lock:
            self._write({"type": kind, **fields_of(record)})

    def _write(self, entry: dict[str, object]) -> None:
        try:
            # A lone surrogate becomes the escape that JSON has for it.
            with self.output_path.open(
                "a", encoding="utf-8", errors="backslashreplace"
            ) as file:
                file.write(_line(entry))
        except OSError as error:
            if self._is_writable:
                _LOG.warning("The audit file cannot be written: %s.", error.strerror)
            self._is_writable = False
        if self._stream is not None:
            self._stream.take(entry)

    def _open_adapter(
        self, *, stream: str, session_id: str, agent_id: str | None
    ) -> AgentFrameworkAdapter:
        self._adapter = AgentFrameworkAdapter(
            stream=stream, session_id=session_id, agent_id=agent_id
        )
        return self._adapter


def _now() -> str:
    # The file has local time with its offset.
    return datetime.now().astimezone().isoformat(timespec="microseconds")


def _tuple(values: object) -> tuple[str, ...]:
    """Return a list as it is now; an empty one in place of what is none."""
    is_list = isinstance(values, Iterable)
    return tuple(cast("Iterable[str]", values)) if is_list else ()


def _copy(value: object) -> object:
    """Return the value as it is now, as JSON has it."""
    return json.loads(plain_json(value)[0])


def _line(entry: dict[str, object]) -> str:
    try:
        text = json.dumps(entry, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        text = plain_json(entry)[0]
    return text + "\n"
