"""Emits a few events of NeMo Relay into stream sinks: `nemo_sink.py URL`."""

from __future__ import annotations

import asyncio
import os
import sys
from importlib import import_module
from typing import Any


async def main(url: str) -> None:
    relay: Any = import_module("nemo_relay")
    told, plugin = relay.observability, relay.plugin
    sinks = [
        told.AtofStreamSinkConfig(url=f"{url}/post", transport="http_post"),
        told.AtofStreamSinkConfig(
            url=f"{url}/upload", transport="ndjson", field_name_policy="replace_dots"
        ),
    ]
    config = told.ObservabilityConfig(atof=told.AtofConfig(enabled=True, sinks=sinks))
    component = told.ComponentSpec(config=config)
    active = await plugin.initialize(plugin.PluginConfig(components=[component]))
    conversation = {"gen_ai.conversation.id": "conv-1"}
    with relay.scope.scope("agent", relay.ScopeType.Agent, metadata=conversation):
        for number in range(20):
            relay.scope.event("step", data={"number": number})
        call = relay.tools.call("search", {"q": "a"})
        relay.tools.call_end(call, relay.ToolExecutionResult([1, 2]))
    await relay.subscribers.flush_async()
    await active.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
    # Relay 0.10.4 crashes in one of five exits of the interpreter after a plugin.
    os._exit(0)
