"""What `archive verify` tells people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from fleetwake.consumers.archive.proof.anchor import checkpoint
from fleetwake.consumers.cli.exits import say
from fleetwake.consumers.cli.terminal import clean, out, print_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetwake.consumers.archive.proof.report import (
        Checked,
        CuratedChecked,
        Finding,
        Report,
    )

__all__ = ["show"]

_HEADINGS = ("partition", "files", "rows", "offsets", "lists", "signed to")


def show(report: Report, place: str) -> None:
    """Write findings and what was checked to stdout, the verdict to stderr."""
    console = out()
    for finding in report.findings:
        for line in _lines(finding):
            print_text(console, line)
    if report.more:
        print_text(console, Text(f"and {report.more:,} more findings", "red"))
    console.print(_table(report))
    for told in _curated(report):
        print_text(console, Text(told))
    for note in _notes(report):
        say(f"  {note}")
    say(f"trusted: {_trust(report)}")
    if report.heads:
        say(f"checkpoint: {checkpoint(report.heads)}")
    rows = sum(one.rows for one in report.partitions)
    files = sum(one.files for one in report.partitions)
    if not report.partitions:
        say(f"fleetwake: nothing is archived at {place}")
    elif report.ok:
        say(f"ok: {rows:,} rows in {files:,} files of {place} are as they were written")
        if unsigned := sum(one.files_not_listed for one in report.partitions):
            say(f"but nobody has signed {unsigned:,} of the files yet")
    else:
        count = len(report.findings) + report.more
        say(f"fleetwake: {count:,} findings in {place}: it is not as it was written")


def _curated(report: Report) -> Iterator[str]:
    for one in report.curated:
        yield clean(
            f"{one.topic} curated: {one.rows:,} rows in {one.files:,} files, "
            f"{one.rows_dropped:,} left out as duplicates, {one.manifests:,} manifests"
        )


def _lines(finding: Finding) -> Iterator[Text]:
    at = "" if finding.offset is None else f" offset {finding.offset}"
    place = (
        f" {finding.topic}[{finding.partition}]"
        if finding.partition is not None
        else ""
    )
    text = Text(finding.kind, "bold red")
    yield text.append(clean(f"{place}{at}: {finding.what}"), "default")
    yield Text(f"    {clean(finding.where)}")
    for name in ("expected", "found"):
        if value := getattr(finding, name):
            yield Text(f"    {name + ':':<9} {clean(value)}")


def _table(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in _HEADINGS:
        table.add_column(name, justify="left" if name == "partition" else "right")
    held, empty = _parted(report)
    for one in held:
        table.add_row(
            clean(f"{one.topic}[{one.partition}]"),
            f"{one.files:,}",
            f"{one.rows:,}",
            ""
            if one.next_offset is None
            else f"{one.first_offset}-{one.next_offset - 1}",
            f"{one.lists:,}",
            "nothing" if one.signed_to is None else f"{one.signed_to}",
        )
    if empty:
        lists = sum(one.lists for one in empty)
        table.add_row(f"{len(empty)} empty", "0", "0", "", f"{lists:,}")
    return table


def _parted(report: Report) -> tuple[list[Checked], list[Checked]]:
    """Part those that hold something, or did, from those that never have."""
    held: list[Checked] = []
    empty: list[Checked] = []
    for one in report.partitions:
        is_held = one.files or one.signed_to or one.tombstones or one.notes
        (held if is_held else empty).append(one)
    return held, empty


def _notes(report: Report) -> Iterator[str]:
    held, empty = _parted(report)
    for one in held:
        for note in (*_counts(one), *_sealed(one), *_retired(one), *one.notes):
            yield clean(f"{one.topic}[{one.partition}]: {note}")
    moments = [one.complete_at for one in empty if one.complete_at]
    if moments:
        yield f"{len(moments)} empty: complete as of {min(moments)}"
    for other in report.curated:
        for note in (*_curated_counts(other), *_sealed(other), *other.notes):
            yield clean(f"{other.topic} curated: {note}")


def _sealed(one: Checked | CuratedChecked) -> Iterator[str]:
    if one.rows_erased:
        yield f"the content of {one.rows_erased:,} rows was erased"
    if one.rows_closed:
        yield (
            f"{one.rows_closed:,} rows are sealed, and their keys are not here: their "
            "columns were checked by the file hash alone"
        )


def _counts(one: Checked) -> Iterator[str]:
    if one.rows_without_bytes:
        yield (
            f"of {one.rows_without_bytes:,} rows no bytes were kept: checked by root "
            "and file hash alone"
        )
    if one.rows_not_decoded:
        yield (
            f"the bytes of {one.rows_not_decoded:,} rows have a schema that is not "
            "known here: their columns were checked by the file hash alone"
        )
    if one.files_not_listed:
        yield f"{one.files_not_listed:,} files are not signed: checked by root alone"
    if one.files_found:
        yield (
            f"{one.files_found:,} files were read back from the store to be signed, "
            "after a crash or from another writer"
        )
    if one.offsets_lost_to_retention:
        yield (
            f"{one.offsets_lost_to_retention:,} offsets were lost to the topic's "
            "retention"
        )
    if one.sequences_explained:
        yield f"{one.sequences_explained:,} missing sequences are explained"
    if one.runs_tail_unknown:
        yield (
            f"{one.runs_tail_unknown:,} of {one.runs:,} runs have no producer.close: "
            "whether they ended there is unknown"
        )
    if one.complete_at:
        yield f"complete as of {one.complete_at}"


def _retired(one: Checked) -> Iterator[str]:
    if one.files_retired:
        yield (
            f"{one.rows_retired:,} rows in {one.files_retired:,} files were removed by "
            f"age, up to offset {(one.retired_to or 0) - 1}: tombstones name them"
        )
    if one.rows_carried:
        yield f"{one.rows_carried:,} rows are in curated files, by the listed roots"


def _curated_counts(one: CuratedChecked) -> Iterator[str]:
    if one.rows_without_bytes:
        yield (
            f"of {one.rows_without_bytes:,} rows no bytes were kept: checked by root "
            "and file hash alone"
        )
    if one.files_retired:
        yield (
            f"{one.rows_retired:,} rows in {one.files_retired:,} files were removed by "
            "age: tombstones name them, and of the rest of their raw files the roots "
            "cannot be computed"
        )
    if one.files_unnamed:
        yield (
            f"{one.files_unnamed:,} files that no query reads: merged into others, or "
            "left by a compactor that was killed; `fleetwake archive compact` deletes "
            "them"
        )


def _trust(report: Report) -> str:
    root, folder = report.trust.get("root"), report.trust.get("folder")
    if root is None:
        return f"nobody: there is no key in {folder}"
    count = len(report.trust["keys"])
    return f"key {root} of {folder}" + (
        f", and {count - 1} after it" if count > 1 else ""
    )
