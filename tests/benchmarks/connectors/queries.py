"""Analytics queries that must not be refused, run for real on PostgreSQL, MariaDB, SQLite and DuckDB.

    python tests/benchmarks/connectors/queries.py [postgres mysql sqlite duckdb]

`queries/common.sql` and one file for each engine hold one statement a line, in the style of the engines' own
manuals. A statement counts where the engine itself takes it; then it has to go through the operation `query` of a
connector and give the same number of rows. PostgreSQL (postgresql://root@127.0.0.1/test) and MariaDB (root without
a password) are used where they run.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import duckdb
import psycopg
import pymysql

from enterprise_connectors.sql import SqlConfig, SqlConnector
from usrland.connector import Call
from usrland.errors import UsrlandError
from usrland.schemas.principal import Principal

QUERIES = Path(__file__).parent / "queries"
CALLER = Call(id="q", principal=Principal(subject="q", scopes=frozenset({"*"})), operation="q")
NAME = "usrland_queries"

Run = Callable[[str], int]
"""Runs a statement natively; how many rows it gave."""


def statements(file: str) -> list[str]:
    text = (QUERIES / file).read_text(encoding="utf-8")
    return [line.strip().removesuffix(";") for line in text.splitlines() if line.strip()]


def postgres(_: Path) -> tuple[str, Run]:
    address = os.environ.get("USRLAND_BENCHMARK_POSTGRESQL", "postgresql://root@127.0.0.1:5432/test")
    connection = psycopg.connect(address, autocommit=True)
    connection.execute(f"DROP SCHEMA IF EXISTS {NAME} CASCADE")
    connection.execute(f"CREATE SCHEMA {NAME}")
    connection.execute(f"SET search_path = {NAME}")
    return f"{address}?options=-csearch_path%3D{NAME}", lambda sql: _rows(connection.execute(cast("Any", sql)))


def mysql(_: Path) -> tuple[str, Run]:
    connection = pymysql.connect(host="127.0.0.1", user="root", autocommit=True)

    def run(sql: str) -> int:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return len(cursor.fetchall())

    run(f"DROP DATABASE IF EXISTS {NAME}")
    run(f"CREATE DATABASE {NAME}")
    run(f"USE {NAME}")
    return f"mariadb://root@127.0.0.1:3306/{NAME}", run


def sqlite(folder: Path) -> tuple[str, Run]:
    connection = sqlite3.connect(folder / "q.sqlite", isolation_level=None)
    return f"sqlite:///{folder / 'q.sqlite'}", lambda sql: len(connection.execute(sql).fetchall())


def duck(folder: Path) -> tuple[str, Run]:
    def run(sql: str) -> int:
        with duckdb.connect(str(folder / "q.duckdb")) as connection:
            return len(connection.execute(sql).fetchall())

    return f"duckdb:///{folder / 'q.duckdb'}", run


def _rows(cursor: Any) -> int:
    return len(cursor.fetchall()) if cursor.description is not None else 0


ENGINES = {"postgres": postgres, "mysql": mysql, "sqlite": sqlite, "duckdb": duck}


async def main(engines: list[str]) -> None:
    refused = total = 0
    for engine in engines:
        with tempfile.TemporaryDirectory() as folder:
            url, run = ENGINES[engine](Path(folder))
            for statement in statements("schema.sql"):
                run(statement)
            connector = SqlConnector(SqlConfig(url=url), cast("Any", None))
            counted, wrong = 0, []
            for sql in [*statements("common.sql"), *statements(f"{engine}.sql")]:
                try:
                    expected = run(sql)
                except Exception as error:  # not a query of this engine
                    print(f"  {engine} itself does not take: {sql[:90]} ({str(error).splitlines()[0][:80]})")
                    continue
                counted += 1
                try:
                    given = len((await connector.query(sql, CALLER)).items)
                    if given != expected:
                        wrong.append(f"{given} rows instead of {expected}: {sql}")
                except UsrlandError as error:
                    wrong.append(f"{error.fact}: {sql}")
            await connector.aclose()
            print(f"{engine}: {len(wrong)} of {counted} refused or different")
            for each in wrong:
                print(f"    {each[:220]}")
            refused, total = refused + len(wrong), total + counted
    print(f"in all {refused} of {total}: {refused / max(total, 1):.2%}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or list(ENGINES)))
