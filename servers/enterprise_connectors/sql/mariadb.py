"""MariaDB and MySQL: a read-only transaction, one statement without the protocol's several, deadlines, rollback.

Unlike PostgreSQL's, a read-only transaction here is left by any DDL, which commits and runs; and there is no
cursor that takes only SELECT. So the guard carries more of the weight, and a role that may only read should carry
the rest: `warning` says where it does not. Values are put into the text by the driver's own quoting, for which
the session's SQL mode is fixed; comments that the server would run as code are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any
from urllib.parse import unquote, urlsplit

import pymysql
from pymysql.cursors import SSCursor

from enterprise_connectors.sql.copies import MAX_ROWS
from enterprise_connectors.sql.engine import (
    SAMPLE_ROWS,
    Column,
    Description,
    Engine,
    Limits,
    Result,
    Table,
    collect,
    refuse_too_many,
)
from enterprise_connectors.sql.placeholders import split
from usrland.errors import Conflict, Denied, InvalidInput, NotFound, Timeout, Unavailable

__all__ = ["MariaDb"]

CONNECT_SECONDS = 5
CATALOG_SECONDS = 10.0
LOCK_SECONDS = 3
TABLES_AT_ONCE = 50
PORT = 3306

_MODE = "STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
"""Whatever the server has: some modes make another statement of the same text (ANSI_QUOTES, PIPES_AS_CONCAT)."""
_STRICT_GROUPS = "ONLY_FULL_GROUP_BY"
"""As the server has it: MariaDB knows no dependence on a key, and refuses what is well defined."""
_POWERS = re.compile(r"\b(ALL PRIVILEGES|SUPER|FILE|PROCESS|CREATE USER|SHUTDOWN)\b")
_NAMES = """
SELECT table_schema, table_name, table_type FROM information_schema.tables
WHERE table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')
  AND LOCATE(LOWER(%s), LOWER(CONCAT(IF(table_schema = DATABASE(), '', CONCAT(table_schema, '.')), table_name)))
ORDER BY table_schema <> DATABASE(), table_schema, table_name
"""
_FACTS = """
SELECT table_schema, table_name, table_rows, table_comment FROM information_schema.tables
WHERE table_schema IN %s AND table_name IN %s
"""
_COLUMNS = """
SELECT column_name, column_type, is_nullable, column_default, column_comment FROM information_schema.columns
WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position
"""
_KEYS = """
SELECT c.constraint_name, c.constraint_type, k.column_name, k.referenced_table_name, k.referenced_column_name
FROM information_schema.table_constraints c JOIN information_schema.key_column_usage k
  USING (constraint_schema, constraint_name, table_schema, table_name)
WHERE c.table_schema = %s AND c.table_name = %s
ORDER BY c.constraint_type = 'PRIMARY KEY' DESC, c.constraint_name, k.ordinal_position
"""
_ENGINES = """
SELECT table_name FROM information_schema.tables
WHERE table_schema = %s AND table_name = %s AND engine NOT IN ('InnoDB', 'ROCKSDB')
"""


class MariaDb(Engine):
    """One database under one role."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.database = unquote(parts.path.lstrip("/"))
        self._address: dict[str, Any] = {
            "host": parts.hostname or "127.0.0.1",
            "port": parts.port or PORT,
            "user": unquote(parts.username or ""),
            "password": unquote(parts.password or ""),
            "database": self.database,
        }
        self._warning: str | None = None
        self._asked = False

    @contextmanager
    def reading(
        self, sql: str, parameters: Sequence[Any], limits: Limits
    ) -> Iterator[tuple[list[str], Iterable[Sequence[Any]]]]:
        # rows that nobody asks for are not worth fetching: the connection is dropped with them
        with self._transaction(limits.seconds) as connection, connection.cursor(SSCursor) as cursor:
            most = limits.offset + limits.max_rows + MAX_ROWS + 1
            cursor.execute(f"SET SESSION sql_select_limit = {most}")
            cursor.execute(_filled(connection, sql, parameters))
            yield [column[0] for column in cursor.description or ()], islice(cursor, limits.offset, None)

    def plan(self, sql: str, limits: Limits) -> list[str]:
        with self._transaction(limits.seconds) as connection, connection.cursor() as cursor:
            cursor.execute(_filled(connection, f"EXPLAIN {sql}", ()))
            names = [column[0] for column in cursor.description or ()]
            return [
                ", ".join(f"{name}={value}" for name, value in zip(names, row, strict=True) if value is not None)
                for row in cursor.fetchall()
            ]

    def execute(self, sql: str, parameters: Sequence[Any], limits: Limits, *, commit: bool) -> Result:
        with self._transaction(limits.seconds, write=True) as connection, connection.cursor() as cursor:
            cursor.execute(_filled(connection, sql, parameters))
            affected = cursor.rowcount
            refuse_too_many(affected, limits)
            columns = [column[0] for column in cursor.description or ()]
            result = collect(columns, cursor.fetchall() if columns else (), limits)
            if commit:
                connection.commit()
            return Result(columns=columns, rows=result.rows, more=result.more, affected=affected)

    def tables(self, part: str = "") -> Iterator[Table]:
        # the names lie in folders, the other facts in each table, which has to be opened for them
        names = self._rows(_NAMES, (part,))
        for start in range(0, len(names), TABLES_AT_ONCE):
            some = names[start : start + TABLES_AT_ONCE]
            facts = {
                (schema, name): (rows, None if comment in ("", "VIEW") else comment)
                for schema, name, rows, comment in self._rows(
                    _FACTS, ([schema for schema, _, _ in some], [name for _, name, _ in some])
                )
            }
            for schema, name, kind in some:
                rows, comment = facts.get((schema, name), (None, None))
                yield Table(
                    name=name,
                    schema="" if schema == self.database else schema,
                    kind="view" if "VIEW" in kind else "table",
                    rows=rows,
                    comment=comment,
                )

    def describe(self, table: Table, limits: Limits) -> Description:
        where = (table.schema or self.database, table.name)
        keys: dict[str, tuple[str, list[str], str | None, list[str]]] = {}
        for name, kind, column, target, target_column in self._rows(_KEYS, where):
            entry = keys.setdefault(name, (kind, [], target, []))
            entry[1].append(column)
            if target_column:
                entry[3].append(target_column)
        return Description(
            columns=[
                Column(name=name, type=kind, nullable=nullable == "YES", default=default, comment=comment or None)
                for name, kind, nullable, default, comment in self._rows(_COLUMNS, where)
            ],
            keys=[
                f"{kind} ({', '.join(own)})" + (f" REFERENCES {target}({', '.join(theirs)})" if target else "")
                for kind, own, target, theirs in keys.values()
            ],
            sample=self.query(f"SELECT * FROM {_quoted(*where)} LIMIT {SAMPLE_ROWS}", (), limits),  # nosec B608 # quoted
        )

    def can_take_back(self, table: str, schema: str) -> bool:
        """Whether a change of this table can be rolled back; MyISAM and its like cannot."""
        return not self._rows(_ENGINES, (schema or self.database, table))

    def warning(self) -> str | None:
        if not self._asked:
            grants = " ".join(str(row[0]) for row in self._rows("SHOW GRANTS"))
            everywhere = " ".join(re.findall(r"GRANT (.*?) ON \*\.\*", grants))
            if _POWERS.search(everywhere):
                self._warning = (
                    "The database role may do more than read and write rows: the operator should give this "
                    "system a role that may only read."
                )
            self._asked = True
        return self._warning

    def _rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._transaction(CATALOG_SECONDS) as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return list(cursor.fetchall())

    @contextmanager
    def _transaction(
        self, seconds: float, *, write: bool = False
    ) -> Iterator[pymysql.connections.Connection[Any]]:
        try:
            connection = pymysql.connect(
                **self._address,
                charset="utf8mb4",
                connect_timeout=CONNECT_SECONDS,
                read_timeout=int(seconds) + LOCK_SECONDS,
                write_timeout=CONNECT_SECONDS,
                local_infile=False,
                autocommit=False,
                sql_mode=_MODE,
                program_name="usrland",
            )
        except (pymysql.Error, OSError, UnicodeError) as error:
            # the driver's text names host, port and role; they are the operator's business
            raise Unavailable("the database cannot be connected to.", unsent=True) from error
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT version()")
                _limit(cursor, str((cursor.fetchone() or ("",))[0]), seconds)
                cursor.execute(
                    f"SET SESSION sql_mode = CONCAT(@@sql_mode,"
                    f" IF(FIND_IN_SET('{_STRICT_GROUPS}', @@GLOBAL.sql_mode), ',{_STRICT_GROUPS}', '')),"
                    f" innodb_lock_wait_timeout = {LOCK_SECONDS}, lock_wait_timeout = {LOCK_SECONDS}"
                )
                cursor.execute(f"SET SESSION TRANSACTION READ {'WRITE' if write else 'ONLY'}")
                cursor.execute(f"START TRANSACTION READ {'WRITE' if write else 'ONLY'}")
            yield connection
        except pymysql.Error as error:
            raise _ours(error, seconds) from error
        finally:
            # closing takes back what was not committed, and stops what is still being sent
            with suppress(pymysql.Error):
                connection._force_close()  # type: ignore[attr-defined]  # close() would read all rows first


def _limit(cursor: Any, version: str, seconds: float) -> None:
    if "mariadb" in version.lower():
        cursor.execute(f"SET SESSION max_statement_time = {seconds:g}")
    else:
        cursor.execute(f"SET SESSION max_execution_time = {int(seconds * 1000)}")


def _filled(connection: Any, sql: str, parameters: Sequence[Any]) -> str:
    """The statement with its values, quoted by the driver for this connection's mode."""
    texts, numbers = split(sql)
    if set(numbers) != set(range(1, len(parameters) + 1)):
        raise InvalidInput("parameters: give one value for each of $1, $2 … in the statement.")
    values = [connection.escape(_bound(parameters[number - 1])) for number in numbers]
    return "".join(part for pair in zip(texts, [*values, ""], strict=True) for part in pair)


def _bound(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value


def _quoted(*names: str) -> str:
    return ".".join("`" + name.replace("`", "``") + "`" for name in names)


def _ours(error: pymysql.Error, seconds: float) -> Exception:
    code = error.args[0] if error.args else 0
    text = str(error.args[1]) if len(error.args) > 1 else "it failed"
    match code:
        case 1969 | 3024 | 1317:
            return Timeout(f"the statement was stopped after {seconds:g} seconds.", fix="Narrow it.")
        case 1205 | 1213:
            return Unavailable("somebody else holds a lock on what the statement needs.")
        case 1142 | 1143 | 1044 | 1227 | 1792 | 1290 | 1370:
            return Denied(f"the database refuses: {text}.")
        case 1146 | 1051:
            return NotFound(f"{text}.", fix="The operation tables lists the tables there are.")
        case 2006 | 2013 | 2014 | 2055 | 1053 | 1040:
            return Unavailable("the connection to the database broke or the statement took too long.")
    if isinstance(error, pymysql.err.IntegrityError):
        return Conflict(f"{text}.")
    return InvalidInput(f"the database says: {text}.")
