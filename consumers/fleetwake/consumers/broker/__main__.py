"""
The embedded broker as a process: `python -m fleetwake.consumers.broker`.

Prints `host:port` on stdout when it serves. SIGTERM and Ctrl-C stop it in order, a
second one at once. With `--with-parent` it also stops when its parent has ended.
Settings: `FLEETWAKE_BROKER_...`. Exit codes: 0 stopped, 1 failed, 2 configuration,
75 cannot download now, 130 interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

from pydantic import ValidationError

from fleetwake.consumers.broker.errors import BrokerError, DownloadError
from fleetwake.consumers.broker.launcher import EmbeddedKafka
from fleetwake.consumers.broker.settings import BrokerSettings
from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.consumers.broker.jars import Progress

_INTERRUPTED = 128 + signal.SIGINT
_TRY_AGAIN = 75


def main(arguments: Sequence[str]) -> int:
    """Run the broker until it is stopped; the exit code."""
    if not set(arguments) <= {"--with-parent"}:
        sys.stderr.write(f"{(__doc__ or '').strip()}\n")
        return 2
    try:
        settings = BrokerSettings()
        return asyncio.run(_serve(settings, with_parent="--with-parent" in arguments))
    except DownloadError as error:
        return _failed(_TRY_AGAIN, error)
    except (ConfigurationError, ValidationError) as error:
        return _failed(2, error)
    except BrokerError as error:
        return _failed(1, error)


def _failed(code: int, error: Exception) -> int:
    sys.stderr.write(f"broker: {error}\n")
    return code


async def _serve(settings: BrokerSettings, *, with_parent: bool) -> int:
    broker = EmbeddedKafka.from_settings(settings)
    stop = _Stop()
    orphaned = asyncio.create_task(stop.when_orphaned()) if with_parent else None
    try:
        await broker.start(progress=_Quarters())
        sys.stdout.write(f"{broker.bootstrap_servers}\n")
        sys.stdout.flush()
        code = await broker.wait()
        raise BrokerError(f"Kafka ended with code {code}:\n{broker.last_words()}")
    except asyncio.CancelledError:
        with contextlib.suppress(asyncio.CancelledError):
            await broker.stop()
        return stop.exit_code
    finally:
        broker.kill()
        if orphaned is not None:
            orphaned.cancel()


class _Stop:
    """Cancels the task that made it when the process is to end."""

    def __init__(self) -> None:
        self.exit_code = 0
        self._task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(signal.SIGTERM, self._now, 0)
            loop.add_signal_handler(signal.SIGINT, self._now, _INTERRUPTED)

    def _now(self, exit_code: int) -> None:
        self.exit_code = exit_code
        if self._task is not None:
            self._task.cancel()

    async def when_orphaned(self) -> None:
        parent = os.getppid()
        while os.getppid() == parent:  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.5)
        self._now(0)


class _Quarters:
    """Tells of each quarter of a download, in lines: nobody may be watching."""

    def __init__(self) -> None:
        self._told = -1

    def __call__(self, progress: Progress) -> None:
        quarter = 4 * progress.size // progress.size_total
        if quarter > self._told:
            self._told = quarter
            sys.stderr.write(
                f"broker: {25 * quarter} % of {progress.size_total / 1e6:.0f} MB of "
                "Apache Kafka downloaded\n"
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
