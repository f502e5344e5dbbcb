"""The kinds of sinks: each makes a request of alerts, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetwake.consumers.notify import settings as kinds
from fleetwake.consumers.notify.sinks.sink import Gathers, Sink

if TYPE_CHECKING:
    from fleetwake.consumers.notify.settings import NotifySettings

__all__ = ["Gathers", "Sink", "make_sink"]


def make_sink(name: str, settings: NotifySettings) -> Sink:
    """
    Make a configured sink; what only its kind needs is imported here.

    Raises:
        ConfigurationError: it cannot be used.
        ModuleNotFoundError: it needs an extra that is not installed.
    """
    one = settings.sinks[name]
    if isinstance(one, kinds.AlertmanagerSettings):
        from fleetwake.consumers.notify.sinks.alertmanager import Alertmanager

        return Alertmanager(name, one, settings.link)
    if isinstance(one, kinds.SlackSettings):
        from fleetwake.consumers.notify.sinks.slack import Slack

        return Slack(one, settings.link)
    if isinstance(one, kinds.PagerDutySettings):
        from fleetwake.consumers.notify.sinks.pagerduty import PagerDuty

        return PagerDuty(one, settings.link)
    if isinstance(one, kinds.WebhookSettings):
        from fleetwake.consumers.notify.sinks.webhook import Webhook

        return Webhook(one, settings.link)
    from fleetwake.consumers.notify.sinks.apprise import Apprise

    return Apprise(name, one, settings.link)
