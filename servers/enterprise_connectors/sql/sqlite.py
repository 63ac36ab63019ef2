"""SQLite: the file is opened read-only, and every table and function a statement touches is asked about.

`mode=ro` and `query_only` alone still let `VACUUM INTO` and `ATTACH` write other files. The authorizer is
what closes that: SQLite itself asks before it compiles each access, after it has resolved every name.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

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
from enterprise_connectors.sql.functions import NAMES, named
from usrland.errors import Conflict, Denied, InvalidInput, NotFound, Timeout, Unavailable

__all__ = ["Sqlite"]

MAX_VALUE_BYTES = 4 * 1024 * 1024
STEPS_BETWEEN_CHECKS = 10_000
BUSY_SECONDS = 5.0

_READ_ACTIONS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE})
_CHANGE_ACTIONS = frozenset({sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE})

_UNFOLDING = ("json_each", "json_tree")

_SEARCHES = re.compile(r"(?i)\busing\s+(fts[345]|rtree(_i32)?|geopoly)\b")
_BEHIND = named("content segments segdir docsize stat data idx config node rowid parent")

Allows = Callable[[str], bool]
Authorizer = Callable[[int, str | None, str | None, str | None, str | None], int]


class Sqlite(Engine):
    """One database file. `allows` says which tables may be used."""

    def __init__(self, file: str, allows: Allows) -> None:
        self._file = Path(file)
        self._allows = allows

    @contextmanager
    def reading(
        self, sql: str, parameters: Sequence[Any], limits: Limits
    ) -> Iterator[tuple[list[str], Iterable[Sequence[Any]]]]:
        with self._connected(limits) as connection:
            self._guard(connection, sql)
            cursor = connection.execute(sql, _bound(parameters))
            yield [column[0] for column in cursor.description or ()], islice(cursor, limits.offset, None)

    def plan(self, sql: str, limits: Limits) -> list[str]:
        with self._connected(limits) as connection:
            self._guard(connection, sql)
            return [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]

    def execute(self, sql: str, parameters: Sequence[Any], limits: Limits, *, commit: bool) -> Result:
        with self._connected(limits, write=True) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.set_authorizer(self._authorizer(connection, write=True))
            cursor = connection.execute(sql, _bound(parameters))
            result = collect([column[0] for column in cursor.description or ()], cursor, limits)
            connection.set_authorizer(None)
            affected = connection.execute("SELECT changes()").fetchone()[0]
            refuse_too_many(affected, limits)
            connection.execute("COMMIT" if commit else "ROLLBACK")
            return Result(columns=result.columns, rows=result.rows, more=result.more, affected=affected)

    def tables(self, part: str = "") -> Iterator[Table]:
        with self._connected(None) as connection:
            for name, kind in connection.execute(
                "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view')"
                " AND instr(lower(name), lower(?)) ORDER BY name",
                (part,),
            ):
                yield Table(name=name, kind=kind)

    def describe(self, table: Table, limits: Limits) -> Description:
        name = quoted(table.name)
        with self._connected(limits) as connection:
            columns = connection.execute(f"PRAGMA table_info({name})").fetchall()
            references = connection.execute(f"PRAGMA foreign_key_list({name})").fetchall()
            unique = [
                [part[2] for part in connection.execute(f"PRAGMA index_info({quoted(index[1])})")]
                for index in connection.execute(f"PRAGMA index_list({name})").fetchall()
                if index[2] and index[3] == "u"
            ]
            cursor = connection.execute(f"SELECT * FROM {name} LIMIT {SAMPLE_ROWS}")  # nosec B608 # quoted
            sample = collect([column[0] for column in cursor.description], cursor, limits)
        primary = [column[1] for column in sorted(columns, key=lambda column: int(column[5])) if column[5]]
        return Description(
            columns=[
                Column(name=column[1], type=column[2], nullable=not column[3], default=column[4])
                for column in columns
            ],
            keys=[
                *([f"PRIMARY KEY ({', '.join(primary)})"] if primary else []),
                *(f"UNIQUE ({', '.join(parts)})" for parts in unique),
                *(f"FOREIGN KEY ({row[3]}) REFERENCES {row[2]}({row[4] or 'its key'})" for row in references),
            ],
            sample=sample,
        )

    @contextmanager
    def _connected(self, limits: Limits | None, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        connection = None
        try:
            connection = sqlite3.connect(
                f"{self._file.as_uri()}?mode={'rw' if write else 'ro'}",
                uri=True,
                isolation_level=None,
                timeout=BUSY_SECONDS,
            )
            connection.execute(f"PRAGMA query_only={0 if write else 1}")
            connection.execute("PRAGMA trusted_schema=0")
            connection.execute("PRAGMA foreign_keys=1")
            connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
            if limits is not None:
                _stop_after(connection, limits.seconds)
            yield connection
        except (sqlite3.Error, sqlite3.Warning, OverflowError) as error:
            raise _ours(error, limits) from error
        finally:
            if connection is not None:
                connection.close()  # takes back what was not committed

    def _guard(self, connection: sqlite3.Connection, sql: str) -> None:
        behind = self._searched(connection, sql)
        connection.set_authorizer(self._authorizer(connection, unfolds=_unfolded(connection, sql) | behind))

    def _searched(self, connection: sqlite3.Connection, sql: str) -> frozenset[str]:
        """The tables behind the full-text and R-tree tables that a statement names, made ready for it.

        Such a table reads others of its name (`docs_content` for `docs`), and prepares that at its first use.
        """
        virtual = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql LIKE 'CREATE VIRTUAL TABLE%'")
        behind: set[str] = set()
        for name, made in virtual.fetchall():
            if name.lower() in sql.lower() and self._allows(name) and _SEARCHES.search(made):
                with suppress(sqlite3.Error):  # the statement itself will say what is wrong
                    connection.execute(f"SELECT * FROM {quoted(name)} LIMIT 1").fetchall()  # nosec B608 # quoted
                behind.update(f"{name}_{part}" for part in _BEHIND)
        return frozenset(behind)

    def _authorizer(
        self, connection: sqlite3.Connection, *, write: bool = False, unfolds: frozenset[str] = frozenset()
    ) -> Authorizer:
        behind_views, triggers = self._behind(connection), self._triggers(connection) if write else frozenset()

        def reaches(table: str | None, source: str | None) -> bool:
            return (
                self._allows(table or "")
                or table in unfolds
                or (table, source) in behind_views
                or source in triggers
            )

        def ask(action: int, first: str | None, second: str | None, _: str | None, source: str | None) -> int:
            allowed = (
                action in _READ_ACTIONS
                or (action == sqlite3.SQLITE_PRAGMA and (first, second) == ("data_version", None))  # FTS5 asks
                or (action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in NAMES["sqlite"])
                or (action == sqlite3.SQLITE_READ and reaches(first, source))
                or (write and action in _CHANGE_ACTIONS and reaches(first, source))
            )
            return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

        return ask

    def _behind(self, connection: sqlite3.Connection) -> frozenset[tuple[str | None, str | None]]:
        """What the views that may be used read, as the authorizer will be asked about it.

        The name of the view alone would not do: a WITH query may take the same name.
        """
        found = connection.execute(
            "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view')"
        ).fetchall()
        if all(self._allows(name) for name, _ in found):
            return frozenset()
        reads: set[tuple[str | None, str | None]] = set()

        def note(action: int, first: str | None, _1: str | None, _2: str | None, source: str | None) -> int:
            if action == sqlite3.SQLITE_READ and source is not None:
                reads.add((first, source))
            return sqlite3.SQLITE_OK

        connection.set_authorizer(note)
        for name, kind in found:
            if kind == "view" and self._allows(name):
                with suppress(sqlite3.Error):  # a view over what is gone concerns only those who use it
                    connection.execute(f"EXPLAIN SELECT * FROM {quoted(name)}").close()  # nosec B608 # quoted
        connection.set_authorizer(None)
        return frozenset(reads)

    def _triggers(self, connection: sqlite3.Connection) -> frozenset[str]:
        """The triggers of the tables that may be used: what they do is their owner's decision."""
        found = connection.execute("SELECT name, tbl_name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        return frozenset(name for name, table in found if self._allows(table))


def _unfolded(connection: sqlite3.Connection, sql: str) -> frozenset[str]:
    """Which of the functions that unfold JSON into rows a statement names, made ready for it.

    SQLite makes each a table at its first use, and asks for that what it asks for a change of the schema. Where a
    table of that name is there, it is meant.
    """
    named = frozenset(name for name in _UNFOLDING if name in sql.lower())
    if not named:
        return named
    places = ", ".join("?" * len(named))
    taken = connection.execute(f"SELECT name FROM sqlite_schema WHERE lower(name) IN ({places})", tuple(named))  # nosec B608 # only ?
    free = named - {str(name).lower() for (name,) in taken}
    for name in free:
        connection.execute(f"SELECT 1 FROM {name}('[]') LIMIT 0").close()  # nosec B608 # from our own list
    return free


def _stop_after(connection: sqlite3.Connection, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_BETWEEN_CHECKS)


def _bound(parameters: Sequence[Any]) -> dict[str, Any]:
    return {str(number): value for number, value in enumerate(parameters, start=1)}


def _ours(error: Exception, limits: Limits | None) -> Exception:
    text = str(error)
    match text:
        case "interrupted":
            seconds = limits.seconds if limits else 0.0
            return Timeout(f"the statement was stopped after {seconds:g} seconds.", fix="Narrow it.")
        case _ if "not authorized" in text or "prohibited" in text:
            return Denied("the statement uses a table or a function that is not available.")
        case "attempt to write a readonly database":
            return Denied("the statement would change the database.")
        case _ if text.startswith(("unable to open", "database is locked", "database disk image", "file is not")):
            return Unavailable(f"the database cannot be used: {text}.")
    if isinstance(error, sqlite3.IntegrityError):
        return Conflict(f"{text}.")
    if text.startswith("no such table"):
        return NotFound(f"{text}.", fix="The operation tables lists the tables there are.")
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError | OverflowError):
        return InvalidInput(
            "parameters: they do not fit the statement.",
            fix="Write $1, $2 … in it and give one plain value for each.",
        )
    return InvalidInput(f"the database says: {text}.")
