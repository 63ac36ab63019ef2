"""PostgreSQL: a read-only transaction, one statement by the extended protocol, rolled back whatever happens.

A query runs inside `DECLARE … CURSOR`, which takes SELECT and nothing else; the extended protocol refuses a
second statement, so `COMMIT; DROP …` cannot leave the transaction. None of this stops a superuser from
reading the server's files through a function: the guard does, and a role of its own should. `warning` says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

import psycopg
from psycopg import errors
from psycopg.types.json import Jsonb

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
from enterprise_connectors.sql.pool import Pool
from usrland.errors import Conflict, Denied, InvalidInput, NotFound, Timeout, Unavailable

__all__ = ["Postgres"]

CONNECT_SECONDS = 5
CATALOG_SECONDS = 10.0
LOCK_SECONDS = 3.0
FETCH_AT_ONCE = 500

_resets = itertools.count()

_TABLES = """
SELECT n.nspname, c.relname, c.relkind, c.reltuples::bigint, obj_description(c.oid, 'pg_class')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
  AND position(lower($1) IN lower(CASE n.nspname WHEN 'public' THEN '' ELSE n.nspname || '.' END || c.relname)) > 0
ORDER BY n.nspname <> 'public', n.nspname, c.relname
"""
_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
       pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum)
FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_KEYS = """
SELECT pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint
WHERE conrelid = $1::text::regclass AND contype IN ('p', 'u', 'f') ORDER BY contype DESC, conname
"""
_SUPERUSER = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
_KINDS = {"r": "table", "p": "table", "v": "view", "m": "materialized view", "f": "foreign table"}


class Postgres(Engine):
    """One database under one role."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._superuser: bool | None = None
        self._pool: Pool[psycopg.Connection[Any]] = Pool(_reset, psycopg.Connection.close)

        self._role = ""

    def as_role(self, role: str) -> Postgres:
        taken = copy(self)  # the same pool: what a session took on is forgotten before it is given back
        taken._role, taken._superuser = role, None
        return taken

    def close(self) -> None:
        self._pool.close()

    @contextmanager
    def reading(
        self, sql: str, parameters: Sequence[Any], limits: Limits
    ) -> Iterator[tuple[list[str], Iterable[Sequence[Any]]]]:
        with (
            self._transaction(limits.seconds) as connection,
            psycopg.RawServerCursor(connection, "usrland") as cursor,
        ):
            cursor.itersize = min(limits.max_rows + 1, FETCH_AT_ONCE)
            cursor.execute(sql.encode(), _bound(parameters))
            if limits.offset:
                cursor.scroll(limits.offset)
            yield [column.name for column in cursor.description or ()], cursor

    def plan(self, sql: str, limits: Limits) -> list[str]:
        return [str(row[0]) for row in self._rows(f"EXPLAIN {sql}", (), limits.seconds)]

    def execute(self, sql: str, parameters: Sequence[Any], limits: Limits, *, commit: bool) -> Result:
        with self._transaction(limits.seconds, write=True) as connection, psycopg.RawCursor(connection) as cursor:
            cursor.execute(sql.encode(), _bound(parameters), prepare=True)
            affected = cursor.rowcount
            refuse_too_many(affected, limits)
            columns = [column.name for column in cursor.description or ()]
            result = collect(columns, cursor if columns else (), limits)
            if commit:
                connection.commit()
            return Result(columns=columns, rows=result.rows, more=result.more, affected=affected)

    def tables(self, part: str = "") -> Iterator[Table]:
        with (
            self._transaction(CATALOG_SECONDS) as connection,
            psycopg.RawServerCursor(connection, "usrland") as cursor,
        ):
            cursor.itersize = FETCH_AT_ONCE
            for schema, name, kind, rows, comment in cursor.execute(_TABLES.encode(), (part,)):
                yield Table(
                    name=name, schema=schema, kind=_KINDS[kind], rows=rows if rows >= 0 else None, comment=comment
                )

    def describe(self, table: Table, limits: Limits) -> Description:
        name = quoted(table.schema, table.name)
        return Description(
            columns=[
                Column(name=column, type=kind, nullable=nullable, default=default, comment=comment)
                for column, kind, nullable, default, comment in self._rows(_COLUMNS, (name,), CATALOG_SECONDS)
            ],
            keys=[str(row[0]) for row in self._rows(_KEYS, (name,), CATALOG_SECONDS)],
            sample=self.query(f"SELECT * FROM {name} LIMIT {SAMPLE_ROWS}", (), limits),  # nosec B608 # quoted
        )

    def warning(self) -> str | None:
        if self._superuser is None:
            self._superuser = bool(self._rows(_SUPERUSER, (), CATALOG_SECONDS)[0][0])
        if not self._superuser:
            return None
        return "The database role is a superuser: the operator should give this system a role that may only read."

    def _rows(self, sql: str, parameters: Sequence[Any], seconds: float) -> list[tuple[Any, ...]]:
        with self._transaction(seconds) as connection, psycopg.RawCursor(connection) as cursor:
            return cursor.execute(sql.encode(), parameters, prepare=True).fetchall()

    @contextmanager
    def _transaction(self, seconds: float, *, write: bool = False) -> Iterator[psycopg.Connection[Any]]:
        connection = self._begun(seconds, write=write)
        try:
            if self._role:
                connection.execute(f"SET LOCAL ROLE {quoted(self._role)}".encode())
            yield connection
        except psycopg.Error as error:
            raise _ours(error, seconds) from error
        finally:
            self._pool.give(connection)

    def _begun(self, seconds: float, *, write: bool) -> psycopg.Connection[Any]:
        """A connection in a transaction with its limits; a waiting one where it still works."""
        while (connection := self._pool.take()) is not None:
            try:
                return _limited(connection, seconds, write=write)
            except psycopg.OperationalError:  # the server went away while it waited; nothing was sent on it yet
                connection.close()
        try:
            connection = psycopg.connect(self._url, connect_timeout=CONNECT_SECONDS, application_name="usrland")
            return _limited(connection, seconds, write=write)
        except (psycopg.Error, UnicodeError) as error:
            # the driver's text names host, port and role; they are the operator's business
            raise Unavailable("the database cannot be connected to.", unsent=True) from error


def _limited(connection: psycopg.Connection[Any], seconds: float, *, write: bool) -> psycopg.Connection[Any]:
    connection.read_only = not write
    for setting, value in (
        ("statement_timeout", seconds),
        ("lock_timeout", LOCK_SECONDS),
        ("idle_in_transaction_session_timeout", seconds + LOCK_SECONDS),
    ):
        connection.execute("SELECT set_config(%s, %s, true)", (setting, f"{int(value * 1000)}ms"))
    return connection


def _reset(connection: psycopg.Connection[Any]) -> bool:
    """Take back what was not committed, and forget all that a session can keep."""
    try:
        connection.rollback()
        connection.autocommit = True
        # a text of its own each time: psycopg looks at what a statement did, and forgets its prepared statements
        # with the server's, only the first time it sees one
        connection.execute(f"DISCARD ALL -- {next(_resets)}".encode())
        connection.autocommit = False
    except psycopg.Error:
        return False
    return True


def _bound(parameters: Sequence[Any]) -> list[Any]:
    return [Jsonb(value) if isinstance(value, dict) else value for value in parameters]


def _ours(error: psycopg.Error, seconds: float) -> Exception:
    text = error.diag.message_primary or str(error).partition("\n")[0]
    hint = error.diag.message_hint or ""
    match error:
        case errors.QueryCanceled():
            return Timeout(f"the statement was stopped after {seconds:g} seconds.", fix="Narrow it.")
        case errors.LockNotAvailable():
            return Unavailable("somebody else holds a lock on what the statement needs.")
        case errors.InvalidParameterValue() if "role" in text:
            return Denied("the database has no such role for this caller.", fix="The operator corrects [roles].")
        case errors.InsufficientPrivilege() | errors.ReadOnlySqlTransaction():
            return Denied(f"the database refuses: {text}.")
        case errors.ProtocolViolation():
            return InvalidInput("parameters: give one value for each of $1, $2 … in the statement.")
        case errors.UndefinedTable():
            return NotFound(f"{text}.", fix="The operation tables lists the tables there are.")
        case psycopg.IntegrityError():
            return Conflict(f"{text}.")
        case psycopg.OperationalError() if error.sqlstate is None or error.sqlstate.startswith(("08", "53", "57")):
            return Unavailable("the connection to the database broke.")
        case _:
            return InvalidInput(f"the database says: {text}.", fix=hint)
