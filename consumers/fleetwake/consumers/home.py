"""Where fleetwake keeps what it writes on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from fleetwake.producer.home import folder, home

__all__ = ["cache", "home"]


def cache() -> Path:
    """
    The folder of what can be downloaded again, shared by all homes.

    `FLEETWAKE_CACHE`, else `fleetwake` in `XDG_CACHE_HOME`, else `~/.cache/fleetwake`.

    Raises:
        ConfigurationError: the folder cannot be made.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return folder("FLEETWAKE_CACHE", base / "fleetwake")
