"""The figures of a back-test, as tables or as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table
from rich.text import Text

from fleetwake.consumers.cli.terminal import clean, out

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fleetwake.consumers.loops.backtest.report import (
        Delay,
        Load,
        Report,
        RuleFigures,
        Scores,
        Stops,
    )
    from fleetwake.consumers.loops.backtest.score import Score

__all__ = ["as_json", "show"]


class _Shown(NamedTuple):
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def as_json(report: Report) -> dict[str, Any]:
    """Return one object; what is counted of labels stands at its top."""
    found = asdict(report)
    wrong = [
        one._asdict() | {"expected": one.expected._asdict()} for one in report.wrong
    ]
    return {**found.pop("scores"), **found, "wrong": wrong}


def show(report: Report) -> None:
    """Print tables on stdout: as Markdown, but on a terminal."""
    console = out()
    for number, shown in enumerate(_tables(report)):
        if number:
            console.print()
        console.print(f"{shown.title}\n")
        if console.is_terminal:
            console.print(_table(shown))
        else:
            for line in _markdown(shown):
                console.print(line, soft_wrap=True)


def _table(shown: _Shown) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in shown.columns:
        table.add_column(name, overflow="fold")
    for row in shown.rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    return table


def _markdown(shown: _Shown) -> Iterator[str]:
    for row in (shown.columns, ["---"] * len(shown.columns), *shown.rows):
        cells = (clean(cell).replace("|", "\\|") for cell in row)
        yield f"| {' | '.join(cells)} |"


def _tables(report: Report) -> Iterator[_Shown]:
    yield _Shown(
        f"{report.sessions:,} sessions, {report.calls:,} calls, "
        f"{report.events:,} events",
        ("sessions", "number", "alerts", "per 1,000", "critical", "per 1,000"),
        [
            ("all", *_load(report.load)),
            *([("healthy", *_load(report.healthy))] if report.healthy else ()),
        ],
    )
    if report.rules:
        yield _Shown(
            "Alerts by rule; the delay is in calls from an episode's first, both "
            "counted",
            (
                *("rule", "alerts", "critical", "block", "sessions"),
                *("right", "wrong", "to warning", "p95", "to critical", "p95"),
            ),
            [(name, *_rule(one)) for name, one in report.rules.items()],
        )
    yield _Shown(
        "What a stop would have saved",
        ("stopped at", "sessions", "calls", "tokens"),
        [(level, *_stops(one)) for level, one in report.stopped.items()],
    )
    if report.scores.cases:
        yield from _score_tables(report)


def _score_tables(report: Report) -> Iterator[_Shown]:
    yield _Shown(
        "What is labelled, by pattern",
        (
            *("pattern", "labelled", "found", "missed", "too late", "too early"),
            *("false alarms", "critical", "precision", "recall", "delay", "p95"),
        ),
        [
            *((name, *_scores(one)) for name, one in report.patterns.items()),
            ("all", *_scores(report.scores)),
        ],
    )
    if report.wrong:
        yield _Shown(
            "What is not right",
            ("labelled", "pattern", "verdict", "rule", "at", "expected"),
            [_wrong(one) for one in report.wrong],
        )


def _load(load: Load) -> tuple[str, ...]:
    return (
        f"{load.sessions:,}",
        f"{load.alerts:,}",
        f"{load.alerts_per_1000:.2f}",
        f"{load.critical:,}",
        f"{load.critical_per_1000:.2f}",
    )


def _rule(figures: RuleFigures) -> tuple[str, ...]:
    counts = (
        *(figures.alerts, figures.critical, figures.block, figures.sessions),
        *(figures.true_positive, figures.false_positive),
    )
    return (
        *(f"{count:,}" for count in counts),
        *_delay(figures.delay_to_warning),
        *_delay(figures.delay_to_critical),
    )


def _stops(stops: Stops) -> tuple[str, ...]:
    counts = (stops.sessions, stops.calls_saved, stops.tokens_saved)
    return tuple(f"{count:,}" for count in counts)


def _scores(scores: Scores) -> tuple[str, ...]:
    late_or_early = scores.too_late + scores.too_early
    counts = (
        *(scores.cases, scores.true_positive, scores.false_negative - late_or_early),
        *(scores.too_late, scores.too_early),
        *(scores.false_positive, scores.critical_on_negative),
    )
    shares = (scores.precision, scores.recall)
    return (
        *(f"{count:,}" for count in counts),
        *("" if share is None else f"{share:.1%}" for share in shares),
        *_delay(scores.delay),
    )


def _delay(delay: Delay | None) -> tuple[str, str]:
    return ("", "") if delay is None else (f"{delay.median:g}", str(delay.p95))


def _wrong(score: Score) -> tuple[str, ...]:
    expected = score.expected
    if expected.is_loop:
        latest = "" if expected.latest is None else expected.latest
        right = f"first alert at {expected.earliest} to {latest}"
    elif expected.max_level == "none":
        right = "no alert"
    else:
        right = f"at most {expected.max_level}"
    place = "" if score.place is None else str(score.place)
    verdict = score.verdict.replace("_", " ")
    return score.subject, expected.pattern, verdict, score.rule or "", place, right
