"""What the receivers of alerts demand of a request, by what they publish."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fleetwake.schemas.records import LoopAlert

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.receiving import Request

NOON_US = 1_790_000_000_000_000
HOSTILE = "<!channel> `rm` *b* $reason ${x} &amp; \x1b[31m\u202e\x00|"


def alert(**fields: Any) -> LoopAlert:
    """One of a loop of grep."""
    given: dict[str, Any] = {
        "alert_id": "0b5c5a0e-0000-5000-8000-000000000001",
        "rule": "identical_call",
        "session_id": "s-1",
        "agent_id": "coder",
        "tool_name": "grep",
        "reason": "grep with the same arguments, 5 times",
        "count": 5,
        "first_event_id": "e1",
        "last_event_id": "e5",
        "first_occurred_at": NOON_US,
        "last_occurred_at": NOON_US + 40_000_000,
        "source_partition": 0,
        "source_offset": 7,
    }
    return LoopAlert(**given | fields)


def is_time(text: str) -> bool:
    """RFC 3339 in UTC."""
    return bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", text))


def alertmanager(request: Request) -> None:
    """The `postableAlerts` of its OpenAPI file, and what it validates itself."""
    assert request.path == "/api/v2/alerts"
    assert request.headers["content-type"] == "application/json"
    posted = request.json()
    assert isinstance(posted, list)
    assert posted
    for one in posted:
        assert one.keys() <= {
            "labels",
            "annotations",
            "startsAt",
            "endsAt",
            "generatorURL",
        }
        assert one["labels"]["alertname"]
        for name, value in [*one["labels"].items(), *one["annotations"].items()]:
            assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name)
            assert isinstance(value, str)
        assert all(one["labels"].values())
        assert is_time(one["startsAt"])
        assert is_time(one["endsAt"])
        assert datetime.fromisoformat(one["startsAt"]) <= datetime.fromisoformat(
            one["endsAt"]
        )


def slack(request: Request) -> None:
    """Block Kit: known blocks, their limits; nothing of an event is formatted."""
    message = request.json()
    assert message.keys() == {"text", "blocks"}
    assert 0 < len(message["text"]) <= 40_000
    assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", message["text"])
    assert 0 < len(message["blocks"]) <= 50
    for block in message["blocks"]:
        assert block["type"] == "section"
        assert block.keys() <= {"type", "text", "fields"}
        if "text" in block:
            _text(block["text"], 3_000)
        assert len(block.get("fields", [0])) in range(1, 11)
        for one in block.get("fields", ()):
            _text(one, 2_000)


def _text(one: dict[str, Any], limit: int) -> None:
    assert one["type"] in {"plain_text", "mrkdwn"}
    assert 0 < len(one["text"]) <= limit
    if one["type"] == "mrkdwn":
        assert one.keys() == {"type", "text"}
        assert re.fullmatch(r"<https?://[^\s<>|]+\|[a-z ]+>", one["text"])
    else:
        assert one.keys() <= {"type", "text", "emoji"}


def pagerduty(request: Request) -> None:
    """Events API v2."""
    event = request.json()
    assert re.fullmatch(r"[0-9a-zA-Z]{32}", event["routing_key"])
    assert 0 < len(event["dedup_key"]) <= 255
    if event["event_action"] == "resolve":
        return
    assert event["event_action"] == "trigger"
    assert event.keys() <= {
        "routing_key",
        "event_action",
        "dedup_key",
        "payload",
        "links",
        "client",
        "client_url",
    }
    payload = event["payload"]
    assert payload.keys() <= {
        "summary",
        "source",
        "severity",
        "timestamp",
        "component",
        "group",
        "class",
        "custom_details",
    }
    assert 0 < len(payload["summary"]) <= 1_024
    assert payload["source"]
    assert payload["severity"] in {"critical", "error", "warning", "info"}
    assert is_time(payload["timestamp"])
    assert isinstance(payload["custom_details"], dict)
    for link in event.get("links", ()):
        assert link.keys() == {"href", "text"}


def cloudevent(secret: bytes | None) -> Callable[[Request], None]:
    """CloudEvents 1.0 in structured JSON; the signature of Standard Webhooks."""

    def check(request: Request) -> None:
        assert request.headers["content-type"] == (
            "application/cloudevents+json; charset=utf-8"
        )
        event = request.json()
        assert event["specversion"] == "1.0"
        for name in ("id", "source", "type"):
            assert isinstance(event[name], str)
            assert event[name]
        for name in event:
            assert re.fullmatch(r"[a-z0-9]{1,20}", name)
            assert event[name] != ""
        assert is_time(event["time"])
        assert isinstance(event["data"], dict)
        assert request.headers["webhook-id"] == event["id"]
        at = request.headers["webhook-timestamp"]
        assert abs(time.time() - int(at)) < 60
        if secret is not None:
            signed = f"{event['id']}.{at}.".encode() + request.body
            digest = hmac.new(secret, signed, hashlib.sha256).digest()
            expected = "v1," + base64.b64encode(digest).decode()
            assert request.headers["webhook-signature"] == expected

    return check
