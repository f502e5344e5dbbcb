"""`fleetwake notify test`: what it sends, says, and exits with."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("httpx", reason="the extra `notify` is not installed")

from tests.payloads import alertmanager, cloudevent, pagerduty, slack
from tests.receiving import Receiver, status

if TYPE_CHECKING:
    from pathlib import Path


async def run(folder: Path, config: str, *args: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    (folder / "fleetwake.toml").write_text(config)
    env = {k: v for k, v in os.environ.items() if not k.startswith("FLEETWAKE_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fleetwake.consumers.cli", "notify", "test", *args),
        cwd=folder,
        env=env | {"FLEETWAKE_HOME": str(folder / "home"), "NO_COLOR": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


def table(name: str, kind: str, receiver: Receiver, **fields: Any) -> str:
    given = {"kind": kind, "url": receiver.url} | fields
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in given.items())
    return f"[notify.sinks.{name}]\n{lines}\n"


async def test_every_sink_is_sent_a_marked_test(tmp_path: Path) -> None:
    """Whatever its filters say; an incident is resolved again."""
    async with (
        Receiver(check=alertmanager) as am,
        Receiver(check=slack) as team,
        Receiver(check=pagerduty) as oncall,
        Receiver(check=cloudevent(b"x")) as hook,
    ):
        config = (
            table("am", "alertmanager", am)
            + table("team", "slack", team, min_level="block")
            + table("oncall", "pagerduty", oncall, routing_key="0" * 32)
            + table("hook", "webhook", hook, secret="x", rules=["none"])
        )
        code, out, err = await run(tmp_path, config, "--json")
    told = json.loads(out)

    assert (code, err) == (0, "")
    assert [(one["sink"], one["outcome"]) for one in told] == [
        ("am", "delivered"),
        ("team", "delivered"),
        ("oncall", "delivered"),
        ("hook", "delivered"),
    ]
    assert [one.json()["event_action"] for one in oncall.requests] == [
        "trigger",
        "resolve",
    ]
    for one in (am, team, oncall, hook):
        assert b"This is a test of fleetwake" in one.requests[0].body


async def test_a_sink_that_does_not_take_it_fails_the_command(tmp_path: Path) -> None:
    """The others are tried; only the chosen ones are."""
    async with (
        Receiver(answer=lambda _: status(404)) as gone,
        Receiver(answer=lambda _: None) as hangs,
        Receiver() as fine,
    ):
        config = (
            table("gone", "slack", gone)
            + table("hangs", "slack", hangs, timeout_s=0.2)
            + table("fine", "slack", fine)
        )
        all_of_them = await run(tmp_path, config, "--json")
        one = await run(tmp_path, config, "--sink", "fine")
    outcomes = [(x["outcome"], x["error"]) for x in json.loads(all_of_them[1])]

    assert (all_of_them[0], one[0]) == (1, 0)
    assert outcomes == [
        ("refused", "HTTP 404"),
        ("failed", "ReadTimeout"),
        ("delivered", None),
    ]
    assert "fine" in one[1]
    assert "gone" not in one[1]


@pytest.mark.parametrize(
    ("config", "args", "says"),
    [
        ("", (), "no sink is configured"),
        (
            '[notify.sinks.a]\nkind = "slack"\nurl = "http://127.0.0.1:1/very-secret"',
            ("--sink", "b"),
            "no sink 'b'; there are: a",
        ),
        (
            '[notify.sinks.a]\nkind = "slack"\nurl = "very-secret"',
            (),
            "notify.sinks.a.url: expected http://HOST",
        ),
    ],
)
async def test_what_cannot_be_used_is_a_usage_error(
    tmp_path: Path, config: str, args: tuple[str, ...], says: str
) -> None:
    """Exit code 2, and no secret in the words."""
    code, out, err = await run(tmp_path, config, *args)

    assert (code, out) == (2, "")
    assert says in err
    assert "very-secret" not in err
