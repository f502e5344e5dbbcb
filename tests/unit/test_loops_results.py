"""docs/loops-results.md has what the command prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleetwake.consumers.cli.app import app

ROOT = Path(__file__).parents[2]
CASES = ROOT.parent / "shared" / "data" / "loops" / "cases.jsonl"
PAGE = ROOT / "docs" / "loops-results.md"


@pytest.mark.skipif(not CASES.exists(), reason="needs ../shared/data/loops")
def test_results_of_the_public_cases_are_what_the_command_prints():
    """If it fails: run the command that the page names, and paste what it prints."""
    printed = CliRunner().invoke(app, ["loops", "backtest", "--cases", str(CASES)])
    written = re.search(
        r"<!-- cases -->\n(.*?)<!-- end -->", PAGE.read_text(), re.DOTALL
    )

    assert written
    assert written[1] == f"\n{printed.stdout}\n"
