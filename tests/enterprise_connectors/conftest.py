"""Real systems to connect to: a SQLite file, PostgreSQL where it runs, and an HTTP server in this process."""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from enterprise_connectors.server import service
from usrland.connector import Call
from usrland.host import running
from usrland.schemas.principal import Principal
from usrland.settings import Settings

CUSTOMERS = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, city TEXT);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER REFERENCES customers(id), total NUMERIC(10, 2));
CREATE TABLE salaries (id INTEGER PRIMARY KEY, amount INTEGER);
CREATE VIEW cities AS SELECT city, count(*) AS customers FROM customers GROUP BY city;
INSERT INTO customers VALUES (1, 'Ada', 'Paris'), (2, 'Bob', 'Lyon'), (3, 'Cyd', 'Paris');
INSERT INTO orders VALUES (10, 1, 12.50), (11, 1, 7.25), (12, 2, 99.99);
INSERT INTO salaries VALUES (1, 5000);
"""

Run = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def call() -> Call:
    return Call(id="t", principal=Principal(subject="t", scopes=frozenset({"*"})), operation="x")


@pytest.fixture
def crm(tmp_path: Path) -> Path:
    """A SQLite database with customers and orders, and salaries that are nobody's business."""
    file = tmp_path / "crm.sqlite"
    connection = sqlite3.connect(file)
    connection.executescript(CUSTOMERS)
    connection.close()
    return file


@dataclass
class PostgresSchema:
    """A schema of its own and a role that may use only it."""

    url: str
    superuser_url: str
    execute: Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def postgres() -> Iterator[PostgresSchema]:
    psycopg = pytest.importorskip("psycopg")
    address = "127.0.0.1:5432/test"
    try:
        connection = psycopg.connect(f"postgresql://root@{address}", connect_timeout=2, autocommit=True)
    except psycopg.OperationalError:
        pytest.skip("PostgreSQL is not running here")
    name = f"usrland_{secrets.token_hex(4)}"

    def execute(sql: str) -> list[tuple[Any, ...]]:
        cursor = connection.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []

    with connection:
        execute(f"CREATE SCHEMA {name}; CREATE ROLE {name} LOGIN; SET search_path = {name}")
        try:
            execute(CUSTOMERS)
            execute("CREATE TABLE IF NOT EXISTS touched (id serial PRIMARY KEY, who text)")
            execute(
                "CREATE FUNCTION touch() RETURNS int LANGUAGE sql VOLATILE SECURITY DEFINER"
                f" AS $$ INSERT INTO {name}.touched (who) VALUES ('x') RETURNING id $$"
            )
            execute(f"GRANT USAGE ON SCHEMA {name} TO {name}; GRANT ALL ON ALL TABLES IN SCHEMA {name} TO {name}")
            options = f"?options=-csearch_path%3D{name}"
            yield PostgresSchema(
                url=f"postgresql://{name}@{address}{options}",
                superuser_url=f"postgresql://root@{address}{options}",
                execute=execute,
            )
        finally:
            execute(f"DROP SCHEMA {name} CASCADE; DROP ROLE {name}")


@dataclass
class MariaDatabase:
    """A database of its own, a role that may use only it, and root."""

    url: str
    root_url: str
    execute: Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def mariadb() -> Iterator[MariaDatabase]:
    pymysql = pytest.importorskip("pymysql")
    try:
        connection = pymysql.connect(host="127.0.0.1", user="root", connect_timeout=2, autocommit=True)
    except pymysql.err.OperationalError:
        pytest.skip("MariaDB is not running here")
    name = f"usrland_{secrets.token_hex(4)}"

    def execute(sql: str) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    with connection:
        for sql in (f"CREATE DATABASE {name}", f"CREATE USER {name}@'%'", f"USE {name}"):
            execute(sql)
        try:
            execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.* TO {name}@'%'")
            for statement in filter(str.strip, CUSTOMERS.split(";")):
                execute(statement)
            yield MariaDatabase(
                url=f"mariadb://{name}@127.0.0.1/{name}",
                root_url=f"mariadb://root@127.0.0.1/{name}",
                execute=execute,
            )
        finally:
            execute(f"DROP DATABASE {name}")
            execute(f"DROP USER {name}@'%'")


@pytest.fixture
def ducks(tmp_path: Path) -> Path:
    """The customers once more, in DuckDB."""
    duckdb = pytest.importorskip("duckdb")
    file = tmp_path / "crm.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute(CUSTOMERS)
    return file


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Tickets:
    """A ticket system: answers what `answers` says for a path, and remembers what it was asked."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)

    def answer(self, path: str, body: Any, status: int = 200, **headers: str) -> None:
        kind = {"content-type": "application/json", **{key.replace("_", "-"): v for key, v in headers.items()}}
        self.answers[path] = (status, kind, body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.fixture
def tickets() -> Iterator[Tickets]:
    system = Tickets()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {key.lower(): value for key, value in self.headers.items()}
            system.seen.append(Seen(self.command, self.path, headers, body))
            default = (404, {"content-type": "application/json"}, b'{"error": "no such thing"}')
            status, kind, content = system.answers.get(urlsplit(self.path).path, default)
            self.send_response(status)
            for key, value in kind.items():
                self.send_header(key, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the test output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    system.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield system
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Run]]:
    """Serve a `connectors.toml` and call its operations through the whole call path."""

    @asynccontextmanager
    async def serving(
        toml: str, scopes: frozenset[str] = frozenset({"*"}), **environment: str
    ) -> AsyncIterator[Run]:
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        (home / "connectors.toml").write_text(toml, encoding="utf-8")
        settings = Settings(home=home, environment=environment)
        caller = Principal(subject="ann", scopes=scopes, source="test")
        async with running(service(settings), settings, principal=caller) as host:

            async def run(operation: str, /, **arguments: Any) -> dict[str, Any]:
                return dict((await host.path.run(operation, arguments, principal=caller)).structured)

            host.first_contact.set()
            run.host = host  # type: ignore[attr-defined]  # for the tests that look at the listing
            yield run

    return serving
