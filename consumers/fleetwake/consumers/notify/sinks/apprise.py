"""
Whatever apprise can reach: mail, Teams, Discord, Telegram, ntfy and a hundred more.

Its calls block, and cannot be given up: each runs in a thread of its own that does not
hold up the end of the process, and only one at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Final

from fleetwake.consumers.notify.notice import Answer
from fleetwake.consumers.notify.sinks.digest import digest_lines, digest_title
from fleetwake.consumers.notify.template import link_to, text_of
from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.consumers.notify.notice import Notice
    from fleetwake.consumers.notify.settings import AppriseSettings
    from fleetwake.consumers.notify.sinks.sink import Gathers

__all__ = ["Apprise"]

_TYPES: Final = {"warning": "warning", "critical": "failure", "block": "failure"}


class Apprise:
    """One apprise URL. Late notices become one message."""

    gathers: Gathers = "late"
    most = 10_000

    def __init__(self, name: str, settings: AppriseSettings, link: str | None) -> None:
        import apprise

        # It logs addresses.
        logging.getLogger("apprise").setLevel(logging.CRITICAL)
        self._template = settings.template
        self._link = link
        self._apprise = apprise.Apprise()
        self._under_way = threading.Lock()
        if not self._apprise.add(settings.url.get_secret_value()):
            raise ConfigurationError(
                f"notify.sinks.{name}.url: apprise does not know such an address"
            )

    async def send(self, notices: Sequence[Notice], /) -> Answer:
        """Tell of them."""
        title, body, kind = self._message(notices)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[bool] = loop.create_future()

        def notify() -> None:
            with self._under_way:
                told = self._notify(title, body, kind)
            # The loop may be gone, and nobody may wait any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, done, told)

        if self._under_way.locked():
            return Answer("retried", error="the last message is still under way")
        threading.Thread(target=notify, name="apprise", daemon=True).start()
        if await done:
            return Answer("delivered")
        return Answer("retried", error="apprise could not deliver it")

    async def close(self) -> None:
        """Nothing is open."""

    def _notify(self, title: str, body: str, kind: str) -> bool:
        try:
            return bool(
                self._apprise.notify(
                    body=body, title=title, notify_type=kind, body_format="text"
                )
            )
        except Exception:  # noqa: BLE001  # a hundred plugins, each with its own
            return False

    def _message(self, notices: Sequence[Notice]) -> tuple[str, str, str]:
        """Title, body, and the kind of apprise."""
        if len(notices) > 1:
            listed = "\n".join(digest_lines(notices, self._template))
            return digest_title(notices), listed, "warning"
        alert = notices[0].alert
        body = text_of("$reason\nsession $session, agent $agent, tool $tool", alert)
        if (link := link_to(self._link, alert)) is not None:
            body += f"\n{link}"
        resolved = alert.state == "resolved"
        kind = "success" if resolved else _TYPES.get(alert.level, "failure")
        return text_of(self._template, alert), body, kind


def _resolve(done: asyncio.Future[bool], told: bool) -> None:  # noqa: FBT001
    if not done.done():
        done.set_result(told)
