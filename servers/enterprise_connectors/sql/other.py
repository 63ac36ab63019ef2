"""Any other database, through its SQLAlchemy dialect, and only for reading.

What is known of such a database is what SQLAlchemy tells: how its parameters are written, which tables are
somebody's and not the system's, and for some how a read-only transaction is begun. So nothing here changes
anything, the guard refuses every function that it does not know and every table that SQLAlchemy does not list, and
each call has a connection of its own that is always rolled back. Where there is no read-only transaction `warning`
says so: there the role has to be one that may only read.

The deadline cancels the statement where the driver can, and closes the connection under it where it cannot. MySQL
is told of it, for its driver hears neither.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

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
)
from enterprise_connectors.sql.placeholders import split
from usrland.database import import_sqlmodel
from usrland.errors import Conflict, Denied, InvalidInput, NotFound, Timeout, Unavailable

if TYPE_CHECKING:
    import sqlalchemy
    from sqlalchemy.engine.interfaces import ReflectedColumn

__all__ = ["DIALECTS", "Other"]

CATALOG_SECONDS = 20.0
LATE_SECONDS = 3.0
LISTED_SECONDS = 60.0
"""How long the list of tables is believed."""

DIALECTS = {
    "access": "tsql", "athena": "athena", "awsathena": "athena", "bigquery": "bigquery",
    "clickhouse": "clickhouse", "clickhousedb": "clickhouse", "cockroachdb": "postgres",
    "databricks": "databricks", "db2": "postgres",
    "doris": "doris", "dremio": "dremio", "drill": "drill", "druid": "druid", "duckdb": "duckdb", "exa": "exasol",
    "firebird": "postgres", "hana": "postgres", "hive": "hive", "ibm_db_sa": "postgres", "mariadb": "mysql",
    "materialize": "materialize", "mssql": "tsql", "mysql": "mysql", "netezza": "postgres", "oracle": "oracle",
    "postgresql": "postgres", "presto": "presto", "redshift": "redshift", "risingwave": "risingwave",
    "singlestoredb": "singlestore", "snowflake": "snowflake", "spark": "spark", "sqlite": "sqlite",
    "starrocks": "starrocks", "teradatasql": "teradata", "trino": "trino", "vertica": "postgres",
}  # fmt: skip
"""SQLAlchemy's name of a database → what the parser calls its language, or the nearest that it knows."""

_READ_ONLY = {
    "postgresql": "SET TRANSACTION READ ONLY",
    "cockroachdb": "SET TRANSACTION READ ONLY",
    "mysql": "SET TRANSACTION READ ONLY",
    "mariadb": "SET TRANSACTION READ ONLY",
    "oracle": "SET TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = 1",
}
_PLANS = {"sqlite": "EXPLAIN QUERY PLAN "}
_NO_PLANS = frozenset({"oracle", "mssql", "firebird"})
_CANCELS = ("cancel", "interrupt", "cancel_operation")


class Other(Engine):
    """One database under one role."""

    def __init__(self, url: str, dialect: str, schemas: Iterable[str] = ()) -> None:
        """`schemas`: those besides the role's own whose tables may be listed."""
        import_sqlmodel()  # SQLAlchemy with it, in the one thread that may
        from sqlalchemy import create_engine, exc
        from sqlalchemy.pool import NullPool

        try:
            # no pool: what a session keeps is not known here, so no session is handed on
            self._engine = create_engine(url, poolclass=NullPool)
        except exc.NoSuchModuleError as error:
            raise Unavailable("this database needs its SQLAlchemy dialect: a package of its own.") from error
        except ModuleNotFoundError as error:
            raise Unavailable(f"this database needs its driver: pip install {error.name}.") from error
        except exc.ArgumentError as error:
            raise InvalidInput("url: it is not one of SQLAlchemy's.") from error
        self._dialect = dialect
        self._schemas = sorted(set(schemas))
        self._listing = threading.Lock()
        self._listed: tuple[float, list[Table]] = (0.0, [])
        self._name = self._engine.dialect.name.partition(".")[0]

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def reading(
        self, sql: str, parameters: Sequence[Any], limits: Limits
    ) -> Iterator[tuple[list[str], Iterable[Sequence[Any]]]]:
        with self._transaction(limits.seconds) as connection:
            statement, values = self._written(sql, parameters)
            if self._name in ("mysql", "mariadb"):
                self._limit(connection, limits)
            # rows as they come, where the driver can
            connection = connection.execution_options(stream_results=True, no_parameters=values is None)
            with connection.exec_driver_sql(statement, values) as rows:
                yield list(rows.keys()), islice(rows, limits.offset, None)

    def plan(self, sql: str, limits: Limits) -> list[str]:
        if self._name in _NO_PLANS:
            raise InvalidInput("this database tells its plans in another way; they are not read here.")
        asked = self._written(f"{_PLANS.get(self._name, 'EXPLAIN ')}{sql}", ())
        with self._transaction(limits.seconds) as connection:
            rows = connection.execution_options(no_parameters=True).exec_driver_sql(*asked)
            return [" ".join(str(value) for value in row if value is not None) for row in rows]

    def execute(self, sql: str, parameters: Sequence[Any], limits: Limits, *, commit: bool) -> Result:
        raise Denied("this database is only read here.")

    def tables(self, part: str = "") -> Iterator[Table]:
        for table in self._known():
            if part.lower() in (f"{table.schema}.{table.name}" if table.schema else table.name).lower():
                yield table

    def is_listed(self, name: str, schema: str) -> bool:
        """Whether there is such a table that is not the database's own."""
        wanted = (schema.lower(), name.lower())
        return any((table.schema.lower(), table.name.lower()) == wanted for table in self._known())

    def describe(self, table: Table, limits: Limits) -> Description:
        from sqlalchemy import inspect, select, text
        from sqlalchemy.sql.expression import table as named

        where = (table.name, table.schema or None)
        with self._transaction(CATALOG_SECONDS) as connection:
            inspector = inspect(connection)
            columns = [_column(column) for column in inspector.get_columns(*where)]
            keys = list(_keys(inspector, *where))
            chosen = (
                select(text("*")).select_from(named(table.name, schema=table.schema or None)).limit(SAMPLE_ROWS)
            )
            rows = connection.execute(chosen)
            return Description(columns=columns, keys=keys, sample=collect(list(rows.keys()), rows, limits))

    def can_take_back(self, table: str, schema: str) -> bool:
        return False

    def warning(self) -> str | None:
        if self._name in _READ_ONLY:
            return None
        return (
            "This database has no read-only transactions that are known here: "
            "the operator should give this system a role that may only read."
        )

    def _known(self) -> list[Table]:
        from sqlalchemy import inspect

        with self._listing:
            since, tables = self._listed
            if time.monotonic() - since > LISTED_SECONDS or not tables:
                with self._transaction(CATALOG_SECONDS) as connection:
                    inspector = inspect(connection)
                    tables = [
                        Table(name=name, schema=schema, kind=kind)
                        for schema in ("", *self._schemas)
                        for kind, names in (
                            ("table", inspector.get_table_names(schema or None)),
                            ("view", inspector.get_view_names(schema or None)),
                        )
                        for name in names
                    ]
                tables.sort(key=lambda table: (table.schema, table.name))
                self._listed = (time.monotonic(), tables)
            return tables

    def _written(self, sql: str, parameters: Sequence[Any]) -> tuple[str, Any]:
        """The statement as the driver takes it, and the values; None where it has none."""
        texts, numbers = split(sql, self._dialect)
        if set(numbers) != set(range(1, len(parameters) + 1)):
            raise InvalidInput("parameters: give one value for each of $1, $2 … in the statement.")
        if not numbers:
            return sql, None
        style = self._engine.dialect.paramstyle
        if style in ("format", "pyformat"):
            texts = [text.replace("%", "%%") for text in texts]
        marks = [_mark(style, position, number) for position, number in enumerate(numbers, start=1)]
        statement = "".join(part for pair in zip(texts, [*marks, ""], strict=True) for part in pair)
        if style in ("named", "pyformat"):
            return statement, {f"p{number}": parameters[number - 1] for number in numbers}
        return statement, tuple(parameters[number - 1] for number in numbers)

    def _limit(self, connection: sqlalchemy.Connection, limits: Limits) -> None:
        most = limits.offset + limits.max_rows + MAX_ROWS + 1
        # its driver reads a result to the end before it lets go of it
        connection.exec_driver_sql(f"SET SESSION sql_select_limit = {most}")
        is_mariadb = getattr(self._engine.dialect, "is_mariadb", False)
        connection.exec_driver_sql(
            f"SET SESSION max_statement_time = {limits.seconds:g}"
            if is_mariadb
            else f"SET SESSION max_execution_time = {int(limits.seconds * 1000)}"
        )

    @contextmanager
    def _transaction(self, seconds: float) -> Iterator[sqlalchemy.Connection]:
        from sqlalchemy import exc

        try:
            connection = self._engine.connect()
        except (exc.SQLAlchemyError, OSError, UnicodeError) as error:
            # the driver's text names host, port and role; they are the operator's business
            raise Unavailable("the database cannot be connected to.", unsent=True) from error
        stopped = threading.Event()
        # where the database itself stops in time, only after that
        late = LATE_SECONDS if self._name in ("mysql", "mariadb") else 0
        stop = threading.Timer(seconds + late, _stop, [connection, stopped])
        stop.daemon = True
        stop.start()
        try:
            if (begin := _READ_ONLY.get(self._name)) is not None:
                connection.exec_driver_sql(begin)
            yield connection
        except exc.NoSuchTableError as error:
            raise NotFound("there is no such table.", fix="The operation tables lists them.") from error
        except Exception as error:
            # a driver whose connection is closed under a statement fails in a way of its own
            if stopped.is_set() or "max_statement_time" in str(error):
                raise Timeout(f"the statement was stopped after {seconds:g} seconds.", fix="Narrow it.") from error
            if isinstance(error, exc.SQLAlchemyError):
                raise _ours(error) from error
            raise
        finally:
            stop.cancel()
            with suppress(Exception):  # takes back whatever was done; a stopped connection is beyond that
                connection.rollback()
            with suppress(Exception):
                connection.close()


def _mark(style: str, position: int, number: int) -> str:
    """What stands for a value, in the driver's way."""
    match style:
        case "format":
            return "%s"
        case "numeric":
            return f":{position}"
        case "numeric_dollar":
            return f"${position}"
        case "named":
            return f":p{number}"
        case "pyformat":
            return f"%(p{number})s"
        case _:
            return "?"


def _stop(connection: sqlalchemy.Connection, stopped: threading.Event) -> None:
    stopped.set()
    driver: Any = connection.connection.driver_connection
    cancel = next((getattr(driver, name) for name in _CANCELS if hasattr(driver, name)), driver.close)
    with suppress(Exception):  # a foreign driver; what was stopped says so itself
        cancel()


def _column(column: ReflectedColumn) -> Column:
    return Column(
        name=column["name"],
        type=str(column["type"]),
        nullable=bool(column.get("nullable", True)),
        default=column.get("default"),
        comment=column.get("comment"),
    )


def _keys(inspector: sqlalchemy.Inspector, name: str, schema: str | None) -> Iterator[str]:
    """Keys as SQL says them, as far as the dialect can tell."""
    with suppress(NotImplementedError):
        if primary := inspector.get_pk_constraint(name, schema)["constrained_columns"]:
            yield f"PRIMARY KEY ({', '.join(primary)})"
    with suppress(NotImplementedError):
        for unique in inspector.get_unique_constraints(name, schema):
            yield f"UNIQUE ({', '.join(unique['column_names'])})"
    with suppress(NotImplementedError):
        for key in inspector.get_foreign_keys(name, schema):
            theirs = f"{key['referred_table']}({', '.join(key['referred_columns'])})"
            yield f"FOREIGN KEY ({', '.join(key['constrained_columns'])}) REFERENCES {theirs}"


def _ours(error: Exception) -> Exception:
    from sqlalchemy import exc

    cause = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
    text = " ".join(str(cause).partition("\n")[0].split()) or type(cause).__name__
    if isinstance(error, exc.IntegrityError):
        return Conflict(f"{text}.")
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return Unavailable("the connection to the database broke.")
    if isinstance(error, exc.InterfaceError | exc.StatementError) and not isinstance(error, exc.DatabaseError):
        return InvalidInput("parameters: they do not fit the statement.", fix="Give plain values.")
    return InvalidInput(f"the database says: {text}.")
