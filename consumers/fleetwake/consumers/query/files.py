"""
The files whose rows are the table `events`: curated ones, and the other raw ones.

Each row is in one of them. DuckDB reads those of a folder by itself. Its extension for
object stores is no part of its wheel, so their files are an Arrow dataset, into which
it pushes columns and filters.
"""
# pyright: basic

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from fleetwake.consumers.curated import (
    Curated,
    UnusableManifestError,
    read_curated,
    topics,
)
from fleetwake.consumers.query.errors import EmptyArchiveError, QueryError
from fleetwake.consumers.stores import NotStoredError
from fleetwake.schemas.columnar import EVENT_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetwake.consumers.stores import Store

__all__ = [
    "CLOSED",
    "EVENTS",
    "FOLDERS",
    "ArchiveFiles",
    "column_names",
    "dataset",
    "quoted",
]

_T = TypeVar("_T")

FOLDERS: Final = ("curated", "raw")
"""Where the files are."""

_RAW: Final = re.compile(r"raw/topic=[^/]+/partition=([0-9]+)/([0-9]{20})\.parquet")
"""Not those that are still being written, nor what hides behind such a name."""

_LISTERS: Final = 8
_TRIES: Final = 10
_GONE: Final = (duckdb.Error, pa.ArrowException, OSError, NotStoredError)
"""What may come of a file that is deleted."""

_PLACE: Final = {
    "kafka_topic": "VARCHAR",
    "kafka_partition": "INTEGER",
    "kafka_offset": "BIGINT",
    "kafka_timestamp": "TIMESTAMPTZ",
}
_RECORD: Final = {
    "kafka_key": "BLOB",
    "kafka_value": "BLOB",
    "writer_schema": "VARCHAR",
    "record_sha256": "BLOB",
    "duplicate_of": "BIGINT",
    "invalid_reason": "VARCHAR",
    "invalid_error": "VARCHAR",
    "content_key": "VARCHAR",
}
_TYPES: Final = {
    pa.string(): "VARCHAR",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.timestamp("us", "UTC"): "TIMESTAMPTZ",
    pa.map_(pa.string(), pa.string()): "MAP(VARCHAR, VARCHAR)",
}


def _events() -> str:
    known = _PLACE | {one.name: _TYPES[one.type] for one in EVENT_SCHEMA} | _RECORD
    columns = ", ".join(f"NULL::{kind} AS {name}" for name, kind in known.items())
    return f"""
        CREATE VIEW events AS SELECT * REPLACE ({{content}}) FROM (
            SELECT * FROM {{raw}} UNION ALL BY NAME SELECT {columns} WHERE false
        );
    """  # noqa: S608  # names of ours


EVENTS: Final = _events()
"""
Makes the view `events` of a table expression `{raw}`, with `{content}` such as CLOSED.

Its columns are there, with nulls, even if no file has them: files of an older version
lack some.
"""


CLOSED: Final = "CASE WHEN content_key IS NULL THEN kafka_value END AS kafka_value"
"""Who has no keys sees no content: a sealed value is none that Kafka had."""


def quoted(text: str) -> str:
    """Quote a text for SQL."""
    return "'" + text.replace("'", "''") + "'"


class ArchiveFiles:
    """
    Which files hold every row once, of those that are there when asked.

    Safe for concurrent use.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._states: dict[str, Curated] = {}

    def now(self) -> list[str]:
        """
        Name the files, the curated ones of each topic first.

        Raises:
            EmptyArchiveError: there is none.
            UnusableManifestError: what is curated cannot be known.
            StoreError: the store does not answer, or refuses.
        """
        names = {one.removeprefix("topic=") for one in self.store.folders("raw")}
        found = [
            path
            for topic in sorted({*names, *topics(self.store)})
            for path in self._of_topic(topic)
        ]
        if not found:
            raise EmptyArchiveError(self.store.url)
        return found

    def held(self, use: Callable[[list[str]], _T]) -> _T:
        """
        Call `use` with the files of now; again where it fails and others are there.

        For a merged file may be deleted meanwhile, or a raw one that is curated.

        Raises:
            EmptyArchiveError, UnusableManifestError, StoreError: as `now`.
        """
        paths = self.now()
        for _ in range(_TRIES):
            try:
                return use(paths)
            except _GONE:
                self._states.clear()
                before, paths = paths, self.now()
                if paths == before:
                    raise
        return use(paths)

    def _of_topic(self, topic: str) -> list[str]:
        state = self._state(topic)
        for _ in range(_TRIES):
            raw = self._raw(state)
            # Meanwhile a raw file may have been curated, and removed as too old.
            state, before = self._state(topic), state
            if state.number == before.number:
                curated = [path for path, one in state.files.items() if not one.dropped]
                return [*curated, *raw]
        raise UnusableManifestError(
            self.store.url_of(f"manifests/topic={topic}"), "it grows without end"
        )

    def _state(self, topic: str) -> Curated:
        state = read_curated(self.store, topic, since=self._states.get(topic))
        self._states[topic] = state
        return state

    def _raw(self, state: Curated) -> list[str]:
        folder = f"raw/topic={state.topic}"
        if not state.next_offset:
            return list(self._listed(folder, "", 0))
        folders = [f"{folder}/{one}" for one in self.store.folders(folder)]
        begins = [
            state.next_offset.get(int(number), 0)
            for one in folders
            if (number := one.rpartition("=")[2]).isdecimal()
        ]

        def listed(folder: str, begin: int) -> list[str]:
            after = f"{folder}/{begin - 1:020d}.parquet" if begin else ""
            return self._listed(folder, after, begin)

        if self.store.is_local:
            found = list(map(listed, folders, begins))
        else:
            with ThreadPoolExecutor(_LISTERS, "fleetwake-list") as threads:
                found = list(threads.map(listed, folders, begins))
        return [path for one in found for path in one]

    def _listed(self, folder: str, after: str, begin: int) -> list[str]:
        return [
            one.path
            for one in self.store.list(folder, after=after)
            if (name := _RAW.fullmatch(one.path)) and int(name[2]) >= begin
        ]


class _Dataset(ds.FileSystemDataset):  # type: ignore[misc]  # it has no types
    """
    A dataset whose readers begin without the interpreter's lock.

    `Scanner.to_reader` of pyarrow 26 holds it while it begins to read, and Arrow's
    threads need it to read from a store of ours: now and then each waits for the other
    for ever. `to_batches` lets it go.
    """

    def scanner(self, **options: object) -> _Scanner:
        """Return what DuckDB asks for: columns and filter are in the options."""
        return _Scanner(super().scanner(**options))


class _Scanner:
    """What DuckDB wants of a scanner."""

    def __init__(self, scanner: ds.Scanner) -> None:
        self._scanner = scanner

    def to_reader(self) -> pa.RecordBatchReader:
        """Begin to read."""
        batches = self._scanner.to_batches()
        return pa.RecordBatchReader.from_batches(
            self._scanner.projected_schema, batches
        )


def dataset(store: Store, paths: list[str]) -> ds.Dataset:
    """
    Make an Arrow dataset of files of an object store.

    Raises:
        QueryError: one is no Parquet file.
        StoreError: the store does not answer, or refuses.
    """
    schema = _common_schema(store, paths)
    found = ds.dataset(
        paths,
        schema=schema,
        format=ds.ParquetFileFormat(),
        filesystem=pafs.PyFileSystem(_Files(store)),
    )
    fragments = list(found.get_fragments())
    return _Dataset(fragments, schema, found.format, found.filesystem)


def column_names(store: Store, paths: list[str]) -> list[str]:
    """
    Name the columns of files of an object store.

    Raises:
        QueryError, StoreError: as `dataset`.
    """
    return list(_common_schema(store, paths).names)


def _common_schema(store: Store, paths: list[str]) -> pa.Schema:
    # Columns are only ever added, so the first and the last file of each folder have
    # them all.
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(path.rpartition("/")[0], []).append(path)
    ends = {path: None for one in folders.values() for path in (one[0], one[-1])}
    return pa.unify_schemas(
        [_schema(store, path) for path in ends], promote_options="permissive"
    )


def _schema(store: Store, path: str) -> pa.Schema:
    try:
        with store.open(path) as file:
            return pq.read_schema(file).remove_metadata()
    except pa.ArrowException as exc:
        raise QueryError(f"{store.url_of(path)}: {exc}") from exc


class _Files(pafs.FileSystemHandler):  # type: ignore[misc]  # untyped
    """A store, as Arrow sees file systems: to read files whose paths are known."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def open_input_file(self, path: str) -> Any:  # noqa: ANN401  # untyped
        try:
            return pa.PythonFile(self._store.open(path), mode="r")
        except NotStoredError as exc:
            raise FileNotFoundError(path) from exc

    open_input_stream = open_input_file

    def get_file_info(self, paths: list[str]) -> list[pafs.FileInfo]:
        return [pafs.FileInfo(path, pafs.FileType.File) for path in paths]

    def get_type_name(self) -> str:
        return "fleetwake"

    def normalize_path(self, path: str) -> str:
        return path

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Files) and other._store is self._store

    def __hash__(self) -> int:
        return id(self._store)

    def _refuse(self, *_: object, **__: object) -> Any:  # noqa: ANN401  # untyped
        raise NotImplementedError("the archive is only read")

    get_file_info_selector = create_dir = delete_dir = delete_dir_contents = _refuse
    delete_root_dir_contents = delete_file = move = copy_file = _refuse
    open_output_stream = open_append_stream = _refuse
