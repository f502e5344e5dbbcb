"""The documents say what the code does."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from tests.certificates import Authority

from fleetwake.consumers.cli.letters import STEP_HEADER
from fleetwake.consumers.loops.alerts import _NAMESPACE
from fleetwake.consumers.metrics.sessions import OWNER_HEADER
from fleetwake.consumers.runtime.dead_letters import dead_letter
from fleetwake.consumers.runtime.replays import (
    ORIGIN_HEADER,
    REPLAY_HEADER,
    TIME_HEADER,
)
from fleetwake.consumers.runtime.service import InvalidRecord, Record
from fleetwake.consumers.runtime.source import TopicPartition
from fleetwake.producer.settings import KafkaSettings
from fleetwake.schemas.codec import SHA256_HEADER
from fleetwake.schemas.errors import TombstoneError
from fleetwake.schemas.event import EVENT_TYPES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
ROOMS = [ROOT / name for name in ("schemas", "producer", "consumers")]
SOURCES = "\n".join(p.read_text() for room in ROOMS for p in room.rglob("*.py"))
SPEC = (DOCS / "spec.md").read_text()


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def generator() -> Any:
    """Load docs/generate.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "page", ["spec.md", "configuration.md", "metrics.md", "sessions.md"]
)
def test_tables_are_what_the_code_says(page: str) -> None:
    """If it fails: `python docs/generate.py`."""
    written = (DOCS / page).read_text()

    assert "<!-- table: " in written
    assert generator().render(written) == written


def test_every_variable_is_documented() -> None:
    """Those that are no settings as well."""
    configuration = (DOCS / "configuration.md").read_text()
    variables = set(re.findall(r"\bFLEETWAKE_[A-Z_]*[A-Z]\b", SOURCES))

    assert variables
    assert [one for one in sorted(variables) if f"`{one}`" not in configuration] == []


def test_the_example_file_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever copies it gets what it says."""
    configuration = (DOCS / "configuration.md").read_text()
    example = configuration.partition("```toml\n")[2].partition("```")[0]
    file = tmp_path / "fleetwake.toml"
    file.write_text(example)
    monkeypatch.setenv("FLEETWAKE_CONFIG", str(file))
    for variable in ("KAFKA_BOOTSTRAP_SERVERS", "FLEETWAKE_KAFKA_BOOTSTRAP_SERVERS"):
        monkeypatch.delenv(variable, raising=False)
    known = {
        one.model_config["toml_table_header"]: one
        for one in generator().settings_classes()
    }

    written = tomllib.loads(example)

    for table, values in written.items():
        settings = known[(table,)]()
        found = {name: getattr(settings, name) for name in values}
        assert {name: type(values[name])(one) for name, one in found.items()} == values


def test_the_examples_of_clusters_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four kinds, each as it stands there, but for the places of its files."""
    configuration = (DOCS / "configuration.md").read_text()
    section = configuration.partition("## A cluster with TLS")[2].partition("\n## ")[0]
    authority = Authority(tmp_path)
    agent = authority.issue("agent")
    files = {
        "SSL_CAFILE": authority.certificate,
        "SSL_CERTFILE": agent.certificate,
        "SSL_KEYFILE": agent.key,
        "SASL_PASSWORD_FILE": agent.key,
    }
    known = set()
    for example in re.findall(r"```sh\n(.*?)```", section, re.DOTALL):
        with monkeypatch.context() as environment:
            for line in example.splitlines():
                name, _, value = line.partition("=")
                short = name.removeprefix("FLEETWAKE_KAFKA_")
                environment.setenv(name, str(files.get(short, value)))
            settings = KafkaSettings()
            assert settings.client_options()["ssl_context"]
            assert settings.bootstrap_servers in example
            known.add((settings.security_protocol, settings.sasl_mechanism))

    assert {
        ("SASL_SSL", "PLAIN"),
        ("SASL_SSL", "SCRAM-SHA-512"),
        ("SSL", "PLAIN"),
    } == known


def test_every_event_type_has_a_meaning() -> None:
    """The list in the specification is the closed list of the code."""
    section = SPEC.partition("### event_type")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    listed = [one for row in rows for one in re.findall(r"`(.+?)`", row)]

    assert sorted(EVENT_TYPES) == sorted(listed)


def test_headers_are_specified() -> None:
    """Those of all topics, no more and no less."""
    invalid = InvalidRecord(Record(1, 2, b"k", None), TombstoneError())
    letter = dead_letter("archive", TopicPartition("events", 0), invalid)
    written = set(re.findall(r"`(fleetwake-[a-z0-9-]+)`", SPEC))

    ours = {SHA256_HEADER, STEP_HEADER, OWNER_HEADER}
    ours |= {REPLAY_HEADER, ORIGIN_HEADER, TIME_HEADER}
    assert ours | {name for name, _ in letter.headers} == written


def test_alert_ids_are_specified() -> None:
    """Whoever makes ids elsewhere needs the namespace."""
    assert f"`{_NAMESPACE}`" in SPEC


@pytest.mark.parametrize("point", entry_points(group="fleetwake.services"), ids=str)
def test_every_service_states_its_guarantees(point: Any) -> None:
    """What it promises stands where it is implemented."""
    package = import_module(point.value.partition(":")[0])

    assert "Delivery guarantees:" in (package.__doc__ or "")


def test_guarantees_name_tests_that_exist() -> None:
    """A promise is worth the test that holds it."""
    text = (DOCS / "guarantees.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    missing = [
        f"{path}::{test}"
        for path, test in named
        if not (ROOT / path).exists()
        or (test and f"def {test}(" not in (ROOT / path).read_text())
    ]

    assert named
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Files, and headings in them; the web is not asked."""
    links = re.findall(r"\]\((?!https?://)([^)]+)\)", page.read_text())

    assert [link for link in links if not leads_somewhere(page, link)] == []


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    if not anchor or not target.exists():
        return target.exists()
    titles = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
    return anchor in {
        re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles
    }


@pytest.mark.parametrize("path", DECISIONS, ids=name_of)
def test_decisions_have_one_form(path: Path) -> None:
    """Short, with the same five parts, under the number of the file."""
    text = path.read_text()
    parts = re.findall(r"^## (.+)$", text, re.MULTILINE)

    assert re.fullmatch(r"\d{4}(-[a-z]+)+\.md", path.name)
    assert text.startswith(f"# {path.name[:4]}. ")
    assert parts == [
        "Status",
        "Context",
        "Decision",
        "Consequences",
        "Rejected alternatives",
    ]
    assert len(text.splitlines()) <= 100


def test_decisions_are_numbered_without_holes() -> None:
    """A number is given once."""
    numbers = [int(path.name[:4]) for path in DECISIONS]

    assert list(range(1, len(numbers) + 1)) == numbers


def test_decisions_that_the_code_cites_exist() -> None:
    """A citation that leads nowhere is worse than none."""
    cited = set(re.findall(r"docs/decisions/(\d{4})", SOURCES))
    cited |= set(re.findall(r"docs/decisions/(\d{4})", (ROOT / "Makefile").read_text()))

    assert cited
    assert cited <= {path.name[:4] for path in DECISIONS}
