"""Where fleetwake keeps what it writes on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from fleetwake.schemas.errors import ConfigurationError

__all__ = ["cache", "home"]


def home() -> Path:
    """
    The folder of all data: `FLEETWAKE_HOME`, else `~/.local/share/fleetwake`.

    It is made, for its owner only, if it is not there.

    Raises:
        ConfigurationError: the folder cannot be made.
    """
    return _folder("FLEETWAKE_HOME", Path("~/.local/share/fleetwake"))


def cache() -> Path:
    """
    The folder of what can be downloaded again, shared by all homes.

    `FLEETWAKE_CACHE`, else `fleetwake` in `XDG_CACHE_HOME`, else `~/.cache/fleetwake`.

    Raises:
        ConfigurationError: the folder cannot be made.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return _folder("FLEETWAKE_CACHE", base / "fleetwake")


def _folder(variable: str, default: Path) -> Path:
    folder = Path(os.environ.get(variable) or default)
    try:
        folder = folder.expanduser().absolute()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise ConfigurationError(
            f"the folder {folder} cannot be made ({error}): set {variable} to one "
            "that can"
        ) from error
    return folder
