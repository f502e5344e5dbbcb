"""What run ids say: `<session>.p<N>.<agent>`, and a callee's name for each child."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["parent_of", "session_of"]

# Agents' names may have dots as well, and even look like `p2`: the first one counts.
_ROOT: Final = re.compile(r"(.+?)[.]p[0-9]+[.]", re.DOTALL)
# A session's id is the beginning of a UUID.
_ORPHAN: Final = re.compile(r"[.]([0-9a-f]{8}-[0-9a-f]{3})(?:[.]|$)")


def session_of(run_id: str | None) -> str | None:
    """Return the session of a run, also of one without its parents; None: unknown."""
    if not run_id:
        return None
    found = _ROOT.match(run_id) or _ORPHAN.search(run_id)
    return found[1] if found else None


def parent_of(run_id: str | None, agent: str | None) -> str | None:
    """Return the run that called `agent`, None for a prompt's first run."""
    if not run_id or not agent or not run_id.endswith(f".{agent}"):
        return None
    parent = run_id[: -len(agent) - 1]
    return parent if _ROOT.match(parent) or _ORPHAN.search(parent) else None
