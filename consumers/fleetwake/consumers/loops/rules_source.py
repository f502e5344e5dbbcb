"""The rules in force: a preset, or a file that may change while the service runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from fleetwake.consumers.loops import metrics
from fleetwake.consumers.loops.presets import PRESETS
from fleetwake.consumers.loops.ruleset import RuleSet, read_rules
from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["RulesSource"]

_log: Final = structlog.get_logger("fleetwake.loops")


class RulesSource:
    """
    Where the rules come from; one for all partitions of a service.

    Raises:
        ConfigurationError: when made, that the file cannot be used.
    """

    def __init__(self, name: str) -> None:
        self._file = None if name in PRESETS else Path(name)
        self._stamp = _stamp(self._file)
        self.rules = read_rules(self._file) if self._file else RuleSet(name)

    def poll(self) -> RuleSet:
        """
        Return the rules, read again if the file has changed.

        A file that cannot be used is told once and counted, and the rules stay.
        """
        stamp = _stamp(self._file)
        if self._file is None or stamp == self._stamp:
            return self.rules
        self._stamp = stamp
        try:
            self.rules = read_rules(self._file)
        except ConfigurationError as error:
            metrics.RULES_READ.labels("refused").inc()
            _log.error("rules are not changed", error=str(error))
        else:
            metrics.RULES_READ.labels("taken").inc()
            _log.info("rules are changed", file=str(self._file))
        return self.rules


def _stamp(file: Path | None) -> Hashable:
    if file is None:
        return None
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
