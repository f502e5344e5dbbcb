"""docs/integrations/atof.md says what the code does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import fleetwake.producer.adapters.atof as package
from fleetwake.producer.adapters.atof import TYPES
from fleetwake.schemas.event import EVENT_TYPES

PAGE = (Path(__file__).parents[2] / "docs/integrations/atof.md").read_text()
CODE = "\n".join(
    path.read_text()
    for folder in package.__path__
    for path in (*Path(folder).glob("*.py"), Path(folder).parent / "times.py")
)


def test_the_table_is_the_codes() -> None:
    """Row by row, in order."""
    row = re.compile(r"^\| `(.+?)` \| (.+?) \| `(.+?)` \| (.+?) \|$", re.MULTILINE)

    assert row.findall(PAGE) == [
        (name, one.when, one.event_type, one.counts_as) for name, one in TYPES.items()
    ]
    assert {row.event_type for row in TYPES.values()} <= EVENT_TYPES


def test_every_reason_is_named() -> None:
    """And every one that is named exists."""
    raised = set(re.findall(r'UnmappableError\(\s*"(\w+)"', CODE))
    section = PAGE.partition("## What is taken")[2]

    assert raised == set(re.findall(r"`(\w+_\w+)`", section))


def test_the_examples_can_be_run() -> None:
    """The names that they import exist; the settings are TOML."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    imports = [
        line for block in blocks for line in re.findall("^from .*", block, re.MULTILINE)
    ]
    for line in imports:
        exec(line, {})
    (settings,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (sink,) = tomllib.loads(settings)["components"][0]["config"]["atof"]["sinks"]

    assert 5 == len(imports)
    assert {"type", "url", "transport"} == set(sink)
