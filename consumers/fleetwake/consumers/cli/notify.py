"""`fleetwake notify test`."""

from __future__ import annotations

import asyncio
import time
import uuid
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer
from rich.table import Table
from rich.text import Text

from fleetwake.consumers.cli.command import command
from fleetwake.consumers.cli.exits import FAILED, OK
from fleetwake.schemas.errors import ConfigurationError
from fleetwake.schemas.records import LoopAlert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwake.consumers.notify.notice import Answer, Notice
    from fleetwake.consumers.notify.settings import NotifySettings

__all__ = ["notify"]

_STYLES: Final = {"delivered": "green", "retried": "yellow", "refused": "red"}
_TOLD: Final = {"retried": "failed"}
"""The service would try again; we do not."""
_SPARE_S: Final = 1.0

notify = typer.Typer(
    help="Try whom alerts are told to.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class _Told(NamedTuple):
    """What became of a test: the columns of the answer."""

    sink: str
    kind: str
    outcome: str
    status_code: int | None
    error: str | None
    duration_ms: float


class _Asker:
    """Whose the test's notices are."""

    def settled(self, notice: Notice, /) -> None:
        """Nothing is held for it."""


@command(
    "fleetwake notify test",
    "fleetwake notify test --sink oncall",
    "fleetwake notify test --json | jq -e 'all(.outcome == \"delivered\")'",
    exits={
        0: "every sink has taken it",
        1: "one has not",
        2: "there is no such sink, or a setting cannot be used",
        130: "stopped by Ctrl-C",
    },
)
async def send_test(
    *,
    sink: Annotated[
        list[str] | None,
        typer.Option("--sink", metavar="NAME", help="Only this one; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> int:
    """
    Send an alert that says that it is a test through the configured sinks.

    Filters and pace are not applied, and nothing is retried or logged. At PagerDuty the
    incident is resolved again at once; at an Alertmanager the alert ends by itself.
    Kafka is not needed.
    """
    from fleetwake.consumers.cli.terminal import out, print_json
    from fleetwake.consumers.notify.settings import load

    settings = load()
    names = _chosen(settings, sink or [])
    told = await asyncio.gather(*(_try(name, settings) for name in names))
    if as_json:
        print_json([one._asdict() for one in told])
    else:
        out().print(_table(told))
    return OK if all(one.outcome == "delivered" for one in told) else FAILED


notify.command("test", help=send_test.help)(send_test.function)


def _chosen(settings: NotifySettings, wanted: Sequence[str]) -> list[str]:
    there = list(settings.sinks)
    if not there:
        raise ConfigurationError(
            "no sink is configured: there is no table [notify.sinks.NAME]"
        )
    for name in wanted:
        if name not in there:
            raise ConfigurationError(f"no sink {name!r}; there are: {', '.join(there)}")
    return [name for name in there if not wanted or name in wanted]


async def _try(name: str, settings: NotifySettings) -> _Told:
    from fleetwake.consumers.notify.sinks import make_sink

    one = settings.sinks[name]
    sink = make_sink(name, settings)
    started, asker = time.monotonic(), _Asker()
    # An incident that nobody resolves would stay.
    states = ["open", "resolved"] if one.kind == "pagerduty" else ["open"]
    alert = _alert()
    answer: Answer | None = None
    try:
        for state in states:
            answer = None
            notice = _notice(replace(alert, state=state), name, asker)
            async with asyncio.timeout(one.timeout_s + _SPARE_S):
                answer = await sink.send([notice])
            if answer.outcome != "delivered":
                break
    except TimeoutError:
        pass
    finally:
        await sink.close()
    return _told(name, one.kind, answer, started)


def _told(name: str, kind: str, answer: Answer | None, started: float) -> _Told:
    duration_ms = round((time.monotonic() - started) * 1000, 1)
    if answer is None:
        return _Told(name, kind, "failed", None, "no answer in time", duration_ms)
    outcome = _TOLD.get(answer.outcome, answer.outcome)
    return _Told(name, kind, outcome, answer.status_code, answer.error, duration_ms)


def _alert() -> LoopAlert:
    now = time.time_ns() // 1000
    identity = str(uuid.uuid4())
    return LoopAlert(
        alert_id=f"test-{identity}",
        kind="test",
        rule="notify_test",
        session_id="fleetwake-notify-test",
        reason="This is a test of fleetwake: nothing is wrong, nobody has to act.",
        count=1,
        first_event_id=identity,
        last_event_id=identity,
        first_occurred_at=now,
        last_occurred_at=now,
        source_partition=0,
        source_offset=0,
    )


def _notice(alert: LoopAlert, sink: str, asker: _Asker) -> Notice:
    from fleetwake.consumers.notify.notice import Notice, notice_id

    return Notice(
        notice_id=notice_id(alert, sink),
        alert=alert,
        partition=0,
        offset=0,
        appended_ms=time.time_ns() // 1_000_000,
        owner=weakref.ref(asker),
    )


def _table(told: Sequence[_Told]) -> Table:
    from fleetwake.consumers.cli.terminal import clean

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("sink", "kind", "outcome", "ms", "why"):
        table.add_column(name, justify="right" if name == "ms" else "left")
    for one in told:
        style = _STYLES.get(one.outcome, "red")
        table.add_row(
            one.sink,
            one.kind,
            Text(one.outcome, style),
            f"{one.duration_ms:,.0f}",
            clean(one.error or ""),
        )
    return table
