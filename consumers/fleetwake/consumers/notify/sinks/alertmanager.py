"""
Alertmanager's API, version 2.

An Alertmanager forgets what is not told again, so open alerts are re-sent, each with an
end four rounds ahead: if notify is gone, they end by themselves. An alert is identified
by its labels; as `severity` and `level` are labels, which routes and inhibitions ask
for, an escalation ends the alert of the old level in the same request.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from fleetwake.consumers.notify.http import Post
from fleetwake.consumers.notify.notice import dedup_key
from fleetwake.consumers.notify.template import clean, cut, link_to, rfc3339, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from weakref import ref

    from fleetwake.consumers.notify.notice import Answer, Notice, Owner
    from fleetwake.consumers.notify.settings import AlertmanagerSettings
    from fleetwake.consumers.notify.sinks.sink import Gathers
    from fleetwake.schemas.records import LoopAlert

__all__ = ["Alertmanager", "Opened"]

_ROUNDS: Final = 4
_MOST: Final = 100
_MAX_OPEN: Final = 20_000
_MAX_LABEL: Final = 256
_MAX_TEXT: Final = 2_000
_SEVERITIES: Final = {"warning": "warning", "critical": "critical", "block": "critical"}
_DAY_MS: Final = 86_400_000


class Opened(NamedTuple):
    """An open alert, as it was last told, and whose it is."""

    alert: LoopAlert
    appended_ms: int
    owner: ref[Owner]


class Alertmanager:
    """One Alertmanager; of a cluster, each is a sink of its own."""

    gathers: Gathers = "always"
    most = _MOST

    def __init__(
        self, name: str, settings: AlertmanagerSettings, link: str | None
    ) -> None:
        self.name = name
        self.resend_every_s = settings.resend_every_s
        self._template = settings.template
        self._link = link
        self._labels = settings.labels
        self._headers = {"content-type": "application/json"}
        if settings.bearer_token is not None:
            token = settings.bearer_token.get_secret_value()
            self._headers["authorization"] = f"Bearer {token}"
        self._open: dict[str, Opened] = {}
        self._post = Post(
            settings.alerts_url, timeout_s=settings.timeout_s, cafile=settings.cafile
        )

    async def send(self, notices: Sequence[Notice], /) -> Answer:
        """Open, escalate and resolve."""
        alerts = [one for notice in notices for one in self._changed(notice)]
        answer = await self._push(alerts)
        if answer.outcome == "delivered":
            for notice in notices:
                self._told(notice)
        return answer

    async def close(self) -> None:
        """Close the connection."""
        await self._post.close()

    def restore(self, opened: Opened) -> None:
        """Hold open what another process, or this one in another life, has opened."""
        if len(self._open) < _MAX_OPEN:
            self._open[opened.alert.alert_id] = opened

    async def resend(self) -> list[Answer]:
        """Tell of all that is open again, but not for longer than a day."""
        oldest_ms = time.time() * 1000 - _DAY_MS
        for alert_id, one in list(self._open.items()):
            if one.owner() is None or one.appended_ms < oldest_ms:
                del self._open[alert_id]
        opened = list(self._open.values())
        return [
            await self._push(
                self._as_open(one) for one in opened[first : first + _MOST]
            )
            for first in range(0, len(opened), _MOST)
        ]

    def _told(self, notice: Notice) -> None:
        alert = notice.alert
        self._open.pop(alert.alert_id, None)
        if alert.state != "resolved":
            self.restore(Opened(alert, notice.appended_ms, notice.owner))

    async def _push(self, alerts: Iterable[dict[str, object]]) -> Answer:
        return await self._post(json.dumps(list(alerts)).encode(), self._headers)

    def _changed(self, notice: Notice) -> list[dict[str, object]]:
        """The alert, and the end of what it was told as before."""
        alert = notice.alert
        now = Opened(alert, notice.appended_ms, notice.owner)
        before = self._open.get(alert.alert_id)
        told = [
            self._as_ended(now) if alert.state == "resolved" else self._as_open(now)
        ]
        if before is not None and before.alert.level != alert.level:
            told.append(self._as_ended(before._replace(appended_ms=now.appended_ms)))
        return told

    def _as_open(self, one: Opened) -> dict[str, object]:
        ends_at = time.time() + _ROUNDS * self.resend_every_s
        return self._postable(one, int(ends_at * 1e6))

    def _as_ended(self, one: Opened) -> dict[str, object]:
        # By the broker's clock, like the start: an end before it is refused.
        return self._postable(one, one.appended_ms * 1000)

    def _postable(self, one: Opened, ends_at: int) -> dict[str, object]:
        alert = one.alert
        labels = {
            "alertname": alert.rule or "unnamed",
            "severity": _SEVERITIES.get(alert.level, "critical"),
            "level": alert.level,
            "kind": alert.kind,
            "agent": alert.agent_id or "",
            "tool": alert.tool_name or "",
            "session": alert.session_id,
            "alert_id": dedup_key(alert.alert_id),
        } | self._labels
        annotations = {
            "summary": cut(text_of(self._template, alert), _MAX_TEXT),
            "description": text_of("$reason", alert),
            "count": str(alert.count),
        }
        told: dict[str, object] = {
            "labels": {k: cut(clean(v), _MAX_LABEL) for k, v in labels.items() if v},
            "annotations": annotations,
            "startsAt": rfc3339(min(alert.first_occurred_at, ends_at)),
            "endsAt": rfc3339(ends_at),
        }
        if (link := link_to(self._link, alert)) is not None:
            told["generatorURL"] = link
        return told
