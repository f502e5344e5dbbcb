"""
A small agent on NeMo Flow or NeMo Relay: `nemo_agent.py PACKAGE FOLDER`.

Runs in an environment that has the package and fleetwake without extras. It is told
twice: by the system's own exporter, to FOLDER/told.jsonl, and by our subscriber, to the
Kafka that the environment names. Prints what our producer counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from importlib import import_module
from typing import Any

from fleetwake.producer import AuditProducer
from fleetwake.producer.adapters.atof import AtofSubscriber

ANSWER = {
    "content": "3 degrees in Oslo",
    "role": "assistant",
    "usage": {"prompt_tokens": 11, "completion_tokens": 5},
}


async def main(package: str, folder: str) -> None:
    nemo: Any = import_module(package)
    exporter = told_by_itself(nemo, folder)
    with AuditProducer() as producer:
        nemo.subscribers.register("fleetwake", AtofSubscriber(producer))
        await work(nemo)
        if hasattr(nemo.subscribers, "flush_async"):
            await nemo.subscribers.flush_async()
        nemo.subscribers.deregister("fleetwake")
        delivered = producer.close(30)
    exporter.deregister("itself")
    exporter.shutdown()
    counted = producer.statistics()
    print(
        json.dumps(
            {
                "delivered": delivered,
                "invalid": counted.invalid,
                "acknowledged": counted.acknowledged,
            }
        )
    )


def told_by_itself(nemo: Any, folder: str) -> Any:
    config = nemo.AtofExporterConfig()
    config.output_directory = folder
    config.filename = "told.jsonl"
    exporter = nemo.AtofExporter(config)
    exporter.register("itself")
    return exporter


async def work(nemo: Any) -> None:
    """Two runs, of which one names its session; calls of every kind."""
    kinds, result = (
        nemo.ScopeType,
        getattr(nemo, "ToolExecutionResult", lambda one: one),
    )
    nemo.guardrails.register_tool_conditional_execution(
        "deny", 1, lambda name, _: "not allowed" if name == "rm" else None
    )
    with nemo.scope.scope(
        "planner", kinds.Agent, metadata={"session_id": "sess-7", "user_id": "u-1"}
    ):
        nemo.scope.event("begun", data={"attempt": 1})
        await ask(nemo)
        for _ in range(3):
            call = nemo.tools.call("weather", {"city": "Oslo"}, tool_call_id="call_1")
            nemo.tools.call_end(call, result({"temp_c": 3}))
        with nemo.scope.scope("helper", kinds.Agent):
            await nemo.tools.execute("add", {"x": 1}, lambda _: result({"sum": 2}))
        for name, tool in (("rm", lambda _: result(None)), ("fail", fail)):
            with contextlib.suppress(Exception):
                await nemo.tools.execute(name, {"x": 1}, tool)
    with nemo.scope.scope("second", kinds.Agent):
        nemo.scope.event("note", data={"text": "åß☃ \U0001f600", "big": 2**63 - 1})
    nemo.scope.event("outside")


async def ask(nemo: Any) -> None:
    request = nemo.LLMRequest(
        {"authorization": "Bearer sk-live-9f8e7d6c5b4a39281706f5e4d3c2b1a0"},
        {"messages": [{"role": "user", "content": "weather?"}], "model": "gpt-test"},
    )
    await nemo.llm.execute("chat", request, lambda _: ANSWER, model_name="gpt-test")


def fail(_: Any) -> Any:
    raise ValueError("kaput")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
