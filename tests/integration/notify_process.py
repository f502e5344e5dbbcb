"""Notify as a process that a test may kill: `python notify_process.py`."""

from __future__ import annotations

import asyncio

from fleetwake.consumers.notify import service
from fleetwake.consumers.runtime.main import configure_logging, run_service
from fleetwake.consumers.runtime.settings import RuntimeSettings
from fleetwake.producer.settings import KafkaSettings

if __name__ == "__main__":
    configure_logging("ERROR")
    asyncio.run(run_service(service(), KafkaSettings(), RuntimeSettings()))
