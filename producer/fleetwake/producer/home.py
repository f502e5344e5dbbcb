"""Where fleetwake keeps what it writes on this machine."""

from __future__ import annotations

import os
import re
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from fleetwake.producer.settings import ProducerSettings

__all__ = ["folder", "home", "spool_folder", "spools_for"]

_NAME_CHARS: Final = 60


def home() -> Path:
    """
    The folder of all data: `FLEETWAKE_HOME`, else `~/.local/share/fleetwake`.

    It is made, for its owner only, if it is not there.

    Raises:
        ConfigurationError: the folder cannot be made.
    """
    return folder("FLEETWAKE_HOME", Path("~/.local/share/fleetwake"))


def folder(variable: str, default: Path) -> Path:
    """
    Make the folder that an environment variable names, for its owner only.

    Raises:
        ConfigurationError: the folder cannot be made.
    """
    path = Path(os.environ.get(variable) or default)
    try:
        path = path.expanduser().absolute()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise ConfigurationError(
            f"the folder {path} cannot be made ({error}): set {variable} to one "
            "that can"
        ) from error
    return path


def spool_folder(settings: ProducerSettings) -> Path:
    """
    Return the folder of all spools: `spool_dir`, else `spool` at home.

    Raises:
        ConfigurationError: it is at home, and that cannot be made.
    """
    return settings.spool_dir or home() / "spool"


def spools_for(settings: ProducerSettings, servers: str, prefix: str) -> Path:
    """
    Return the folder of the spools for one destination.

    One for each cluster and topic prefix, because what is adopted goes where its
    finder sends. The name is for people, its digest makes it unique.

    Raises:
        ConfigurationError: see `spool_folder`.
    """
    servers = ",".join(sorted(servers.replace(" ", "").split(",")))
    digest = sha256(f"{servers} {prefix}".encode()).hexdigest()
    name = re.sub(r"[^\w.-]+", "_", servers, flags=re.ASCII)[:_NAME_CHARS]
    return spool_folder(settings) / f"{name}-{digest[:12]}"
