"""
agent_framework: its live trace events, and the files of its audit trace.

`FleetwakeSubscriber` takes the events as they happen, `audit_trace` is its recorder
with the same names, and `AgentFrameworkAdapter` maps what either wrote.
"""

from __future__ import annotations

from fleetwake.producer.adapters.agent_framework.adapter import (
    AgentFrameworkAdapter,
    recognises,
    restore,
)
from fleetwake.producer.adapters.agent_framework.subscriber import FleetwakeSubscriber
from fleetwake.producer.adapters.agent_framework.tables import TYPES

__all__ = [
    "TYPES",
    "AgentFrameworkAdapter",
    "FleetwakeSubscriber",
    "recognises",
    "restore",
]
