"""What the demonstration prints, whatever the events hold."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from fleetwake.consumers.demo.report import Report, command, plain
from fleetwake.producer.settings import KafkaSettings
from fleetwake.schemas.records import LoopAlert

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "\x1b[31m[red]tool[/red]\x07\u202e\n\x9b0m"
EXPOSED = """\
# TYPE fleetwake_calls_total counter
fleetwake_calls_total{agent="planner",tool="search"} 2.0
fleetwake_calls_total{agent="planner",tool="read"} 1.0
fleetwake_calls_total{agent="\x1b[31mworm",tool="read"} 1.0
fleetwake_failures_total{agent="planner",tool="read"} 1.0
"""


def printed(width: int = 80) -> tuple[Report, io.StringIO]:
    """A report on a terminal with colours, and what it shows."""
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=True, highlight=False, markup=False
    )
    return Report(console), out


def text_of(out: io.StringIO) -> str:
    """What stands there, without the styles that rich adds."""
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())


def alert(nth: int, **fields: Any) -> LoopAlert:
    """An alert."""
    plain_alert = LoopAlert(
        alert_id=f"a{nth}",
        level="critical",
        rule="identical_call",
        session_id=f"session-{nth}",
        agent_id="planner",
        reason="`search` was called again",
        count=5,
        first_event_id="e",
        last_event_id="e",
        first_occurred_at=1,
        last_occurred_at=1,
        source_partition=0,
        source_offset=0,
    )
    return replace(plain_alert, **fields)


def test_plain_text_stays_as_it_is() -> None:
    """Letters of any language are no threat."""
    assert plain("grüße, 日本 [red] \\n") == "grüße, 日本 [red] \\n"


def test_hostile_text_cannot_steer_a_terminal() -> None:
    """Control characters and changes of direction become visible escapes."""
    shown = plain(HOSTILE)

    assert shown.isprintable()
    assert shown == "\\x1b[31m[red]tool[/red]\\x07\\u202e\\n\\x9b0m"


def test_alerts_of_hostile_sessions_are_printed_as_text() -> None:
    """No markup is taken from them, no control character reaches the terminal."""
    report, out = printed()
    report.alerts([alert(1, session_id=HOSTILE, reason=HOSTILE, agent_id=HOSTILE)])

    assert "\x1b[31m[red]" not in out.getvalue()
    assert "[red]" in text_of(out)
    assert {"\x07", "\u202e", "\x9b"}.isdisjoint(out.getvalue())


def test_many_alerts_are_cut_and_counted() -> None:
    """Twelve are shown; the others are said to be there."""
    report, out = printed()
    report.alerts([alert(nth) for nth in range(30)])

    assert text_of(out).count("was called again") == 12
    assert "Loops found: 30" in text_of(out)
    assert "and 18 more" in text_of(out)


def test_worst_alerts_come_first_and_kinds_take_turns() -> None:
    """So that one noisy agent does not hide the others."""
    report, out = printed()
    noisy = [alert(nth, count=50) for nth in range(20)]
    rare = alert(98, agent_id="other", session_id="rare")
    mild = alert(99, level="warning", session_id="mild")
    report.alerts([mild, *noisy, rare])
    places = [text_of(out).index(one) for one in ("session-0", "rare", "mild")]

    assert sorted(places) == places
    assert text_of(out).count("session-") == 10


def test_long_session_ids_keep_their_ends() -> None:
    """They begin alike."""
    report, out = printed()
    report.alerts([alert(1, session_id=f"{'x' * 100}/the-end")])

    assert "x/the-end" in text_of(out)
    assert "x" * 30 not in text_of(out)


def test_metrics_are_summed_by_agent() -> None:
    """Over tools; a column that nobody fills is left out."""
    report, out = printed()
    report.metrics(EXPOSED, "http://127.0.0.1:1/metrics")
    lines = [line.split() for line in text_of(out).splitlines()]

    assert ["agent", "calls", "failures"] in lines
    assert ["planner", "3", "1"] in lines
    assert ["\\x1b[31mworm", "1", "0"] in lines
    assert ["all", "2", "agents", "4", "1"] in lines


@pytest.mark.parametrize("width", [40, 80, 200])
def test_commands_are_never_broken_into_lines(width: int, tmp_path: Path) -> None:
    """They are there to be copied."""
    report, out = printed(width)
    home = tmp_path / "with space"
    line = command(home, KafkaSettings(bootstrap_servers="127.0.0.1:29092"))
    report.meanwhile(line)

    assert f"{line} alerts" in text_of(out)
    assert line.startswith("FLEETWAKE_BROKER_PORT=29092 ")
    assert f"--home '{home}'" in line


def test_default_broker_needs_no_option(tmp_path: Path) -> None:
    """The commands stay short."""
    kafka = KafkaSettings(bootstrap_servers="127.0.0.1:19092")

    assert "FLEETWAKE_BROKER_PORT" not in command(tmp_path, kafka)
