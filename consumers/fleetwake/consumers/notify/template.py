"""
The words of a message: `$name` is replaced by a field of the alert, and no more.

A value is never looked at again, so that no event can bring code, a field that was not
asked for, or a second round of replacement into a message.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from string import Template
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from fleetwake.schemas.records import LoopAlert

__all__ = [
    "DEFAULT",
    "NAMES",
    "checked",
    "clean",
    "cut",
    "link_to",
    "rfc3339",
    "text_of",
]

NAMES: Final = (
    "alert_id",
    "kind",
    "state",
    "level",
    "rule",
    "session",
    "agent",
    "tool",
    "reason",
    "count",
    "first_at",
    "last_at",
)
DEFAULT: Final = "$level $state: $rule: $reason"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_VALUE_CHARS: Final = 2_000
_MAX_LINK_CHARS: Final = 2_000


def checked(template: str) -> str:
    """
    Return the template as it is.

    Raises:
        ValueError: it names what no alert has, or is not written as one.
    """
    parsed = Template(template)
    if not parsed.is_valid():
        raise ValueError("a $ must begin a name; $$ is a dollar sign")
    if unknown := set(parsed.get_identifiers()) - {*NAMES}:
        raise ValueError(f"there is no ${min(unknown)}; there are: {', '.join(NAMES)}")
    return template


def text_of(template: str, alert: LoopAlert) -> str:
    """Fill in a checked template. Without the control characters that it may hold."""
    values = {name: clean(value) for name, value in _values(alert).items()}
    return Template(template).substitute(values)


def link_to(template: str | None, alert: LoopAlert) -> str | None:
    """
    Fill in a checked template that is a URL: every value is quoted.

    None where it would be longer than sinks take.
    """
    values = {
        name: quote(cut(value, _MAX_VALUE_CHARS), safe="")
        for name, value in _values(alert).items()
    }
    link = Template(template or "").substitute(values)
    return link if 0 < len(link) <= _MAX_LINK_CHARS else None


def clean(value: str) -> str:
    """Without control characters, and not longer than anybody reads."""
    short = cut(value, _MAX_VALUE_CHARS)
    if short.isprintable():
        return short
    return "".join(one if one.isprintable() else "\ufffd" for one in short)


def cut(text: str, limit: int) -> str:
    """At most `limit` characters; what was cut ends with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def rfc3339(time_us: int) -> str:
    """UTC with milliseconds, of microseconds since 1970 (to the year 9999)."""
    at = _EPOCH + timedelta(microseconds=time_us)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _values(alert: LoopAlert) -> dict[str, str]:
    return {
        "alert_id": alert.alert_id,
        "kind": alert.kind,
        "state": alert.state,
        "level": alert.level,
        "rule": alert.rule,
        "session": alert.session_id,
        "agent": alert.agent_id or "",
        "tool": alert.tool_name or "",
        "reason": alert.reason,
        "count": str(alert.count),
        "first_at": rfc3339(alert.first_occurred_at),
        "last_at": rfc3339(alert.last_occurred_at),
    }
