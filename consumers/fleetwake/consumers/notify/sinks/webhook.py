"""
A webhook of anybody's: CloudEvents 1.0 (structured JSON), signed.

The signature is that of Standard Webhooks: headers `webhook-id`, `webhook-timestamp`
and `webhook-signature`, over id, timestamp and body, HMAC-SHA256. There are libraries
to check it with in every language. The id is the same in every attempt.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from fleetwake.consumers.notify.http import Post
from fleetwake.consumers.notify.template import clean, link_to, rfc3339, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import SecretStr

    from fleetwake.consumers.notify.notice import Answer, Notice
    from fleetwake.consumers.notify.settings import WebhookSettings
    from fleetwake.consumers.notify.sinks.sink import Gathers

__all__ = ["Webhook", "signature"]

_TIMES: Final = ("first_occurred_at", "last_occurred_at")


class Webhook:
    """One receiver: an event for each change of an alert."""

    gathers: Gathers = "never"
    most = 1

    def __init__(self, settings: WebhookSettings, link: str | None) -> None:
        self._secret = settings.secret
        self._headers = {
            name: value.get_secret_value() for name, value in settings.headers.items()
        }
        self._template = settings.template
        self._link = link
        self._post = Post(
            settings.url, timeout_s=settings.timeout_s, cafile=settings.cafile
        )

    async def send(self, notices: Sequence[Notice], /) -> Answer:
        """Post it."""
        [notice] = notices
        body = json.dumps(self._event(notice)).encode()
        return await self._post(body, self._headers | self._signed(notice, body))

    async def close(self) -> None:
        """Close the connection."""
        await self._post.close()

    def _event(self, notice: Notice) -> dict[str, object]:
        alert = notice.alert
        data: dict[str, object] = asdict(alert)
        data |= {name: rfc3339(getattr(alert, name)) for name in _TIMES}
        data["summary"] = text_of(self._template, alert)
        if (link := link_to(self._link, alert)) is not None:
            data["link"] = link
        event: dict[str, object] = {
            "specversion": "1.0",
            "id": notice.notice_id,
            "source": "/fleetwake/alerts",
            "type": f"fleetwake.alert.{clean(alert.state)}",
            "time": rfc3339(notice.appended_ms * 1000),
            "datacontenttype": "application/json",
            "data": data,
        }
        # An attribute must not be empty.
        return event | (
            {"subject": clean(alert.session_id)} if alert.session_id else {}
        )

    def _signed(self, notice: Notice, body: bytes) -> dict[str, str]:
        timestamp = str(int(time.time()))
        headers = {
            "content-type": "application/cloudevents+json; charset=utf-8",
            "webhook-id": notice.notice_id,
            "webhook-timestamp": timestamp,
        }
        if self._secret is not None:
            signed = signature(self._secret, notice.notice_id, timestamp, body)
            headers["webhook-signature"] = signed
        return headers


def signature(secret: SecretStr, message_id: str, timestamp: str, body: bytes) -> str:
    """Sign as Standard Webhooks does, version 1."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(_key(secret.get_secret_value()), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def _key(secret: str) -> bytes:
    """`whsec_` is followed by base64; any other secret is taken as it is."""
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            pass
    return secret.encode()
