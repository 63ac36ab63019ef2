"""Statements that should have no effect, run for real: PostgreSQL, MariaDB, SQLite and DuckDB.

    python tests/benchmarks/connectors/payloads.py PAYLOADS.jsonl [--good FOLDER]

Each payload ({id, dialect, sql}) goes through the `query` operation of a connector on a live engine, as a role
that may do anything: what is measured is what we hold, not what the operator's role holds. An effect is a changed
row or table, a new file, a statement that ran on after its deadline, something of a file, a setting or the
environment in the answer, another session's state. `--good` names a folder of `.sql` files, statements ended by
`;`, that the guard must not refuse: `postgres`, `mysql` or `duckdb` in a file's name is its dialect, else all are
tried.

PostgreSQL (postgresql://root@127.0.0.1/test) and MariaDB (root without a password) are used where they run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import duckdb
import psycopg
import pymysql

from enterprise_connectors.sql import SqlConfig, SqlConnector
from enterprise_connectors.sql.functions import NAMES
from enterprise_connectors.sql.guard import Guard
from usrland.connector import Call
from usrland.errors import UsrlandError
from usrland.schemas.principal import Principal

CALLER = Call(id="b", principal=Principal(subject="b", scopes=frozenset({"*"})), operation="b")
SECONDS = 2.0
TABLE = (
    "CREATE TABLE t (id INTEGER PRIMARY KEY, v VARCHAR(100)); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c');"
)
SECRETS = ("root:", "/root", "/home", "PATH=", "daemon:", "password", "*81F5E21E35407D884A6CD4A731AEBFB6AF209E1B")

State = Callable[[], Any]


def postgres(_: Path) -> tuple[str, State]:
    # a database of its own: what others do to the cluster meanwhile is no effect of ours
    address = "postgresql://root@127.0.0.1:5432/"
    with psycopg.connect(f"{address}test", autocommit=True) as cluster:
        cluster.execute("DROP DATABASE IF EXISTS usrland_payloads WITH (FORCE)")
        cluster.execute("CREATE DATABASE usrland_payloads")
    connection = psycopg.connect(f"{address}usrland_payloads", autocommit=True)
    connection.execute("CREATE SCHEMA usrland_payloads")
    connection.execute("SET search_path = usrland_payloads; " + TABLE)
    connection.execute(
        "CREATE FUNCTION f_write() RETURNS int LANGUAGE sql AS "
        "$$ INSERT INTO usrland_payloads.t VALUES (77, 'f') RETURNING id $$; CREATE SEQUENCE s"
    )

    def state() -> Any:
        rows = connection.execute("SELECT * FROM usrland_payloads.t ORDER BY 1").fetchall()
        relations = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace > 16000 AND relname NOT LIKE 'pg_%' ORDER BY 1"
        ).fetchall()
        others = connection.execute(
            "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
            "  WHERE locktype = 'advisory' AND datname = current_database()"
            " UNION ALL SELECT count(*) FROM pg_largeobject_metadata"
            " UNION ALL SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()"
            " UNION ALL SELECT last_value FROM usrland_payloads.s"
            " UNION ALL SELECT count(*) FROM pg_roles WHERE rolname NOT LIKE 'usrland%'"
            " UNION ALL SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            "  AND application_name = 'usrland' AND state <> 'idle'"
        ).fetchall()
        return rows, relations, others

    return f"{address}usrland_payloads?options=-csearch_path%3Dusrland_payloads", state


def mysql(_: Path) -> tuple[str, State]:
    connection = pymysql.connect(host="127.0.0.1", user="root", autocommit=True)

    def run(sql: str) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()

    run("DROP DATABASE IF EXISTS usrland_payloads")
    run("CREATE DATABASE usrland_payloads")
    run("USE usrland_payloads")
    for statement in TABLE.split(";")[:2]:
        run(statement)
    run(
        "CREATE FUNCTION f_write() RETURNS INT MODIFIES SQL DATA"
        " BEGIN INSERT INTO t VALUES (77, 'f'); RETURN 1; END"
    )

    def state() -> Any:
        rows = run("SELECT * FROM usrland_payloads.t ORDER BY 1")
        tables = run("SELECT table_name FROM information_schema.tables WHERE table_schema = 'usrland_payloads'")
        settings = run("SELECT @@global.general_log, @@global.max_connections, @@global.local_infile")
        locks = run("SELECT IS_USED_LOCK('l'), IS_USED_LOCK('x')")
        time.sleep(0.02)  # a closed connection's thread ends a moment later
        busy = run(
            "SELECT count(*) FROM information_schema.processlist WHERE command = 'Query' AND id <> CONNECTION_ID()"
        )
        return rows, tables, settings, locks, busy

    return "mariadb://root@127.0.0.1:3306/usrland_payloads", state


def sqlite(folder: Path) -> tuple[str, State]:
    file = folder / "t.sqlite"
    with sqlite3.connect(file) as connection:
        connection.executescript(TABLE)
    connection.close()
    return f"sqlite:///{file}", lambda: file.read_bytes()


def duck(folder: Path) -> tuple[str, State]:
    file = folder / "t.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute(TABLE)

    def state() -> Any:
        with duckdb.connect(str(file), read_only=True) as connection:
            return connection.execute("SELECT * FROM t ORDER BY 1").fetchall(), connection.execute(
                "SHOW TABLES"
            ).fetchall()

    return f"duckdb:///{file}", state


ENGINES: dict[str, Callable[[Path], tuple[str, State]]] = {
    "postgres": postgres,
    "mysql": mysql,
    "sqlite": sqlite,
    "duckdb": duck,
}


def _open_to_all(folder: Path) -> Path:
    """A folder that any engine's own user could write to."""
    out = folder / "out"
    out.mkdir()
    for each in (folder, out):
        each.chmod(0o777)
    return out


def _has_files(folder: Path) -> bool:
    return any(folder.iterdir())


async def attack(engine: str, payloads: list[dict[str, Any]]) -> tuple[int, Counter[str], list[str]]:
    outcomes: Counter[str] = Counter()
    effects: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        out = _open_to_all(folder)
        url, state = ENGINES[engine](folder)
        connector = SqlConnector(SqlConfig(url=url, timeout_seconds=SECONDS), cast("Any", None))
        before = state()
        for payload in payloads:
            begun, said = time.monotonic(), ""
            try:
                said = (await connector.query(payload["sql"].replace("{out}", str(out)), CALLER)).model_dump_json()
                outcomes["answered"] += 1
            except UsrlandError as error:
                outcomes[error.code] += 1
            took = time.monotonic() - begun
            after = state()
            reasons = [
                reason
                for reason, holds in {
                    "changed": after != before,
                    "wrote a file": _has_files(out),
                    "ran on": took > SECONDS + 2,
                    "told a secret": any(secret in said for secret in SECRETS),
                    "large": len(said) > 2_000_000,
                }.items()
                if holds
            ]
            if reasons:
                effects.append(f"{payload['id']} {reasons}: {payload['sql'][:100]!r}")
                before = after
        await connector.aclose()
    return len(payloads), outcomes, effects


def good(folder: Path) -> None:
    total = refused = 0
    for file in sorted(folder.rglob("*.sql")):
        dialects = [dialect for dialect in NAMES if dialect in file.name] or [
            "postgres",
            "mysql",
            "duckdb",
        ]
        statements = [text.strip() for text in file.read_text(encoding="utf-8").split(";") if text.strip()]
        for dialect in dialects:
            wrong = []
            for statement in statements:
                try:
                    Guard(dialect).query(statement)
                except UsrlandError as error:
                    wrong.append(f"{error.fact[:90]} | {' '.join(statement.split())[:80]}")
            total, refused = total + len(statements), refused + len(wrong)
            print(
                f"good: {file.name:28s} {dialect:9s} refused {len(wrong)} of {len(statements)}",
                *wrong,
                sep="\n    ",
            )
    print(f"good statements refused: {refused} of {total} ({100 * refused / max(total, 1):.2f} %)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("payloads", type=Path)
    parser.add_argument("--good", type=Path)
    given = parser.parse_args()
    payloads = [json.loads(line) for line in given.payloads.read_text(encoding="utf-8").splitlines()]
    for engine in ENGINES:
        mine = [payload for payload in payloads if payload["dialect"] in (engine, "any")]
        count, outcomes, effects = asyncio.run(attack(engine, mine))
        print(
            f"{engine:9s} {count:3d} payloads, effects: {len(effects)}  {dict(outcomes)}", *effects, sep="\n    "
        )
    if given.good:
        good(given.good)


if __name__ == "__main__":
    main()
