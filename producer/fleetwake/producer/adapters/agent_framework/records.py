"""The records of an audit file, under the names and with the fields of their source."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "AgentCallAuditRecord",
    "CallbackAuditRecord",
    "MemoryOperationRecord",
    "PermissionRequestRecord",
    "SkillInvocationRecord",
    "UserInputRecord",
    "UserOutputRecord",
    "fields_of",
]


def fields_of(record: DataclassInstance) -> dict[str, object]:
    """Return a record as a dict, in the order of the file. Nothing is copied."""
    return {one.name: getattr(record, one.name) for one in fields(record)}


@dataclass(frozen=True, slots=True)
class CallbackAuditRecord:
    """What an agent asked its caller."""

    timestamp: str
    intent: str
    prompt: str
    target: str
    response: object = None


@dataclass(frozen=True, slots=True)
class SkillInvocationRecord:
    """A skill that was taken up."""

    timestamp: str
    skill_name: str
    parameters: object
    inventory: tuple[str, ...]
    status: str | None = None
    """This and the next: of later versions. None where it was not told."""
    loaded_resources: tuple[str, ...] | None = None

    def to_jsonable(self) -> dict[str, object]:
        """Return it as a dict, without what was not told."""
        told = fields_of(self)
        for name in ("status", "loaded_resources"):
            if told[name] is None:
                del told[name]
        return told


@dataclass(frozen=True, slots=True)
class UserOutputRecord:
    """What the user was shown."""

    timestamp: str
    role: str
    text: str


@dataclass(frozen=True, slots=True)
class UserInputRecord:
    """What the user was asked, and answered."""

    timestamp: str
    prompt: str
    response: str


@dataclass(frozen=True, slots=True)
class PermissionRequestRecord:
    """What an agent wanted to do, and whether it might."""

    timestamp: str
    tool_name: str
    action: str
    resource: str
    summary: str
    allowed: bool
    remember_for_session: bool


@dataclass(frozen=True, slots=True)
class MemoryOperationRecord:
    """A change of the memory."""

    timestamp: str
    operation: str
    memory_uri: str | None = None
    scope: str | None = None
    mime_type: str | None = None
    title: str | None = None
    summary: str | None = None
    size_bytes: int | None = None
    version: str | None = None
    metadata: object = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class AgentCallAuditRecord:
    """A run: its prompts, the last that the model was asked and said, its events."""

    timestamp: str
    run_id: str
    caller_id: str | None
    agent_name: str
    system_prompt: str
    system_prompt_sources: tuple[str, ...]
    user_prompt: str
    user_prompt_sources: tuple[str, ...]
    llm_message_sent: object = None
    llm_message_received: str | None = None
    model_response: object = None
    agent_decision: object = None
    callbacks: tuple[CallbackAuditRecord, ...] = ()
    skill_invocations: tuple[SkillInvocationRecord, ...] = ()
    events: tuple[object, ...] = ()

    def to_jsonable(self) -> dict[str, object]:
        """Return it as nested dicts, in the order of the file."""
        return fields_of(self) | {
            "callbacks": [fields_of(one) for one in self.callbacks],
            "skill_invocations": [one.to_jsonable() for one in self.skill_invocations],
        }
