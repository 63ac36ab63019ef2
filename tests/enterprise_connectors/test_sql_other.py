"""Databases that are reached through SQLAlchemy: the same layers, and no way to change anything."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from enterprise_connectors.sql import SqlConfig, SqlConnector
from enterprise_connectors.sql.engine import Limits
from enterprise_connectors.sql.guard import Guard
from enterprise_connectors.sql.other import Other
from usrland.connector import Call
from usrland.errors import Conflict, Denied, InvalidInput, NotFound, Timeout, Unavailable
from usrland.redact import redact

LIMITS = Limits(max_rows=10, seconds=2.0, max_changed=10)
Make = Callable[..., SqlConnector]


def connector(url: str, **keys: Any) -> SqlConnector:
    return SqlConnector(SqlConfig(url=url, **keys), cast("Any", None))


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def url(request: pytest.FixtureRequest) -> str:
    """The customers, by an address of SQLAlchemy's."""
    match request.param:
        case "sqlite":
            return f"sqlite+pysqlite:///{request.getfixturevalue('crm')}"
        case "mariadb":
            return str(request.getfixturevalue("mariadb").url).replace("mariadb://", "mariadb+pymysql://")
        case _:
            return str(request.getfixturevalue("postgres").url).replace("postgresql://", "postgresql+psycopg://")


async def test_a_query_gives_rows_with_values_bound(url: str, call: Call) -> None:
    rows = await connector(url).query(
        "SELECT name, '100% $1' AS text FROM customers WHERE city = $2 AND id > $1 ORDER BY id", call, [0, "Paris"]
    )

    assert (rows.columns, rows.items) == (["name", "text"], [["Ada", "100% $1"], ["Cyd", "100% $1"]])


async def test_a_percent_sign_without_values_stays_one(url: str, call: Call) -> None:
    rows = await connector(url).query("SELECT name FROM customers WHERE name LIKE '%d%' ORDER BY id", call)

    assert rows.items == [["Ada"], ["Cyd"]]


async def test_tables_and_columns_are_told(url: str, call: Call) -> None:
    made = connector(url, tables=["customers", "cities", "orders"])

    listed = await made.tables(call)
    orders = await made.describe("orders", call)

    assert {(table.name, table.kind) for table in listed.items} == {
        ("customers", "table"), ("orders", "table"), ("cities", "view"),
    }  # fmt: skip
    assert [column.name for column in orders.columns] == ["id", "customer", "total"]
    assert "PRIMARY KEY (id)" in orders.keys
    assert "FOREIGN KEY (customer) REFERENCES customers(id)" in orders.keys
    assert len(orders.sample) == 3


async def test_a_unique_key_is_told(url: str, call: Call) -> None:
    described = await connector(url).describe("customers", call)

    assert "UNIQUE (name)" in described.keys


async def test_a_plan_is_made(url: str, call: Call) -> None:
    plan = await connector(url).explain("SELECT name FROM customers WHERE id = 1", call)

    assert any("customers" in line for line in plan.lines)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM customers",
        "SELECT * FROM salaries",
        "SELECT * FROM sqlite_master",
        "SELECT * FROM sqlite_schema",
        "SELECT * FROM pg_class",
        "SELECT * FROM pg_catalog.pg_shadow",
        "SELECT * FROM mysql.user",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM somebody",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT load_extension('x')",
        "SELECT 1; DROP TABLE customers",
        "SELECT 1 /*!50000 INTO OUTFILE '/tmp/x' */",
        "WITH d AS (DELETE FROM customers RETURNING 1) SELECT * FROM d",
        "SELECT name FROM customers FOR UPDATE",
        "SELECT name INTO copies FROM customers",
    ],
)
async def test_what_is_more_than_a_plain_read_is_refused(url: str, sql: str, call: Call) -> None:
    with pytest.raises((Denied, InvalidInput)):
        await connector(url, tables=["customers", "orders"]).query(sql, call)


async def test_the_session_itself_takes_no_change(url: str, call: Call) -> None:
    other = Other(url, "sqlite")

    with pytest.raises(InvalidInput, match="the database says"):
        other.query("INSERT INTO customers VALUES (9, 'Eve', 'Rome')", (), LIMITS)
    other.close()

    assert (await connector(url).query("SELECT count(*) FROM customers", call)).items == [[3]]


async def test_there_is_no_operation_that_changes(url: str) -> None:
    assert [operation.name for operation in connector(url).operations()] == [
        "tables", "describe", "query", "explain",
    ]  # fmt: skip
    with pytest.raises(Denied, match="only read"):
        Other(url, "sqlite").execute("DELETE FROM customers", (), LIMITS, commit=True)
    with pytest.raises(InvalidInput, match="'forget' changes"):
        connector(url, queries={"forget": {"sql": "DELETE FROM orders", "description": "x", "effect": "destroy"}})
    with pytest.raises(InvalidInput, match="roles"):
        connector(url, roles={"map": {"a": "b"}})
    with pytest.raises(InvalidInput, match="roles"):
        Other(url, "sqlite").as_role("x")
    assert not Other(url, "sqlite").can_take_back("customers", "")


async def test_a_statement_that_takes_too_long_is_stopped(url: str, call: Call) -> None:
    many = ", ".join(f"customers c{number}" for number in range(24))
    endless = f"SELECT count(*) FROM {many} WHERE c0.id + c1.id + c23.id > c2.id * c3.id"

    with anyio.fail_after(60), pytest.raises(Timeout, match=r"0\.5 seconds"):
        await connector(url, timeout_seconds=0.5).query(endless, call)


async def test_rows_are_cut_and_reached_from_there(url: str, call: Call) -> None:
    made = connector(url, max_rows=2)

    first = await made.query("SELECT id FROM customers ORDER BY id", call)

    assert (first.items, first.more) == ([[1], [2]], True)


async def test_what_the_database_does_not_like_is_told(url: str, call: Call) -> None:
    with pytest.raises(InvalidInput, match="the database says"):
        await connector(url).query("SELECT nonsense FROM customers", call)
    with pytest.raises(InvalidInput, match="one value for each"):
        await connector(url).query("SELECT $1 FROM customers", call)
    with pytest.raises(NotFound):
        await connector(url).describe("nothing", call)


async def test_check_proves_the_connection(url: str) -> None:
    made = connector(url)
    await made.check()
    await made.aclose()


async def test_an_unreachable_server_is_unavailable_and_named_nowhere(call: Call) -> None:
    made = connector("postgresql+psycopg://someone:geheimnis@127.0.0.1:9/x")

    with pytest.raises(Unavailable) as refused:
        await made.query("SELECT 1", call)

    assert "someone" not in str(refused.value)
    assert redact("it is geheimnis") == "it is [redacted]"


def test_a_secret_in_the_rest_of_an_address_is_kept() -> None:
    connector("snowflake://me@account/db?private_key_pwd=uncommon-phrase")

    assert redact("uncommon-phrase") == "[redacted]"


async def test_a_database_without_its_dialect_or_driver_says_what_is_missing(call: Call) -> None:
    with pytest.raises(Unavailable, match="SQLAlchemy dialect"):
        await connector("trino+rest://host/catalog").query("SELECT 1", call)
    with pytest.raises(Unavailable, match="pip install pymssql"):
        await connector("mssql+pymssql://host/db").query("SELECT 1", call)
    with pytest.raises(InvalidInput, match="SQLAlchemy"):
        Other("nothing at all", "sqlite")


def test_a_language_is_said_where_it_does_not_follow() -> None:
    with pytest.raises(InvalidInput, match="is not known"):
        connector("unheard+of://host/db")
    with pytest.raises(InvalidInput, match="dialect"):
        connector("sqlite:////tmp/x", dialect="sqlite")
    connector("unheard+of://host/db", dialect="postgres")


def test_a_database_without_read_only_transactions_is_noted() -> None:
    class Foreign(Other):
        def __init__(self) -> None:
            self._name = "mssql"

    assert "may only read" in str(Foreign().warning())
    with pytest.raises(InvalidInput, match="plans"):
        Foreign().plan("SELECT 1", LIMITS)


@pytest.mark.parametrize(
    "dialect", ["tsql", "oracle", "snowflake", "clickhouse", "bigquery", "trino", "databricks"]
)
def test_good_queries_pass_in_every_language(dialect: str) -> None:
    guard = Guard(dialect, exists=lambda name, schema: (name.lower(), schema) == ("orders", ""))

    guard.query(
        "SELECT customer, sum(total) AS spent FROM orders WHERE total > $1 GROUP BY customer HAVING count(*) > 1"
    )
    guard.query("WITH big AS (SELECT * FROM orders WHERE total > 9) SELECT max(total) FROM big b ORDER BY 1")
    guard.query("SELECT id, row_number() OVER (PARTITION BY customer ORDER BY total DESC) AS n FROM Orders")


@pytest.mark.parametrize(
    ("dialect", "sql"),
    [
        ("tsql", "SELECT id FROM orders\nSHUTDOWN"),
        ("tsql", "SELECT id FROM orders\nDROP TABLE orders"),
        ("tsql", "SELECT id FROM orders EXEC xp_cmdshell 'x'"),
        ("tsql", "SELECT id commit FROM orders"),
        ("tsql", "SELECT * FROM OPENROWSET(BULK '/etc/passwd', SINGLE_CLOB) AS x"),
        ("tsql", "SELECT * FROM sys.tables"),
        ("tsql", "SELECT * FROM other.dbo.orders"),
        ("tsql", "SELECT * FROM orders WITH (TABLOCKX)"),
        ("tsql", "SELECT TOP 1 id INTO x FROM orders"),
        ("oracle", "SELECT utl_http.request('http://x') FROM orders"),
        ("oracle", "SELECT httpuritype('http://x').getclob() FROM orders"),
        ("oracle", "SELECT * FROM all_users"),
        ("oracle", "SELECT * FROM v$session"),
        ("oracle", "SELECT id FROM orders FOR UPDATE"),
        ("snowflake", "SELECT * FROM @stage/file.csv"),
        ("snowflake", "SELECT system$whitelist()"),
        ("clickhouse", "SELECT * FROM url('http://x', CSV)"),
        ("clickhouse", "SELECT id FROM orders INTO OUTFILE 'x'"),
        ("clickhouse", "SELECT id FROM orders SETTINGS max_execution_time = 0"),
        ("bigquery", "SELECT * FROM EXTERNAL_QUERY('c', 'SELECT 1')"),
        ("databricks", "SELECT * FROM parquet.`/etc/x`"),
        ("spark", "SELECT reflect('java.lang.Runtime', 'getRuntime')"),
        ("spark", "SELECT TRANSFORM(id) USING 'sh' FROM orders"),
        ("trino", "SELECT * FROM TABLE(system.query(query => 'SELECT 1'))"),
        ("hive", "SELECT id FROM orders CLUSTER BY id"),
    ],
)
def test_what_reaches_further_is_refused_in_every_language(dialect: str, sql: str) -> None:
    guard = Guard(dialect, exists=lambda name, schema: (name.lower(), schema) == ("orders", ""))

    with pytest.raises((Denied, InvalidInput)):
        guard.query(sql)


def test_a_broken_rule_is_a_conflict(tmp_path: Path) -> None:
    """Not reachable through the connector; a trigger or a function might do it."""
    from sqlalchemy.exc import IntegrityError

    from enterprise_connectors.sql.other import _ours

    assert isinstance(_ours(IntegrityError("x", None, sqlite3.IntegrityError("no"))), Conflict)


async def test_a_table_of_another_schema_is_listed_where_it_is_named(postgres: Any, call: Call) -> None:
    url = str(postgres.url).replace("postgresql://", "postgresql+psycopg://").partition("?")[0]
    schema = url.partition("://")[2].partition("@")[0]
    made = connector(url, tables=[f"{schema}.customers"])

    rows = await made.query(f"SELECT count(*) FROM {schema}.customers", call)
    listed = await made.tables(call)

    assert (rows.items, [table.name for table in listed.items]) == ([[3]], [f"{schema}.customers"])
    with pytest.raises(Denied):
        await made.query(f"SELECT count(*) FROM {schema}.orders", call)
