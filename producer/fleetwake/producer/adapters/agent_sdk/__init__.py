"""
agent-sdk: a `ToolAuditRecord` for each step in the life of a tool's call.

`AgentSdkSink` takes records as they come, `AgentSdkAdapter` maps them. The server's
`ToolAuditEvent`, which knows its thread, is taken as well.
"""

from __future__ import annotations

from fleetwake.producer.adapters.agent_sdk.adapter import (
    AgentSdkAdapter,
    recognises,
    restore,
)
from fleetwake.producer.adapters.agent_sdk.sink import AgentSdkSink
from fleetwake.producer.adapters.agent_sdk.tables import TYPES

__all__ = ["TYPES", "AgentSdkAdapter", "AgentSdkSink", "recognises", "restore"]
