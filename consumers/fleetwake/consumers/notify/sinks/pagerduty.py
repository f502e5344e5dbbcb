"""PagerDuty's Events API, version 2."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from fleetwake.consumers.notify.http import Post
from fleetwake.consumers.notify.notice import dedup_key
from fleetwake.consumers.notify.template import cut, link_to, rfc3339, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.consumers.notify.notice import Answer, Notice
    from fleetwake.consumers.notify.settings import PagerDutySettings
    from fleetwake.consumers.notify.sinks.sink import Gathers

__all__ = ["PagerDuty"]

_MAX_SUMMARY: Final = 1_024
_MAX_DETAIL: Final = 2_000
_SEVERITIES: Final = {"warning": "warning", "critical": "critical", "block": "critical"}
_HEADERS: Final = {"content-type": "application/json"}


class PagerDuty:
    """One service's integration: an incident for each alert, resolved with it."""

    gathers: Gathers = "never"
    most = 1

    def __init__(self, settings: PagerDutySettings, link: str | None) -> None:
        self._key = settings.routing_key
        self._template = settings.template
        self._link = link
        self._post = Post(
            settings.url, timeout_s=settings.timeout_s, cafile=settings.cafile
        )

    async def send(self, notices: Sequence[Notice], /) -> Answer:
        """Trigger or resolve."""
        [notice] = notices
        return await self._post(json.dumps(self._event(notice)).encode(), _HEADERS)

    async def close(self) -> None:
        """Close the connection."""
        await self._post.close()

    def _event(self, notice: Notice) -> dict[str, object]:
        alert = notice.alert
        event: dict[str, object] = {
            "routing_key": self._key.get_secret_value(),
            "event_action": "resolve" if alert.state == "resolved" else "trigger",
            "dedup_key": dedup_key(alert.alert_id),
        }
        if alert.state == "resolved":
            return event
        details = {
            name: text_of(f"${name}", alert)
            for name in ("level", "state", "rule", "reason", "session", "agent", "tool")
        }
        event["client"] = "fleetwake"
        event["payload"] = {
            "summary": cut(text_of(self._template, alert), _MAX_SUMMARY),
            "source": cut(text_of("$session", alert), _MAX_DETAIL) or "fleet",
            "severity": _SEVERITIES.get(alert.level, "critical"),
            "timestamp": rfc3339(alert.last_occurred_at),
            "component": details["tool"],
            "group": details["agent"],
            "class": details["rule"],
            "custom_details": {**details, "count": alert.count},
        }
        if (href := link_to(self._link, alert)) is not None:
            event |= {
                "client_url": href,
                "links": [{"href": href, "text": "open in fleetwake"}],
            }
        return event
