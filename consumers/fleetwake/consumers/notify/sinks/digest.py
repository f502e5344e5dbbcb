"""Many alerts in one message."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from fleetwake.consumers.notify.template import clean, cut, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.consumers.notify.notice import Notice

__all__ = ["digest_lines", "digest_title"]

_RULES: Final = 3
_LINES: Final = 10
_MAX_LINE: Final = 270
"""Ten of them fit into a section of Slack's."""


def digest_title(notices: Sequence[Notice]) -> str:
    """Say how many, and of which rules."""
    rules = Counter(one.alert.rule for one in notices).most_common()
    told = ", ".join(
        f"{count:,} {cut(clean(rule), 60)}" for rule, count in rules[:_RULES]
    )
    rest = ", ..." if len(rules) > _RULES else ""
    return f"{len(notices):,} further alerts: {told}{rest}"


def digest_lines(notices: Sequence[Notice], template: str) -> list[str]:
    """Tell of the first ones, a line each."""
    lines = [cut(text_of(template, one.alert), _MAX_LINE) for one in notices[:_LINES]]
    more = len(notices) - len(lines)
    return [*lines, f"and {more:,} more"] if more else lines
