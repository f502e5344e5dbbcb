"""End when the process that started us has ended, however it did."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Final

__all__ = ["stop_with_parent"]

_POLL_S: Final = 0.5
_PATIENCE_S: Final = 30.0


def stop_with_parent(parent: int) -> None:
    """
    Send ourselves SIGTERM when `parent` is our parent no longer; kill 30 s later.

    By a thread that looks every half second: nothing portable tells of it, and it
    works whatever the event loop is doing. `parent` is given, not asked for, because
    it may have ended before we came this far.
    """
    watch = threading.Thread(target=_watch, args=[parent], daemon=True)
    watch.name = "fleetwake-parent"
    watch.start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE_S)
    os.kill(os.getpid(), signal.SIGKILL)
