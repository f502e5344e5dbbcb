"""
Slack's incoming webhooks.

What comes from an event stands in `plain_text` objects, which Slack does not format; in
`text`, the fallback, `&`, `<` and `>` are escaped as Slack demands, so that no name can
call a channel or hide a link.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from fleetwake.consumers.notify.http import Post
from fleetwake.consumers.notify.sinks.digest import digest_lines, digest_title
from fleetwake.consumers.notify.template import cut, link_to, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.consumers.notify.notice import Answer, Notice
    from fleetwake.consumers.notify.settings import SlackSettings
    from fleetwake.consumers.notify.sinks.sink import Gathers

__all__ = ["Slack"]

_MAX_TEXT: Final = 3_000
"""Of a section; `text` may have 40,000."""
_MAX_FIELD: Final = 2_000
_HEADERS: Final = {"content-type": "application/json; charset=utf-8"}


class Slack:
    """One channel's webhook. Late notices become one message."""

    gathers: Gathers = "late"
    most = 10_000

    def __init__(self, settings: SlackSettings, link: str | None) -> None:
        self._template = settings.template
        self._link = link
        self._post = Post(
            settings.url, timeout_s=settings.timeout_s, cafile=settings.cafile
        )

    async def send(self, notices: Sequence[Notice], /) -> Answer:
        """Tell of them."""
        message = self._one(notices[0]) if len(notices) == 1 else self._digest(notices)
        return await self._post(json.dumps(message).encode(), _HEADERS)

    async def close(self) -> None:
        """Close the connection."""
        await self._post.close()

    def _one(self, notice: Notice) -> dict[str, object]:
        alert = notice.alert
        text = text_of(self._template, alert)
        fields = {
            "session": "$session",
            "agent": "$agent",
            "tool": "$tool",
            "count": "$count",
        }
        told = [(name, text_of(value, alert)) for name, value in fields.items()]
        blocks: list[dict[str, object]] = [
            {"type": "section", "text": _plain(text, _MAX_TEXT)},
            {
                "type": "section",
                "fields": [
                    _plain(f"{name}: {value}", _MAX_FIELD)
                    for name, value in told
                    if value
                ],
            },
        ]
        if (link := link_to(self._link, alert)) is not None:
            # Every value in it is percent-encoded; the rest is the operator's.
            target = f"<{_escaped(link)}|open in fleetwake>"
            blocks.append(
                {"type": "section", "text": {"type": "mrkdwn", "text": target}}
            )
        return {"text": _escaped(cut(text, _MAX_TEXT)), "blocks": blocks}

    def _digest(self, notices: Sequence[Notice]) -> dict[str, object]:
        title = digest_title(notices)
        listed = "\n".join(digest_lines(notices, self._template))
        return {
            "text": _escaped(title),
            "blocks": [
                {"type": "section", "text": _plain(title, _MAX_TEXT)},
                {"type": "section", "text": _plain(listed, _MAX_TEXT)},
            ],
        }


def _plain(text: str, limit: int) -> dict[str, object]:
    # Slack refuses an empty text.
    return {"type": "plain_text", "text": cut(text, limit) or "-", "emoji": False}


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
