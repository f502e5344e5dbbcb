"""What each kind of sink sends, checked against what its receiver publishes."""

from __future__ import annotations

import asyncio
import base64
import time
import weakref
from typing import Any

import pytest

pytest.importorskip("httpx", reason="the extra `notify` is not installed")

from tests.payloads import (
    HOSTILE,
    NOON_US,
    alert,
    alertmanager,
    cloudevent,
    pagerduty,
    slack,
)
from tests.receiving import Receiver, status

from fleetwake.consumers.notify.notice import Notice, notice_id
from fleetwake.consumers.notify.settings import NotifySettings
from fleetwake.consumers.notify.sinks import Sink, make_sink
from fleetwake.schemas.errors import ConfigurationError

KEY = "0123456789abcdef0123456789abcdef"
SECRET = base64.b64encode(b"a secret of many bytes").decode()


# apprise imports what Python 3.11 and 3.12 deprecate.
ignoring_its_warnings = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Nobody:
    def settled(self, notice: Notice) -> None:
        pass


OWNER = Nobody()


def notice(**fields: Any) -> Notice:
    one = alert(**fields)
    return Notice(
        notice_id=notice_id(one, "s"),
        alert=one,
        partition=0,
        offset=0,
        appended_ms=int(time.time() * 1000),
        owner=weakref.ref(OWNER),
    )


def sink(kind: str, url: str, link: str | None = None, **fields: Any) -> Sink:
    given = {"kind": kind, "url": url} | fields
    if kind == "pagerduty":
        given["routing_key"] = KEY
    settings = NotifySettings.model_validate({"sinks": {"s": given}, "link": link})
    return make_sink("s", settings)


async def sent(check: Any, kind: str, notices: list[Notice], **fields: Any) -> Any:
    """The body of the one request that tells of `notices`."""
    async with Receiver(check=check) as receiver:
        one = sink(kind, receiver.url, **fields)
        answer = await one.send(notices)
        await one.close()
    [request] = receiver.requests

    assert answer.outcome == "delivered"
    return request.json()


CHECKS = {
    "alertmanager": alertmanager,
    "slack": slack,
    "pagerduty": pagerduty,
    "webhook": cloudevent(None),
}


@pytest.mark.parametrize("kind", CHECKS)
@pytest.mark.parametrize("state", ["open", "escalated", "resolved"])
async def test_every_payload_is_as_published(kind: str, state: str) -> None:
    """Of every state, with and without what may be missing, with a link."""
    full = notice(state=state, level="block")
    bare = notice(
        state=state, session_id="", agent_id=None, tool_name=None, reason="", rule=""
    )
    for one in (full, bare):
        await sent(
            CHECKS[kind], kind, [one], link="https://fleet.example/s/$session?t=$tool"
        )


@pytest.mark.parametrize("kind", CHECKS)
async def test_hostile_names_stay_text(kind: str) -> None:
    """No mention, no formatting, no template, no control character, no huge text."""
    one = notice(
        alert_id="a" * 5_000,
        rule=HOSTILE,
        session_id=HOSTILE * 500,
        agent_id=HOSTILE,
        tool_name=HOSTILE,
        reason=HOSTILE * 100_000,
        level=HOSTILE,
    )
    body = await sent(
        CHECKS[kind],
        kind,
        [one],
        link="https://fleet.example/$session",
        template="$reason",
    )
    told = str({**body, "data": None}) if kind == "webhook" else str(body)

    assert "\\x1b" not in told
    assert "\\u202e" not in told
    if kind != "webhook":
        assert len(told) < 60_000


async def test_alertmanager_keeps_its_labels_while_an_alert_is_open() -> None:
    """An identity that moves would fire twice and never end."""
    first = await sent(alertmanager, "alertmanager", [notice(count=3)])
    second = await sent(
        alertmanager, "alertmanager", [notice(count=9, reason="more", state="resolved")]
    )

    assert first[0]["labels"] == second[0]["labels"]
    assert first[0]["endsAt"] > second[0]["endsAt"]


async def test_alertmanager_ends_the_old_level_of_an_escalation() -> None:
    """Its level is a label, so the milder alert is another one."""
    async with Receiver(check=alertmanager) as receiver:
        one = sink("alertmanager", receiver.url + "/")
        await one.send([notice()])
        await one.send([notice(state="escalated", level="critical")])
        await one.close()
    told = [
        (a["labels"]["level"], a["endsAt"] > a["startsAt"])
        for a in receiver.requests[1].json()
    ]
    ends = [a["endsAt"] for a in receiver.requests[1].json()]

    assert [level for level, _ in told] == ["critical", "warning"]
    assert ends[0] > ends[1]


async def test_alertmanager_takes_an_alert_from_a_clock_that_is_ahead() -> None:
    """A start after the end is refused."""
    ahead = NOON_US * 2
    await sent(
        alertmanager,
        "alertmanager",
        [notice(first_occurred_at=ahead, last_occurred_at=ahead, state="resolved")],
    )


async def test_slack_tells_late_alerts_in_one_message() -> None:
    """How many, of which rules, and the first ten."""
    many = [notice(alert_id=str(n), rule=f"r{n % 5}") for n in range(14)]
    body = await sent(slack, "slack", many)

    assert body["text"] == "14 further alerts: 3 r0, 3 r1, 3 r2, ..."
    assert body["blocks"][1]["text"]["text"].count("\n") == 10
    assert body["blocks"][1]["text"]["text"].endswith("and 4 more")


async def test_pagerduty_resolves_the_incident_that_it_triggered() -> None:
    """By the id of the alert."""
    trigger = await sent(pagerduty, "pagerduty", [notice()])
    resolve = await sent(pagerduty, "pagerduty", [notice(state="resolved")])

    assert trigger["dedup_key"] == resolve["dedup_key"] == alert().alert_id
    assert (trigger["event_action"], resolve["event_action"]) == ("trigger", "resolve")
    assert trigger["payload"]["severity"] == "warning"


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("whsec_" + SECRET, b"a secret of many bytes"),
        ("whsec_$no-base64", b"whsec_$no-base64"),
        ("plain", b"plain"),
    ],
)
async def test_webhooks_are_signed(given: str, key: bytes) -> None:
    """As Standard Webhooks says, so that its libraries can check."""
    await sent(
        cloudevent(key), "webhook", [notice()], secret=given, headers={"X-Team": "a"}
    )


async def test_a_webhooks_event_is_the_same_in_every_attempt() -> None:
    """Its id is what a receiver deduplicates by."""
    first = await sent(cloudevent(None), "webhook", [notice()])
    second = await sent(cloudevent(None), "webhook", [notice()])

    assert first["id"] == second["id"] == notice_id(alert(), "s")
    assert first["type"] == "fleetwake.alert.open"
    assert first["data"]["summary"] == (
        "warning open: identical_call: grep with the same arguments, 5 times"
    )


@ignoring_its_warnings
async def test_apprise_tells_by_any_of_its_addresses() -> None:
    """Against its own JSON plugin."""
    pytest.importorskip("apprise", reason="the extra `apprise` is not installed")
    async with Receiver() as receiver:
        one = sink("apprise", receiver.url.replace("http", "json"))
        single = await one.send([notice()])
        digest = await one.send([notice(alert_id="1"), notice(alert_id="2")])
    told = [request.json() for request in receiver.requests]

    assert (single.outcome, digest.outcome) == ("delivered", "delivered")
    assert told[0]["title"].startswith("warning open: identical_call")
    assert told[0]["type"] == "warning"
    assert told[1]["title"] == "2 further alerts: 2 identical_call"


@ignoring_its_warnings
async def test_apprise_does_not_pile_up_calls_that_hang() -> None:
    """They cannot be given up, so there is one at a time."""
    pytest.importorskip("apprise", reason="the extra `apprise` is not installed")
    async with Receiver(answer=lambda _: None) as receiver:
        one = sink("apprise", receiver.url.replace("http", "json"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await one.send([notice()])
        again = await one.send([notice()])
        await receiver.until(1)

    assert again.error == "the last message is still under way"


@ignoring_its_warnings
async def test_an_address_that_apprise_does_not_know_is_an_error_at_start() -> None:
    """Not at the first alert."""
    pytest.importorskip("apprise", reason="the extra `apprise` is not installed")
    with pytest.raises(ConfigurationError, match=r"notify\.sinks\.s\.url"):
        sink("apprise", "nonsense")


async def test_a_refusal_is_no_delivery() -> None:
    """The open alerts of an Alertmanager are those that it has taken."""
    async with Receiver(answer=lambda _: status(400)) as receiver:
        one: Any = sink("alertmanager", receiver.url)
        answer = await one.send([notice()])
        resent = await one.resend()
        await one.close()

    assert (answer.outcome, answer.error) == ("refused", "HTTP 400")
    assert resent == []
