"""The download of the embedded broker, without a network."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from jgo.config import GlobalSettings

from fleetwake.consumers.broker import jars as jars_module
from fleetwake.consumers.broker.errors import DownloadError
from fleetwake.consumers.broker.jars import (
    KAFKA_VERSION,
    Jar,
    Progress,
    kafka_jars,
    pinned_jars,
    remote_repositories,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def jar(name: str) -> Jar:
    content = name.encode() * 100
    return Jar("org.example", name, "1.0", len(content), sha256(content))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


JARS = [jar(name) for name in ("zebra", "ant", "mole")]


class Repository:
    """Sends each jar in two parts; `bad` names what is sent wrong, how many times."""

    def __init__(self, **bad: int) -> None:
        self.bad = bad
        self.asked: list[str] = []

    def __call__(self, jar: Jar, folder: Path, advance: Callable[[int], None]) -> Path:
        self.asked.append(jar.artifact)
        content = jar.artifact.encode() * 100
        if self.bad.get(jar.artifact, 0) > 0:
            self.bad[jar.artifact] -= 1
            content = b"<html>sign in to this network</html>"
        path = folder / "download"
        path.write_bytes(content)
        advance(len(content) // 2)
        advance(len(content) - len(content) // 2)
        return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the jars, not made yet."""
    monkeypatch.setenv("FLEETWAKE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / f"kafka-{KAFKA_VERSION}"


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars_module, "_PAUSE_S", 0.0)


def test_returns_the_class_path_in_pinned_order(folder: Path) -> None:
    """All jars are downloaded, and come in the order of the list."""
    paths = kafka_jars(jars=JARS, fetch=Repository())

    assert [folder / f"{name}-1.0.jar" for name in ("zebra", "ant", "mole")] == paths
    assert [jar.sha256 for jar in JARS] == [sha256(p.read_bytes()) for p in paths]


def test_leaves_nothing_but_the_jars(folder: Path) -> None:
    """No temporary folder stays."""
    paths = kafka_jars(jars=JARS, fetch=Repository())

    assert set(paths) == set(folder.iterdir())


def test_downloads_nothing_twice(folder: Path) -> None:
    """A second start needs no repository."""
    again = Repository()
    kafka_jars(jars=JARS, fetch=Repository())
    kafka_jars(jars=JARS, fetch=again)

    assert [] == again.asked


@pytest.mark.parametrize("damaged", [b"", b"half", b"zebra" * 101])
def test_replaces_a_damaged_jar(folder: Path, damaged: bytes) -> None:
    """A jar that was cut or changed is downloaded again, the others are not."""
    again = Repository()
    paths = kafka_jars(jars=JARS, fetch=Repository())
    paths[0].write_bytes(damaged)
    kafka_jars(jars=JARS, fetch=again)

    assert ["zebra"] == again.asked
    assert b"zebra" * 100 == paths[0].read_bytes()


def test_tries_again_after_a_wrong_answer(folder: Path) -> None:
    """What a proxy sends once in place of a jar does no harm."""
    paths = kafka_jars(jars=JARS, fetch=Repository(ant=2))

    assert b"ant" * 100 == paths[1].read_bytes()


def test_refuses_what_is_not_the_pinned_jar(folder: Path) -> None:
    """A jar with another SHA-256 never gets its name; the error says what to do."""
    with pytest.raises(DownloadError, match=r"ant 1\.0.*SHA-256.*jgo\.conf") as caught:
        kafka_jars(jars=JARS, fetch=Repository(ant=99))

    assert "\n" not in str(caught.value)
    assert not (folder / "ant-1.0.jar").exists()


def test_names_the_innermost_cause(folder: Path) -> None:
    """Of a chain of network errors, the user sees the one that tells."""

    def unreachable(*_: object) -> Path:
        cause = OSError("Name or service not known")
        raise OSError("Max retries exceeded with url: /" + "x" * 500) from cause

    with pytest.raises(DownloadError, match=r"0: Name or service not known\)\. Check"):
        kafka_jars(jars=JARS, fetch=unreachable)


def test_keeps_what_an_interrupted_download_finished(folder: Path) -> None:
    """The next start downloads the rest only."""
    first, again = Repository(ant=99), Repository()
    with pytest.raises(DownloadError):
        kafka_jars(jars=JARS[:2], fetch=_after_all_others(first))
    kafka_jars(jars=JARS[:2], fetch=again)

    assert ["ant"] == again.asked


def _after_all_others(repository: Repository) -> Callable[..., Path]:
    """Ant's turn comes when zebra has its place."""
    finished = threading.Event()

    def fetch(jar: Jar, folder: Path, advance: Callable[[int], None]) -> Path:
        if jar.artifact == "ant":
            place = folder.parent.parent / "zebra-1.0.jar"
            while not place.exists():
                finished.wait(0.01)
        return repository(jar, folder, advance)

    return fetch


def test_removes_what_a_killed_download_left(folder: Path) -> None:
    """Folders of downloads that ended long ago go; one that is under way stays."""
    old, new = folder / ".download-old", folder / ".download-new"
    old.mkdir(parents=True)
    new.mkdir()
    os.utime(old, (0, 0))
    kafka_jars(jars=JARS, fetch=Repository())

    assert [new] == [path for path in folder.iterdir() if path.is_dir()]


def test_reports_all_bytes_and_jars(folder: Path) -> None:
    """The last report is complete, also when a jar came twice."""
    seen: list[Progress] = []
    kafka_jars(jars=JARS, fetch=Repository(mole=1), progress=seen.append)
    total = sum(jar.size for jar in JARS)

    assert Progress(3, 3, total, total) == seen[-1]
    assert sorted(now.jars for now in seen) == [now.jars for now in seen]


def test_can_be_cancelled(folder: Path) -> None:
    """A cancelled download ends in the middle of a jar."""
    cancelled = threading.Event()
    with pytest.raises(DownloadError, match="cancelled"):
        kafka_jars(
            jars=JARS,
            fetch=Repository(),
            cancelled=cancelled,
            progress=lambda _: cancelled.set(),
        )

    assert not (folder / "zebra-1.0.jar").exists()


def test_two_downloads_at_once_do_no_harm(folder: Path) -> None:
    """Both get the whole class path."""
    together = threading.Barrier(2 * len(JARS))

    def fetch(jar: Jar, folder: Path, advance: Callable[[int], None]) -> Path:
        together.wait(10)
        return Repository()(jar, folder, advance)

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(kafka_jars, jars=JARS, fetch=fetch) for _ in range(2)]
        first, second = (one.result() for one in both)

    assert first == second
    assert [jar.sha256 for jar in JARS] == [sha256(p.read_bytes()) for p in first]


def test_takes_a_jar_from_the_local_maven_repository(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Maven has downloaded already needs no network, and stays where it is."""
    there = tmp_path / "m2/org/example/zebra/1.0/zebra-1.0.jar"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"zebra" * 100)
    monkeypatch.setenv("M2_REPO", str(tmp_path / "m2"))
    (path,) = kafka_jars(jars=JARS[:1])

    assert folder / "zebra-1.0.jar" == path
    assert there.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("configured", "order"),
    [
        ({}, ["central"]),
        ({"mirror": "https://mirror.example"}, ["mirror", "central"]),
        ({"central": "https://mirror.example"}, ["central"]),
    ],
)
def test_a_configured_repository_goes_first(
    configured: dict[str, str], order: list[str]
) -> None:
    """A mirror is asked before Maven Central, or in place of it."""
    found = remote_repositories(GlobalSettings(repositories=configured))

    assert order == list(found)
    assert configured.items() <= found.items()


def test_the_pinned_list_is_complete() -> None:
    """Each artifact has a version, a size and a SHA-256, and none is there twice."""
    jars = pinned_jars()

    assert ("kafka_2.13", KAFKA_VERSION) in {
        (jar.artifact, jar.version) for jar in jars
    }
    assert len(jars) == len({jar.file_name for jar in jars})
    assert all(re.fullmatch("[0-9a-f]{64}", jar.sha256) for jar in jars)
    assert 40e6 < sum(jar.size for jar in jars) < 50e6
