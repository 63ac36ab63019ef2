"""DuckDB: no access to anything but its own file, a locked configuration, one statement, a deadline.

DuckDB reads files, URLs and the environment from plain SELECTs; `read_only` stops none of that. Switching external
access off and locking the configuration does. One process may not open a file both for reading and for writing,
so the calls of one system take turns; DuckDB itself uses all processors for each.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb

from enterprise_connectors.sql.engine import (
    SAMPLE_ROWS,
    Column,
    Description,
    Engine,
    Limits,
    Result,
    Table,
    collect,
    quoted,
    refuse_too_many,
)
from usrland.errors import Conflict, Denied, InvalidInput, NotFound, Timeout, Unavailable

__all__ = ["Duck"]

CATALOG_SECONDS = 10.0
MEMORY_LIMIT = "512MB"
FETCH_AT_ONCE = 500

_CONFIG: dict[str, Any] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "memory_limit": MEMORY_LIMIT,
    "max_temp_directory_size": "0KB",
    "threads": 2,
    "lock_configuration": True,
}
_TABLES = """
SELECT * FROM (
  SELECT schema_name, table_name, 'table', estimated_size, comment FROM duckdb_tables() WHERE NOT internal
  UNION ALL SELECT schema_name, view_name, 'view', NULL, comment FROM duckdb_views() WHERE NOT internal
)
WHERE contains(lower(CASE schema_name WHEN 'main' THEN '' ELSE schema_name || '.' END || table_name), lower($1))
ORDER BY 1, 2
"""
_COLUMNS = """
SELECT column_name, data_type, is_nullable, column_default, comment FROM duckdb_columns()
WHERE schema_name = $1 AND table_name = $2 ORDER BY column_index
"""
_KEYS = """
SELECT constraint_text FROM duckdb_constraints()
WHERE schema_name = $1 AND table_name = $2 AND constraint_type IN ('PRIMARY KEY', 'UNIQUE', 'FOREIGN KEY')
ORDER BY constraint_type <> 'PRIMARY KEY', constraint_index
"""
_READS = ("SELECT",)
_CHANGES = ("INSERT", "UPDATE", "DELETE")


class Duck(Engine):
    """One database file."""

    def __init__(self, file: str) -> None:
        self._file = Path(file)
        self._turn = threading.Lock()

    @contextmanager
    def reading(
        self, sql: str, parameters: Sequence[Any], limits: Limits
    ) -> Iterator[tuple[list[str], Iterable[Sequence[Any]]]]:
        with self._connected(limits.seconds) as connection:
            _one(connection, sql, _READS)
            connection.execute(sql, list(parameters))
            yield (
                [column[0] for column in connection.description or ()],
                islice(_fetched(connection), limits.offset, None),
            )

    def plan(self, sql: str, limits: Limits) -> list[str]:
        with self._connected(limits.seconds) as connection:
            _one(connection, sql, _READS)
            rows = connection.execute(f"EXPLAIN {sql}").fetchall()
            return [line for row in rows for line in str(row[-1]).splitlines()]

    def execute(self, sql: str, parameters: Sequence[Any], limits: Limits, *, commit: bool) -> Result:
        with self._connected(limits.seconds, write=True) as connection:
            _one(connection, sql, _CHANGES)
            connection.begin()
            connection.execute(sql, list(parameters))
            columns = [column[0] for column in connection.description or ()]
            rows = connection.fetchall()
            counted = columns == ["Count"]
            affected = int(rows[0][0]) if counted and rows else len(rows)
            refuse_too_many(affected, limits)
            result = Result() if counted else collect(columns, rows, limits)
            if commit:
                connection.commit()
            else:
                connection.rollback()
            return Result(columns=result.columns, rows=result.rows, more=result.more, affected=affected)

    def tables(self, part: str = "") -> Iterator[Table]:
        with self._connected(CATALOG_SECONDS) as connection:
            connection.execute(_TABLES, [part])
            for schema, name, kind, rows, comment in _fetched(connection):
                yield Table(
                    name=name, schema="" if schema == "main" else schema, kind=kind, rows=rows, comment=comment
                )

    def describe(self, table: Table, limits: Limits) -> Description:
        where = [table.schema or "main", table.name]
        with self._connected(CATALOG_SECONDS) as connection:
            columns = connection.execute(_COLUMNS, where).fetchall()
            keys = connection.execute(_KEYS, where).fetchall()
        return Description(
            columns=[
                Column(name=name, type=kind, nullable=nullable, default=default, comment=comment)
                for name, kind, nullable, default, comment in columns
            ],
            keys=[str(key[0]) for key in keys],
            sample=self.query(f"SELECT * FROM {quoted(*where)} LIMIT {SAMPLE_ROWS}", (), limits),  # nosec B608 # quoted
        )

    @contextmanager
    def _connected(self, seconds: float, *, write: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        if not self._file.is_file():
            raise Unavailable("the database cannot be used: there is no such file.")
        with self._turn:
            try:
                connection = duckdb.connect(str(self._file), read_only=not write, config=dict(_CONFIG))
            except duckdb.Error as error:
                raise Unavailable(
                    "the database cannot be opened; another program may be writing to it."
                ) from error
            stop = threading.Timer(seconds, connection.interrupt)
            stop.daemon = True
            stop.start()
            try:
                yield connection
            except duckdb.InterruptException as error:
                raise Timeout(f"the statement was stopped after {seconds:g} seconds.", fix="Narrow it.") from error
            except duckdb.Error as error:
                raise _ours(error) from error
            finally:
                stop.cancel()
                connection.close()  # takes back what was not committed


def _one(connection: duckdb.DuckDBPyConnection, sql: str, allowed: Sequence[str]) -> None:
    """The database's own parser has the last word on how many statements there are and of what kind."""
    statements = connection.extract_statements(sql)
    if len(statements) != 1 or statements[0].type.name not in allowed:
        raise Denied(f"only one statement of {', '.join(allowed)} is allowed here.")


def _fetched(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while rows := connection.fetchmany(FETCH_AT_ONCE):
        yield from rows


def _ours(error: duckdb.Error) -> Exception:
    text = " ".join(str(error).partition("\n")[0].split())
    match error:
        case duckdb.PermissionException():
            return Denied("the statement reaches outside the database.")
        case duckdb.ConstraintException():
            return Conflict(f"{text}.")
        case duckdb.CatalogException() if "does not exist" in text and "Table" in text:
            return NotFound(f"{text}.", fix="The operation tables lists the tables there are.")
        case duckdb.OutOfMemoryException():
            return Denied(f"the statement needs more than {MEMORY_LIMIT} of memory.", fix="Narrow it.")
        case duckdb.InvalidInputException() if "parameter" in text.lower():
            return InvalidInput("parameters: give one value for each of $1, $2 … in the statement.")
        case _:
            return InvalidInput(f"the database says: {text}.")
