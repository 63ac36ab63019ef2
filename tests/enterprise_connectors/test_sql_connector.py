from __future__ import annotations

import dataclasses
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import anyio
import jsonschema
import pytest

from enterprise_connectors.sql import SqlConfig, SqlConnector
from enterprise_connectors.sql.copies import Copies, copied
from enterprise_connectors.sql.engine import Limits
from usrland.connector import Call
from usrland.errors import Conflict, Denied, InvalidInput, NotFound, Timeout, Unavailable
from usrland.parameters import Parameters
from usrland.schemas.principal import Principal

LIMITS = Limits(max_rows=10, seconds=2.0, max_changed=10)

Make = Callable[..., SqlConnector]


_opened: list[Any] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Close every connector and engine that a test opened."""
    yield
    while _opened:
        opened = _opened.pop()
        if isinstance(opened, SqlConnector):
            anyio.run(opened.aclose)
        else:
            opened.close()


def connector(url: str, **keys: Any) -> SqlConnector:
    # SQL connectors have no use for the HTTP client
    made = SqlConnector(SqlConfig(url=url, **keys), cast("Any", None))
    _opened.append(made)
    return made


def engine_of_postgres(url: str) -> Any:
    from enterprise_connectors.sql.postgres import Postgres

    made = Postgres(url)
    _opened.append(made)
    return made


@pytest.fixture(params=["sqlite", "postgres", "mariadb", "duckdb"])
def make(request: pytest.FixtureRequest) -> Make:
    """A connector to the same data in each kind of database."""
    match request.param:
        case "sqlite":
            url = f"sqlite:///{request.getfixturevalue('crm')}"
        case "duckdb":
            url = f"duckdb:///{request.getfixturevalue('ducks')}"
        case "mariadb":
            url = request.getfixturevalue("mariadb").url
        case _:
            url = request.getfixturevalue("postgres").url
    return lambda **keys: connector(url, **keys)


async def test_a_query_gives_columns_and_rows_with_values_bound(make: Make, call: Call) -> None:
    rows = await make().query(
        "SELECT id, name FROM customers WHERE city = $1 AND id > $2 ORDER BY id", call, ["Paris", 1]
    )

    assert (rows.columns, rows.items, rows.more) == (["id", "name"], [[3, "Cyd"]], False)


async def test_rows_beyond_the_limit_are_said_and_reached_by_offset(make: Make, call: Call) -> None:
    first = await make(max_rows=2).query("SELECT id FROM customers ORDER BY id", call)
    rest = await make(max_rows=2).query(
        "SELECT id FROM customers ORDER BY id", dataclasses.replace(call, offset=2)
    )

    assert (first.items, first.more) == ([[1], [2]], True)
    assert (rest.items, rest.more) == ([[3]], False)


async def test_a_cut_result_goes_on_where_it_ended_whatever_was_changed_meanwhile(make: Make, call: Call) -> None:
    made, sql = make(max_rows=2), "SELECT id FROM customers ORDER BY id"
    await made.query(sql, call)
    await made.execute("DELETE FROM customers WHERE id = 3", call)
    rest = await made.query(sql, dataclasses.replace(call, offset=2))
    part = await made.query(sql, dataclasses.replace(call, offset=1))

    assert (rest.items, rest.more, rest.note) == ([[3]], False, None)
    assert part.items == [[2], [3]]


async def test_a_result_is_read_on_only_by_whoever_asked_and_only_for_a_while(
    make: Make, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, sql = make(max_rows=2), "SELECT id FROM customers ORDER BY id"
    await made.query(sql, call)
    await made.execute("DELETE FROM customers WHERE id = 3", call)
    eve = Principal(subject="eve", scopes=frozenset({"*"}))
    stranger = await made.query(sql, dataclasses.replace(call, offset=2, principal=eve))
    monkeypatch.setattr(made, "_copies", Copies(clock=lambda: time.monotonic() + 1_000))
    late = await made.query(sql, dataclasses.replace(call, offset=2))

    assert (stranger.items, late.items) == ([], [])
    assert "run again" in str(late.note)


async def test_an_answer_that_may_be_cut_is_read_on_without_another_query(make: Make, call: Call) -> None:
    made, sql = make(), "SELECT id, city FROM customers ORDER BY id"
    brief = dataclasses.replace(call, max_tokens=10)
    await made.query(sql, brief)
    await made.execute("UPDATE customers SET city = 'Nice' WHERE id = 3", call)
    rest = await made.query(sql, dataclasses.replace(brief, offset=1))

    assert rest.items == [[2, "Lyon"], [3, "Paris"]]


async def test_a_caller_may_ask_for_fewer_rows_but_not_for_more_than_configured(make: Make, call: Call) -> None:
    fewer = await make(max_rows=2).query("SELECT id FROM customers", call, max_rows=1)
    more = await make(max_rows=2).query("SELECT id FROM customers", call, max_rows=50)

    assert (len(fewer.items), len(more.items)) == (1, 2)


async def test_the_name_of_a_table_in_a_value_is_only_a_value(make: Make, call: Call) -> None:
    rows = await make().query(
        "SELECT count(*) FROM customers WHERE name = $1", call, ["x'; DROP TABLE customers; --"]
    )

    assert rows.items == [[0]]


async def test_a_long_value_is_shortened_and_said(make: Make, call: Call) -> None:
    text = "x" * 5_000
    rows = await make().query("SELECT lower($1) AS text", call, [text])

    assert rows.items[0][0] == "x" * 2_000 + "… (5000 characters)"
    assert "1 long values are shortened" in (rows.note or "")


async def test_a_statement_that_takes_too_long_is_stopped(make: Make, call: Call) -> None:
    many = ", ".join(f"customers c{number}" for number in range(24))
    endless = f"SELECT count(*) FROM {many} WHERE c0.id + c1.id + c23.id > c2.id * c3.id"

    with pytest.raises(Timeout, match=r"0\.3 seconds"):
        await make(timeout_seconds=0.3).query(endless, call)


@pytest.mark.parametrize(
    ("sql", "parameters", "error"),
    [
        ("SELECT nothing FROM customers", [], InvalidInput),
        ("SELECT * FROM missing", [], NotFound),
        ("SELECT id FROM customers WHERE name = $1", [], InvalidInput),
        ("SELECT id FROM customers WHERE id = $1", [{1, 2}], InvalidInput),
    ],
)
async def test_what_the_database_refuses_is_told(
    make: Make, call: Call, sql: str, parameters: list[Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await make().query(sql, call, parameters)


async def test_tables_are_listed_and_filtered(make: Make, call: Call) -> None:
    page = await make(tables=["customers", "orders"]).tables(call, "OMER")
    everything = await make().tables(call)

    names = [table.name.rpartition(".")[2] for table in everything.items]
    assert {"cities", "customers", "orders", "salaries"} <= set(names)
    assert [table.name.rpartition(".")[2] for table in page.items] in (["customers"], [])


async def test_a_table_is_described_with_its_keys_and_a_sample(make: Make, call: Call) -> None:
    subject = make()
    name = next(t.name for t in (await subject.tables(call)).items if t.name.endswith("orders"))

    described = await subject.describe(name, call)

    assert [column.name for column in described.columns] == ["id", "customer", "total"]
    assert any("PRIMARY KEY" in key and "(id)" in key for key in described.keys)
    assert any("FOREIGN KEY" in key and "customer" in key and "REFERENCES" in key for key in described.keys)
    assert len(described.sample) == 3


async def test_a_table_that_is_not_there_cannot_be_described(make: Make, call: Call) -> None:
    with pytest.raises(NotFound):
        await make().describe("customers; DROP TABLE customers; --", call)


async def test_a_plan_is_made_and_the_query_is_not_run(make: Make, call: Call) -> None:
    plan = await make().explain("SELECT * FROM customers WHERE id = 1", call)

    assert any("customers" in line for line in plan.lines)


async def test_a_dry_run_counts_and_changes_nothing(make: Make, call: Call) -> None:
    subject = make()

    preview = await subject.would_execute("UPDATE customers SET city = $1 WHERE city = 'Paris'", call, ["Rome"])

    assert preview.affected == 2
    assert [json.loads(row)["name"] for row in preview.examples] == ["Ada", "Cyd"]
    assert (await subject.query("SELECT count(*) FROM customers WHERE city = 'Rome'", call)).items == [[0]]


async def test_a_change_is_made_and_counted(make: Make, call: Call) -> None:
    subject = make()

    changed = await subject.execute("DELETE FROM orders WHERE customer = $1", call, [1])
    added = await subject.execute("INSERT INTO customers VALUES (9, 'Dan', 'Nice') RETURNING id, name", call)

    assert changed.affected == 2
    assert (added.affected, added.columns, added.rows) == (1, ["id", "name"], [[9, "Dan"]])
    assert (await subject.query("SELECT count(*) FROM orders", call)).items == [[1]]


async def test_a_change_of_too_many_rows_is_taken_back(make: Make, call: Call) -> None:
    subject = make(max_changed=2)

    with pytest.raises(Denied, match="3 rows"):
        await subject.execute("UPDATE customers SET city = 'Rome'", call)

    assert (await subject.query("SELECT count(*) FROM customers WHERE city = 'Rome'", call)).items == [[0]]


async def test_a_broken_rule_of_the_database_is_a_conflict(make: Make, call: Call) -> None:
    with pytest.raises(Conflict):
        await make().execute("INSERT INTO customers VALUES (1, 'Eve', 'Nice')", call)


async def test_check_proves_the_connection(make: Make) -> None:
    await make().check()


# -- each layer alone: what the engines refuse when no guard stands before them


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM customers",
        "SELECT amount FROM salaries",
        "WITH orders AS (SELECT amount FROM salaries) SELECT * FROM orders",
        "WITH cities AS (SELECT amount FROM salaries) SELECT * FROM cities",
        "ATTACH DATABASE '{out}' AS e",
        "VACUUM INTO '{out}'",
        "PRAGMA query_only = 0",
        "PRAGMA writable_schema = 1",
        "SELECT load_extension('{out}')",
        "SELECT name FROM sqlite_master",
        "SELECT 1; DELETE FROM customers",
        "CREATE TEMP TABLE t AS SELECT 1",
    ],
)
def test_sqlite_alone_refuses_what_reaches_further(crm: Path, tmp_path: Path, sql: str) -> None:
    from enterprise_connectors.sql.sqlite import Sqlite

    before = crm.read_bytes()
    engine = Sqlite(str(crm), lambda table: table in ("customers", "orders", "cities"))

    with pytest.raises((Denied, InvalidInput)):
        engine.query(sql.format(out=tmp_path / "evil.db"), (), LIMITS)

    assert crm.read_bytes() == before
    assert not (tmp_path / "evil.db").exists()


def test_sqlite_lets_a_listed_view_reach_its_tables(crm: Path) -> None:
    from enterprise_connectors.sql.sqlite import Sqlite

    engine = Sqlite(str(crm), lambda table: table == "cities")

    assert engine.query("SELECT * FROM cities ORDER BY city", (), LIMITS).rows == [["Lyon", 1], ["Paris", 2]]


@pytest.mark.parametrize("module", ["fts4", "fts5"])
@pytest.mark.parametrize("tables", [None, ["notes"]])
async def test_sqlites_full_text_is_searched(tmp_path: Path, call: Call, module: str, tables: Any) -> None:
    file = tmp_path / "notes.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute(f"CREATE VIRTUAL TABLE notes USING {module}(title, body)")
        connection.execute("INSERT INTO notes VALUES ('a', 'the red fox'), ('b', 'a grey wolf')")
        connection.execute("CREATE TABLE salaries (amount)")
    connection.close()
    subject = SqlConnector(SqlConfig(url=f"sqlite:///{file}", tables=tables), cast("Any", None))

    found = await subject.query("SELECT title FROM notes WHERE notes MATCH 'wolf'", call)
    assert found.items == [["b"]]
    if tables:
        for hidden in ("notes_content", "salaries"):
            with pytest.raises(Denied):
                await subject.query(f"SELECT * FROM {hidden}, notes", call)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM customers",
        "WITH x AS (DELETE FROM customers RETURNING id) SELECT * FROM x",
        "SELECT 1; DELETE FROM customers",
        "SELECT 1; COMMIT; DELETE FROM customers",
        "SELECT touch()",
        "SELECT * FROM customers FOR UPDATE",
        "SELECT pg_read_file('/etc/hostname')",
        "CREATE TABLE stolen AS SELECT 1",
        "COPY customers TO '/tmp/stolen'",
    ],
)
def test_postgres_alone_refuses_what_changes_or_reaches_further(postgres: Any, sql: str) -> None:
    with pytest.raises((Denied, InvalidInput)):
        engine_of_postgres(postgres.url).query(sql, (), LIMITS)

    assert postgres.execute("SELECT (SELECT count(*) FROM customers), (SELECT count(*) FROM touched)") == [(3, 0)]


def test_a_setting_of_one_call_never_reaches_the_next(postgres: Any) -> None:
    engine = engine_of_postgres(postgres.url)
    engine.query("SELECT set_config('application_name', 'mine', false)", (), LIMITS)

    assert engine.query("SELECT current_setting('application_name')", (), LIMITS).rows == [["usrland"]]


async def test_a_superuser_role_is_noted_in_the_answer(postgres: Any, call: Call) -> None:
    noted = await connector(postgres.superuser_url).query("SELECT 1", call)
    plain = await connector(postgres.url).query("SELECT 1", call)

    assert "superuser" in (noted.note or "")
    assert plain.note is None


async def test_every_postgres_type_becomes_json(postgres: Any, call: Call) -> None:
    rows = await connector(postgres.url).query(
        "SELECT 12.50::numeric, '2020-01-02'::date, true, NULL::int, ARRAY[1, 2], '{\"a\": [1]}'::jsonb, "
        "9007199254740993::bigint, 'NaN'::float8, '\\x0aff'::bytea, '1 day'::interval",
        call,
    )

    assert rows.items == [
        [
            "12.50",
            "2020-01-02",
            True,
            None,
            [1, 2],
            {"a": [1]},
            "9007199254740993",
            "nan",
            "\\x0aff",
            "1 day, 0:00:00",
        ]
    ]


async def test_an_object_is_bound_as_json(postgres: Any, call: Call) -> None:
    rows = await connector(postgres.url).query("SELECT $1::jsonb ->> 'a'", call, [{"a": "b"}])

    assert rows.items == [["b"]]


# -- MariaDB and DuckDB alone


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM customers",
        "SELECT 1; DELETE FROM customers",
        "SELECT * FROM customers INTO OUTFILE '{out}'",
        "INSERT INTO customers VALUES (8, 'x', 'y')",
        "SELECT $1",
    ],
)
def test_mariadb_alone_refuses_what_changes(mariadb: Any, tmp_path: Path, sql: str) -> None:
    from enterprise_connectors.sql.mariadb import MariaDb

    with pytest.raises((Denied, InvalidInput)):
        MariaDb(mariadb.url).query(sql.format(out=tmp_path / "out"), (), LIMITS)

    assert mariadb.execute("SELECT count(*) FROM customers") == [(3,)]


@pytest.mark.parametrize("quotes", ["'", '"', "`", "/* ", "-- "])
async def test_what_looks_like_a_placeholder_inside_text_is_text(mariadb: Any, call: Call, quotes: str) -> None:
    ends = {"/* ": " */", "-- ": "\n"}
    text = f"{quotes}$1{ends.get(quotes, quotes)}"
    sql = (
        f"SELECT $1 AS {text}"
        if quotes == "`"
        else f"SELECT $1 AS a {text}"
        if quotes in ends
        else f"SELECT {text}, $1"
    )

    rows = await connector(mariadb.url).query(sql, call, ["it's \\ 100 %s"])

    assert rows.items[0][-1] == "it's \\ 100 %s"


async def test_what_depends_on_a_key_may_be_selected_beside_it(mariadb: Any, call: Call) -> None:
    rows = await connector(mariadb.url).query(
        "SELECT c.name, count(*) FROM customers c JOIN orders o ON o.customer = c.id GROUP BY c.id", call
    )
    assert len(rows.items) == len(mariadb.execute("SELECT DISTINCT customer FROM orders"))


async def test_a_table_that_cannot_be_rolled_back_is_not_changed(mariadb: Any, call: Call) -> None:
    mariadb.execute("CREATE TABLE notes (id INTEGER) ENGINE = MyISAM")

    with pytest.raises(Denied, match="taken back"):
        await connector(mariadb.url).would_execute("INSERT INTO notes VALUES (1)", call)

    assert mariadb.execute("SELECT count(*) FROM notes") == [(0,)]


async def test_a_role_that_may_do_anything_is_noted(mariadb: Any, call: Call) -> None:
    noted = await connector(mariadb.root_url).query("SELECT 1", call)
    plain = await connector(mariadb.url).query("SELECT 1", call)

    assert "may only read" in (noted.note or "")
    assert plain.note is None


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM customers",
        "SELECT 1; DELETE FROM customers",
        "SELECT * FROM read_csv('{secret}')",
        "SELECT * FROM '{secret}'",
        "COPY customers TO '{secret}.out'",
        "ATTACH '{secret}.duckdb' AS o",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "PRAGMA database_list",
        "SELECT getenv('HOME')",
    ],
)
def test_duckdb_alone_refuses_what_reaches_further(ducks: Path, tmp_path: Path, sql: str) -> None:
    from enterprise_connectors.sql.duck import Duck

    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")

    with pytest.raises((Denied, InvalidInput)):
        Duck(str(ducks)).query(sql.format(secret=secret), (), LIMITS)

    assert sorted(file.name for file in tmp_path.iterdir()) == ["crm.duckdb", "secret.csv"]


# -- named queries


NAMED: dict[str, Any] = {
    "mine": {
        "description": "Customers of the caller's city",
        "sql": "SELECT name FROM customers WHERE city = :city AND id >= :least ORDER BY id",
        "bound": {"city": "namespace"},
        "parameters": {"least": {"type": "integer", "description": "From this number on"}},
    },
    "rename": {
        "description": "Rename one of the caller's customers",
        "sql": "UPDATE customers SET name = :name WHERE id = :id AND city = :city",
        "effect": "write",
        "bound": {"city": "namespace"},
        "parameters": {"name": {}, "id": {"type": "integer"}},
    },
}


async def test_a_named_query_sees_the_caller_and_the_kernel_does_not(make: Make, call: Call) -> None:
    caller = dataclasses.replace(call, principal=dataclasses.replace(call.principal, namespace="Paris"))
    subject = make(queries=NAMED)
    mine, rename = subject.operations()[:2]

    rows: Any = await mine.call(caller, least=2)
    preview: Any = await rename.preview(caller, name="Eve", id=2) if rename.preview else None
    others: Any = await rename.call(caller, name="Eve", id=2)
    own: Any = await rename.call(caller, name="Eve", id=3)

    assert rows.items == [["Cyd"]]
    assert Parameters(mine).own["properties"] == {
        "least": {"type": "integer", "description": "From this number on"}
    }
    assert (preview.affected, others.affected, own.affected) == (0, 0, 1)
    assert (rename.effect, rename.scopes) == ("write", frozenset({"sys:write"}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"sql": "SELECT :a", "description": "x"},
        {"sql": "SELECT 1", "description": "x", "bound": {"a": "subject"}},
        {"sql": "SELECT :a", "description": "x", "bound": {"a": "subject"}, "parameters": {"a": {}}},
        {"sql": "SELECT :a", "description": "x", "bound": {"a": "password"}},
    ],
)
def test_a_named_query_whose_names_do_not_fit_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        SqlConfig(url="sqlite:////x", queries={"q": wrong})


async def test_only_the_granted_tables_are_changed(make: Make, call: Call) -> None:
    subject = make(write_tables=["orders"])

    assert (await subject.would_execute("DELETE FROM orders WHERE id = 10", call)).affected == 1
    with pytest.raises(Denied, match="may be read and not changed"):
        await subject.would_execute("DELETE FROM customers WHERE id = 1", call)


async def test_a_connection_that_waited_is_used_again_and_a_dead_one_is_not(postgres: Any, call: Call) -> None:
    subject = connector(postgres.url)
    mine = "SELECT pg_backend_pid()"
    first = (await subject._read(mine, [], call, guarded=False)).items[0][0]
    again = (await subject._read(mine, [], call, guarded=False)).items[0][0]
    postgres.execute(f"SELECT pg_terminate_backend({first})")
    after = (await subject._read(mine, [], call, guarded=False)).items[0][0]

    assert first == again != after


# -- configuration


@pytest.mark.parametrize(
    "url", ["unheard://host/db", "sqlite:///relative.db", "crm.sqlite", "mysql://host", "duckdb:///relative"]
)
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="url"):
        connector(url)


async def test_a_database_that_is_not_there_is_unavailable_and_not_made(tmp_path: Path, call: Call) -> None:
    with pytest.raises(Unavailable):
        await connector(f"sqlite:///{tmp_path / 'none.sqlite'}").query("SELECT 1", call)

    assert not (tmp_path / "none.sqlite").exists()


async def test_an_unreachable_server_is_unavailable_and_named_nowhere(call: Call) -> None:
    pytest.importorskip("psycopg")

    with pytest.raises(Unavailable) as caught:
        await connector("postgresql://someone:pass-word-1@127.0.0.1:1/db").query("SELECT 1", call)

    assert "someone" not in str(caught.value)
    assert "pass-word-1" not in str(caught.value)


async def test_a_locked_database_is_unavailable(crm: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    monkeypatch.setattr("enterprise_connectors.sql.sqlite.BUSY_SECONDS", 0.05)
    holder = sqlite3.connect(crm, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(Unavailable, match="locked"):
            await connector(f"sqlite:///{crm}").execute("DELETE FROM orders", call)
    finally:
        holder.close()


def test_only_so_much_is_copied_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    copies, limits = Copies(clock=lambda: now[0]), dataclasses.replace(LIMITS, max_rows=2)
    long = copied(nullcontext((["n"], ([number] for number in range(20_000)))), limits)
    monkeypatch.setattr("enterprise_connectors.sql.copies.COPY_SECONDS", -1.0)
    slow = copied(nullcontext((["n"], ([number] for number in range(100)))), limits)
    for number in range(10):
        copies.keep("ann" if number < 5 else number, number, slow)

    assert (len(long.rows), long.cut) == (10_000, True)
    assert long.page(dataclasses.replace(limits, offset=9_999)).more
    assert (slow.page(limits).rows, slow.cut, len(slow.rows)) == ([[0], [1]], True, 3)
    assert [number for number in range(5) if copies.get("ann", number, 1)] == [2, 3, 4]
    assert copies.get(9, 9, 1) and not copies.get(9, 9, 50) and not copies.get(8, 9, 1)
    now[0] = 1_000.0
    copies.expire()
    assert not copies._kept


def test_every_default_fits_its_own_schema(crm: Path) -> None:
    for operation in connector(f"sqlite:///{crm}").operations():
        for schema in Parameters(operation).own["properties"].values():
            if "default" in schema:
                jsonschema.validate(schema["default"], schema, cls=jsonschema.Draft202012Validator)


async def test_each_caller_is_who_the_database_knows_them_as(postgres: Any) -> None:
    role = postgres.url.split("//")[1].split("@")[0]
    postgres.execute(
        "CREATE POLICY own ON customers USING (name = 'Ada'); ALTER TABLE customers ENABLE ROW LEVEL SECURITY"
    )
    subject = SqlConnector(
        SqlConfig.model_validate(
            {"url": postgres.superuser_url, "roles": {"map": {"acme": role, "gone": "no such role"}}}
        ),
        cast("Any", None),
    )

    def of(tenant: str) -> Call:
        return Call(id="t", principal=Principal(subject="t", tenant=tenant), operation="x")

    async def names(tenant: str) -> list[Any]:
        return [row[0] for row in (await subject.query("SELECT name FROM customers", of(tenant))).items]

    assert await names("acme") == ["Ada"]
    assert (await subject.describe(f"{role}.customers", of("acme"))).sample == [[1, "Ada", "Paris"]]
    with pytest.raises(Denied, match="no role in the database"):
        await names("other")
    with pytest.raises(Denied, match="no such role"):
        await names("gone")
    assert await names("acme") == ["Ada"]
    await subject.aclose()


async def test_only_as_many_tables_are_read_as_are_asked_for(tmp_path: Path, call: Call) -> None:
    file = tmp_path / "many.sqlite"
    with sqlite3.connect(file) as connection:
        connection.executescript("".join(f"CREATE TABLE t{number:05} (a);" for number in range(1_000)))
    connection.close()
    subject = SqlConnector(SqlConfig(url=f"sqlite:///{file}"), cast("Any", None))
    first = await subject.tables(call)
    last = await subject.tables(dataclasses.replace(call, offset=900))
    found = await subject.tables(call, "T0099")

    assert (len(first.items), first.more, first.total) == (200, True, None)
    assert (len(last.items), last.more, last.total) == (100, False, 1_000)
    assert [table.name for table in found.items] == [f"t{number:05}" for number in range(990, 1_000)]
    assert (await subject.describe("t00500", call)).columns[0].name == "a"
