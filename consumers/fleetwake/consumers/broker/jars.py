"""
The jars of Apache Kafka: a pinned list, downloaded once, verified at every start.

A jar appears in its folder by a rename, after its SHA-256 was seen to be the pinned
one: an interrupted download leaves nothing that counts, a damaged jar is replaced, and
processes that download at the same time do the same work twice and no harm.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fleetwake.consumers.broker.errors import DownloadError
from fleetwake.consumers.home import cache
from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

__all__ = [
    "KAFKA_VERSION",
    "Jar",
    "Progress",
    "kafka_jars",
    "maven_fetch",
    "pinned_jars",
    "remote_repositories",
]

KAFKA_VERSION: Final = "4.3.1"
PINNED: Final = Path(__file__).with_name(f"kafka-{KAFKA_VERSION}.jars")

_PARALLEL = 6
_ATTEMPTS = 3
_PAUSE_S = 1.0
_TIMEOUT_S = 10
_STALE_S = 86_400


class Jar(NamedTuple):
    """One pinned artifact. `size` is in bytes."""

    group: str
    artifact: str
    version: str
    size: int
    sha256: str

    @property
    def file_name(self) -> str:
        """Its name in the folder."""
        return f"{self.artifact}-{self.version}.jar"


class Progress(NamedTuple):
    """How far a download is. Sizes are in bytes."""

    jars: int
    jars_total: int
    size: int
    size_total: int


if TYPE_CHECKING:
    Fetch = Callable[[Jar, Path, Callable[[int], None]], Path]
    """Gets a jar into a fresh folder; calls back with each count of bytes."""


def pinned_jars() -> list[Jar]:
    """The artifacts that make a broker, in the order of the class path."""
    lines = PINNED.read_text("utf-8").splitlines()
    return [_parse(line) for line in lines if not line.startswith("#")]


def _parse(line: str) -> Jar:
    coordinate, size, sha256 = line.split()
    group, artifact, version = coordinate.split(":")
    return Jar(group, artifact, version, int(size), sha256)


def kafka_jars(
    *,
    progress: Callable[[Progress], None] | None = None,
    cancelled: threading.Event | None = None,
    fetch: Fetch | None = None,
    jars: Sequence[Jar] | None = None,
) -> list[Path]:
    """
    The class path of Apache Kafka, after downloading what is missing or damaged.

    `progress` is called from worker threads, one at a time. Setting `cancelled` ends
    the download soon, with a `DownloadError`.

    Raises:
        DownloadError: a jar cannot be had. What was downloaded is kept.
    """
    jars = pinned_jars() if jars is None else jars
    folder = cache() / f"kafka-{KAFKA_VERSION}"
    folder.mkdir(exist_ok=True)
    missing = [jar for jar in jars if not _is_intact(folder / jar.file_name, jar)]
    if missing:
        _remove_stale(folder)
        with tempfile.TemporaryDirectory(
            prefix=".download-", dir=folder, ignore_cleanup_errors=True
        ) as fresh:
            download = _Download(
                folder,
                Path(fresh),
                fetch or maven_fetch,
                _Tally(missing, progress, cancelled or threading.Event()),
            )
            download.run(missing)
    return [folder / jar.file_name for jar in jars]


def _is_intact(path: Path, jar: Jar) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def _require_intact(path: Path, jar: Jar) -> None:
    if not _is_intact(path, jar):
        raise OSError("what the repository sends has another SHA-256 than the pinned")


def _remove_stale(folder: Path) -> None:
    """Remove what a killed download left, but not one that is under way elsewhere."""
    for left in folder.glob(".download-*"):
        try:
            age_s = time.time() - left.stat().st_mtime
        except FileNotFoundError:
            continue
        if age_s > _STALE_S:
            shutil.rmtree(left, ignore_errors=True)


class _Tally:
    """Counts what is done, for all workers."""

    def __init__(
        self,
        jars: Sequence[Jar],
        report: Callable[[Progress], None] | None,
        cancelled: threading.Event,
    ) -> None:
        self.cancelled = cancelled
        self._report = report
        self._lock = threading.Lock()
        self._now = Progress(0, len(jars), 0, sum(jar.size for jar in jars))

    def add(self, size: int, *, jars: int = 0) -> None:
        """Add bytes (negative: take them back) and finished jars, and report."""
        if self.cancelled.is_set():
            raise DownloadError("the download of Apache Kafka was cancelled")
        with self._lock:
            now = self._now
            self._now = now._replace(jars=now.jars + jars, size=now.size + size)
            if self._report is not None:
                self._report(self._now)


class _Download:
    """One download of several jars into `folder`, by way of `fresh`."""

    def __init__(self, folder: Path, fresh: Path, fetch: Fetch, tally: _Tally) -> None:
        self._folder = folder
        self._fresh = fresh
        self._fetch = fetch
        self._tally = tally

    def run(self, jars: Sequence[Jar]) -> None:
        pool = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="download")
        try:
            # The large ones first: the last one decides when all is done.
            ordered = sorted(jars, key=lambda jar: -jar.size)
            for done in as_completed([pool.submit(self._get, jar) for jar in ordered]):
                done.result()
        except BaseException:
            self._tally.cancelled.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _get(self, jar: Jar) -> None:
        # Not stamina: its waits cannot be cancelled, and a user who is offline would
        # read a warning for each of them.
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._try(jar)
            # RuntimeError is jgo's word for "in none of the repositories", which it
            # also says of a repository that answers 503.
            except (OSError, RuntimeError) as error:
                if attempt == _ATTEMPTS:
                    raise DownloadError(_advice(jar, error)) from error
                self._tally.cancelled.wait(attempt * _PAUSE_S)
            else:
                return

    def _try(self, jar: Jar) -> None:
        fresh = Path(tempfile.mkdtemp(dir=self._fresh))
        counted = 0

        def advance(size: int) -> None:
            nonlocal counted
            counted += size
            self._tally.add(size)

        try:
            found = self._fetch(jar, fresh, advance)
            _require_intact(found, jar)
        except BaseException:
            self._tally.add(-counted)
            raise
        found.replace(self._folder / jar.file_name)
        self._tally.add(jar.size - counted, jars=1)


def _advice(jar: Jar, error: BaseException) -> str:
    return (
        f"cannot download Apache Kafka ({jar.artifact} {jar.version}: {_root(error)}). "
        "Check the network and start again: what has come so far is kept. A mirror is "
        "set under [repositories] in ~/.config/jgo.conf, a Kafka of your own with "
        "KAFKA_BOOTSTRAP_SERVERS"
    )


def _root(error: BaseException) -> str:
    """The innermost cause: the outer ones of an HTTP client fill a screen."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__


def remote_repositories(settings: Any) -> dict[str, str]:  # noqa: ANN401
    """The repositories of jgo's settings, then Maven Central if it is not there."""
    from jgo.constants import MAVEN_CENTRAL_URL

    found: dict[str, str] = dict(settings.repositories)
    found.setdefault("central", MAVEN_CENTRAL_URL)
    return found


def maven_fetch(jar: Jar, folder: Path, advance: Callable[[int], None]) -> Path:
    """Get a jar from the local Maven repository or, with jgo, from a remote one."""
    try:
        from jgo.config import GlobalSettings
        from jgo.maven import MavenContext, PythonResolver
    except ImportError as error:
        raise ConfigurationError(
            "the embedded broker needs the package jgo: pip install "
            "'fleetwake[broker]', or set KAFKA_BOOTSTRAP_SERVERS to a Kafka of yours"
        ) from error

    @contextmanager
    def report(_name: str, _size: int) -> Generator[Callable[[int], None]]:
        yield advance

    settings = GlobalSettings.load()
    context = MavenContext(
        PythonResolver(progress_callback=report),
        repo_cache=folder,
        remote_repos=remote_repositories(settings),
        timeout=_TIMEOUT_S,
    )
    artifact = (
        context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
    )
    local = settings.repo_cache / artifact.component.path_prefix / jar.file_name
    if _is_intact(local, jar):
        return Path(shutil.copyfile(local, folder / jar.file_name))
    return Path(artifact.resolve())
