"""
Calute, whose project was later renamed Xerxes: its audit events, taken in unchanged.

`CaluteCollector` goes where Calute takes a collector of its own. The other names are
those of its module `calute.audit`, so that an import line replaces it:

    from fleetwake.producer.adapters.calute import AuditEmitter, CaluteCollector

Calute itself is not imported. docs/integrations/calute.md says what becomes what.
"""

from fleetwake.producer.adapters.calute.collectors import (
    AuditCollector,
    CaluteCollector,
    CompositeCollector,
    InMemoryCollector,
    JSONLSinkCollector,
)
from fleetwake.producer.adapters.calute.emitter import AuditEmitter
from fleetwake.producer.adapters.calute.events import (
    AgentSwitchEvent,
    AuditEvent,
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
from fleetwake.producer.adapters.calute.mapping import (
    CaluteAdapter,
    recognises,
    restore,
)
from fleetwake.producer.adapters.calute.types import TYPES

__all__ = [
    "TYPES",
    "AgentSwitchEvent",
    "AuditCollector",
    "AuditEmitter",
    "AuditEvent",
    "CaluteAdapter",
    "CaluteCollector",
    "CompositeCollector",
    "ErrorEvent",
    "HookMutationEvent",
    "InMemoryCollector",
    "JSONLSinkCollector",
    "SandboxDecisionEvent",
    "SkillAuthoredEvent",
    "SkillFeedbackEvent",
    "SkillUsedEvent",
    "ToolCallAttemptEvent",
    "ToolCallCompleteEvent",
    "ToolCallFailureEvent",
    "ToolLoopBlockEvent",
    "ToolLoopWarningEvent",
    "ToolPolicyDecisionEvent",
    "TurnEndEvent",
    "TurnStartEvent",
    "recognises",
    "restore",
]
