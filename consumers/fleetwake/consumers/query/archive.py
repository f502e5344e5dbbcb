"""
SQL over the raw files, with DuckDB, for reading only.

A query runs with what it needs and no more: it is one SELECT, it may open files below
the archive's `raw` folder only, and it can change no setting.
"""
# pyright: reportUnknownParameterType=false

from __future__ import annotations

import glob
from typing import TYPE_CHECKING, NamedTuple, Self

import duckdb

from fleetwake.schemas.errors import FleetwakeError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import pyarrow as pa

__all__ = [
    "ArchiveQuery",
    "EmptyArchiveError",
    "QueryError",
    "Summary",
    "ToolFailures",
    "open_archive",
]

_FILES = "topic=*/partition=*/*.parquet"


class EmptyArchiveError(FleetwakeError):
    """Raised when a folder has no archived file."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"nothing is archived below {folder} yet: start the service with "
            "`fleetwake up`, publish events, and wait for the first file (10 s)"
        )


class QueryError(FleetwakeError):
    """Raised when a query is not one SELECT, or DuckDB refuses it."""


class Summary(NamedTuple):
    """The archive in one row. `rows` are records, `invalid` those not readable."""

    rows: int
    sessions: int
    invalid: int


class ToolFailures(NamedTuple):
    """How often a tool failed, and in how many sessions."""

    tool_name: str
    failures: int
    sessions: int


class ArchiveQuery:
    """
    A connection whose view `events` has a row for each archived record.

    Each query sees the files that are there when it runs. Not thread safe.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def __enter__(self) -> Self:
        """Return the connection."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self._connection.close()

    def sql(self, query: str) -> pa.Table:
        """
        Run one SELECT.

        Raises:
            QueryError: it is something else, or cannot be run.
        """
        try:
            statements = self._connection.extract_statements(query)
            # EXPLAIN ANALYZE would run what it explains, a COPY as well.
            if [one.type for one in statements] != [duckdb.StatementType.SELECT]:
                raise QueryError("a query of the archive is one SELECT statement")
            return self._connection.sql(query).to_arrow_table()
        except duckdb.Error as exc:
            raise QueryError(str(exc)) from exc

    def summary(self) -> Summary:
        """Count rows, sessions and unreadable records."""
        found = self.sql(
            """
            SELECT count(*), count(DISTINCT session_id), count(invalid_reason)
            FROM events
            """
        )
        return Summary(*(column[0].as_py() for column in found.columns))

    def top_failing_tools(self, limit: int = 5) -> list[ToolFailures]:
        """Name the tools that failed most often. Repeated publishes count again."""
        found = self.sql(
            f"""
            SELECT tool_name, count(*) AS failures, count(DISTINCT session_id)
            FROM events
            WHERE tool_name IS NOT NULL AND outcome IN ('failure', 'timeout')
            GROUP BY tool_name
            ORDER BY failures DESC, tool_name
            LIMIT {int(limit)}
            """  # noqa: S608  # an int
        )
        rows = zip(*(column.to_pylist() for column in found.columns), strict=True)
        return [ToolFailures(*row) for row in rows]


def open_archive(folder: Path) -> ArchiveQuery:
    """
    Open the archive in `folder`.

    Raises:
        EmptyArchiveError: there is no file yet.
        QueryError: a file cannot be read.
    """
    raw = folder.absolute() / "raw"
    if next(raw.glob(_FILES), None) is None:
        raise EmptyArchiveError(folder)
    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            # A name in a query must never be a variable of this process.
            "python_enable_replacements": "false",
        },
    )
    try:
        connection.execute(_setup(str(raw)))
    except duckdb.Error as exc:
        connection.close()
        raise QueryError(str(exc)) from exc
    return ArchiveQuery(connection)


def _setup(raw: str) -> str:
    """Make the view, then lock every door but the archive's."""
    pattern = glob.escape(raw)
    # The topic and partition in the path are columns already. DuckDB looks for the
    # pattern, as well as for the files, in the allowed directories.
    return f"""
        CREATE VIEW events AS SELECT * FROM read_parquet(
            {_quote(f"{pattern}/{_FILES}")},
            union_by_name = true, hive_partitioning = false
        );
        SET TimeZone = 'UTC';
        SET allowed_directories = [{_quote(f"{raw}/")}, {_quote(f"{pattern}/")}];
        SET enable_external_access = false;
        SET lock_configuration = true;
    """  # noqa: S608  # paths are quoted; a view takes no parameters


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
