"""Signals as cancellations."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["Interruption", "interruptible"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class Interruption:
    """The first signal that came, None as long as none has."""

    signal: signal.Signals | None = None

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C; 0 after SIGTERM and a closed terminal, and without one."""
        return 128 + self.signal if self.signal == signal.SIGINT else 0


@contextlib.contextmanager
def interruptible() -> Generator[Interruption]:
    """
    Cancel the current task at each SIGINT, SIGTERM and SIGHUP while this is open.

    For the main thread's event loop. Swallows the cancellation that leaves it after a
    signal.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # there is one wherever code can await
    loop = asyncio.get_running_loop()
    interruption = Interruption()

    def interrupt(number: signal.Signals) -> None:
        interruption.signal = interruption.signal or number
        task.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, interrupt, number)
    try:
        yield interruption
    except asyncio.CancelledError:
        if interruption.signal is None:
            raise
        while task.cancelling():
            task.uncancel()
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
