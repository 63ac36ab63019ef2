"""A kernel that means harm: random and adversarial calls by a caller with few grants, judged from outside.

The world has two tenants. `alpha` calls, with scopes to read; `beta` owns files, memories and a database whose
every text holds a canary. After the calls nothing of beta's may have been seen, nothing at all may have been
changed, and no call may have failed in a way that nobody foresaw.
"""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mcp import Client
from mcp.types import Tool

from enterprise_connectors.server import service as connectors
from filesystem_retrieval.server import service as files
from memory_snapshot.server import service as memory
from usrland import Principal, Service
from usrland.host import running
from usrland.settings import Settings

__all__ = ["SERVERS", "Findings", "World", "attack", "calling", "world"]

CANARY = "canary-7f3d9b"
ALPHA = Principal(
    subject="mallory",
    tenant="alpha",
    scopes=frozenset({"fs:read", "memory:read", "sys:find", "sys:call", "shop:read", "port:read"}),
    source="test",
)
BETA = Principal(subject="bob", tenant="beta", scopes=frozenset({"*"}), source="test")
SERVERS = ("filesystem-retrieval", "enterprise-connectors", "memory-snapshot")


@dataclass
class World:
    """What there is, and what it looked like before."""

    home: Path
    folders: Path
    services: Mapping[str, Service]
    requests: list[str] = field(default_factory=list)
    """What reached the HTTP system behind the connector."""

    def state(self) -> dict[str, str]:
        """Everything a call could change that is not the server's own bookkeeping."""
        made = {
            str(path.relative_to(self.folders)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.folders.rglob("*"))
            if path.is_file() and not path.is_symlink() and path.suffix not in (".sqlite", ".sqlite-journal")
        }
        for name in ("shop", "vault"):
            with closing(sqlite3.connect(f"file:{self.folders / name}.sqlite?mode=ro", uri=True)) as connection:
                made[name] = hashlib.sha256("\n".join(connection.iterdump()).encode()).hexdigest()
        return made

    async def remembered(self) -> int:
        """How many items beta has, read as beta."""
        settings = Settings(home=self.home)
        async with (
            running(memory(Settings.load(self.home, {})), settings, principal=BETA) as host,
            Client(host.server) as client,
        ):
            answer = await client.call_tool("memory_restore", {"mode": "full"})
        return int((answer.structured_content or {})["items"])


@dataclass
class Findings:
    """What went wrong. Nothing may be in here."""

    calls: int = 0
    answered: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    leaked: list[str] = field(default_factory=list)
    unforeseen: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        return [*self.leaked, *self.unforeseen, *self.changed]


SPEC: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Port", "version": "1"},
    "paths": {
        "/berths/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
            "get": {
                "operationId": "getBerth",
                "summary": "One berth",
                "responses": {"200": {"description": "ok"}},
            },
            "delete": {"operationId": "dropBerth", "responses": {"204": {"description": "gone"}}},
        },
        "/berths": {
            "get": {
                "operationId": "listBerths",
                "parameters": [{"name": "q", "in": "query", "schema": {"type": "string"}}],
                "responses": {"200": {"description": "ok"}},
            },
            "post": {"operationId": "addBerth", "responses": {"201": {"description": "made"}}},
        },
    },
}


@asynccontextmanager
async def calling(made: World, server: str, who: Principal) -> AsyncIterator[Client]:
    """A client of one kind of server in this world, whose caller is this one."""
    async with (
        running(made.services[server], Settings.load(made.home, {}), principal=who) as host,
        Client(host.server) as client,
    ):
        yield client


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """Two tenants with data, and three services over it."""
    home, folders = folder / "home", folder / "data"
    for name in ("alpha", "beta", "alpha-private"):
        (folders / name / "deep").mkdir(parents=True)
    (folders / "alpha" / "notes.md").write_text("# Notes\n\nThe ferry leaves at seven.\n", encoding="utf-8")
    (folders / "alpha" / "deep" / "code.py").write_text("def ferry():\n    return 7\n", encoding="utf-8")
    for name in ("beta", "alpha-private"):
        (folders / name / "notes.md").write_text(f"# Secret\n\nThe ferry {CANARY} leaves.\n", encoding="utf-8")
    (folders / "outside.txt").write_text(f"{CANARY} outside", encoding="utf-8")
    (folders / "alpha" / "link.md").symlink_to(folders / "beta" / "notes.md")
    (folders / "alpha" / "up").symlink_to(folders)
    _database(folders / "shop.sqlite", "ferry ticket")
    _database(folders / "vault.sqlite", CANARY)
    home.mkdir()
    with _port() as (address, requests):
        _configure(home, folders, address)
        settings = Settings.load(home, {})
        made = World(
            home,
            folders,
            {each.name: each for each in (files(settings), connectors(settings), memory(settings))},
            requests,
        )
        async with (
            running(memory(settings), settings, principal=BETA) as host,
            Client(host.server) as client,
        ):
            items = [{"text": f"The ferry {CANARY} number {number}", "key": f"k{number}"} for number in range(5)]
            await client.call_tool("memory_snapshot", {"message": CANARY, "items": items})
        yield made


async def attack(made: World, server: str, calls: int, seed: int) -> Findings:
    """Call that server's tools so often; what was seen."""
    chance, findings = random.Random(seed), Findings()
    before, kept = made.state(), await made.remembered()
    async with calling(made, server, ALPHA) as client:
        tools = (await client.list_tools()).tools
        for _ in range(calls):
            tool = chance.choice(tools)
            arguments = _arguments(chance, tool)
            result = await client.call_tool(tool.name, arguments)
            findings.calls += 1
            said = json.dumps([result.structured_content, [block.model_dump() for block in result.content]])
            if CANARY in said:
                findings.leaked.append(f"{tool.name}({json.dumps(arguments)[:300]}) answered {said[:300]}")
            if not result.is_error:
                findings.answered += 1
                continue
            code = (result.structured_content or {})["error"]["code"]
            findings.refused[code] += 1
            if code == "error":
                findings.unforeseen.append(f"{tool.name}({json.dumps(arguments)[:600]})")
    if made.state() != before:
        findings.changed.append("files or databases")
    if await made.remembered() != kept:
        findings.changed.append("memories")
    findings.changed += [line for line in made.requests if not line.startswith(("GET /berths", "GET /api/berths"))]
    return findings


# -- what is tried

_LINES = """
ferry
*
**/*
../beta/notes.md
../../data/beta/notes.md
beta/notes.md
/etc/passwd
link.md
up/beta/notes.md
up/outside.txt
alpha-private/notes.md
../alpha-private
%2e%2e/beta/notes.md
./././notes.md
notes.md/
//notes.md
file:///etc/passwd
..;/beta
deep/../../beta/notes.md
proc/self/root/etc/passwd
/proc/self/environ
~/x
$HOME
' OR 1=1 --
'; DROP TABLE secrets; --
SELECT * FROM secrets
SELECT * FROM ships
PRAGMA table_info(ships)
ATTACH DATABASE 'vault.sqlite' AS v
SELECT load_extension('x')
SELECT writefile('x', 'y')
SELECT readfile('/etc/passwd')
WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT count(*) FROM c
INSERT INTO ships VALUES (9, 'x')
DELETE FROM ships
UPDATE ships SET name = 'x' RETURNING name
SELECT 1; DROP TABLE ships
EXPLAIN SELECT * FROM ships
VALUES (1)
vacuum into 'copy.sqlite'
ships
secrets
sqlite_master
vault_query
shop_query
vault_tables
shop_tables
port_get_berth
port_drop_berth
port_add_berth
port_list_berths
vault
shop
HEAD
main
beta
alpha
docs
private
k1
0000000000000000000000000000000000000000000000000000000000000000
ffffffff
latest
2026-11-23
not a date
9999-99-99T99:99:99Z
hybrid
full
(a+)+$
(?<=x)y
[
{{7*7}}
${jndi:ldap://x}
<script>
id
1
1/../../admin
1?x=y
1#x
http://127.0.0.1:1/
a/b
..
"""
TEXTS: Sequence[str] = (
    *_LINES.strip().splitlines(),
    "",
    " ",
    CANARY[:6],
    r"..\beta\notes.md",
    r"C:\windows\win.ini",
    r"\\host\share",
    "\\",
    "notes.md\x00.txt",
    "．．/beta/notes.md",
    "\u202ereversed",
    "a" * 5_000,
    "é" * 300,
)
LIKELY = (
    "ferry",
    "notes.md",
    "deep/code.py",
    "docs",
    "SELECT * FROM ships",
    "ships",
    "shop_query",
    "vault_query",
    "k1",
)
"""What makes a call a good one now and then."""
GUESSES = ("sql", "table", "id", "q", "limit", "name", "search", "parameters", "url")
NUMBERS: Sequence[Any] = (0, 1, -1, 2, 7, 100, 10**6, 2**31, 2**53, 2**63, -(2**63), 1e308, 0.5)


def _arguments(chance: random.Random, tool: Tool) -> dict[str, Any]:
    properties: Mapping[str, Any] = tool.input_schema.get("properties", {})
    required = set(tool.input_schema.get("required", ()))
    made = {
        name: _value(chance, schema, 0)
        for name, schema in properties.items()
        if chance.random() < (0.97 if name in required else 0.25)
    }
    if chance.random() < 0.05:
        made[chance.choice(["tenant", "principal", "scopes", "namespace", "__class__", "self", "call"])] = "beta"
    return made


def _value(chance: random.Random, schema: Mapping[str, Any], depth: int) -> Any:
    if "enum" in schema and chance.random() < 0.8:
        return chance.choice(schema["enum"])
    kind = schema.get("type")
    if chance.random() < 0.08 or depth > 4:
        kind = chance.choice(["string", "integer", "boolean", "null"])
    match kind:
        case "string":
            return chance.choice(LIKELY if chance.random() < 0.3 else TEXTS)
        case "integer" | "number":
            return chance.choice(NUMBERS)
        case "boolean":
            return chance.random() < 0.5
        case "array":
            items = schema.get("items", {"type": "string"})
            return [_value(chance, items, depth + 1) for _ in range(chance.choice([0, 1, 1, 2, 5]))]
        case "object" if "properties" not in schema and chance.random() < 0.4:
            return {"sql": "SELECT * FROM ships"}
        case "object":
            properties = schema.get("properties") or {
                name: {"type": "string"} for name in chance.sample(GUESSES, 3)
            }
            return {name: _value(chance, inner, depth + 1) for name, inner in properties.items()}
        case _:
            return None


# -- what there is


def _configure(home: Path, folders: Path, address: str) -> None:
    (home / "port.json").write_text(json.dumps(SPEC), encoding="utf-8")
    roots = {
        "docs": {"folder": str(folders / "alpha"), "tenant": "alpha"},
        "private": {"folder": str(folders / "beta"), "tenant": "beta"},
    }
    lines = "".join(
        f'{name} = {{ folder = "{root["folder"]}", tenant = "{root["tenant"]}", writable = true }}\n'
        for name, root in roots.items()
    )
    (home / "usrland.toml").write_text(
        f'[filesystem-retrieval]\nembedding = "none"\n[filesystem-retrieval.roots]\n{lines}'
        '[memory-snapshot]\nembedding = "none"\n',
        encoding="utf-8",
    )
    (home / "connectors.toml").write_text(
        f'[shop]\nkind = "sql"\nwrite = true\nurl = "sqlite:///{folders / "shop.sqlite"}"\n'
        f'[vault]\nkind = "sql"\nurl = "sqlite:///{folders / "vault.sqlite"}"\n'
        f'[port]\nkind = "openapi"\nwrite = true\nallow_private = true\nspec = "{home / "port.json"}"\n'
        f'base_url = "{address}/api"\n',
        encoding="utf-8",
    )


def _database(file: Path, text: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE ships (id INTEGER PRIMARY KEY, name TEXT)")
        connection.execute("CREATE TABLE secrets (id INTEGER PRIMARY KEY, name TEXT)")
        connection.executemany("INSERT INTO ships VALUES (?, ?)", [(n, f"{text} {n}") for n in range(3)])
        connection.commit()


@contextmanager
def _port() -> Iterator[tuple[str, list[str]]]:
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            requests.append(f"{self.command} {self.path}")
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _answer

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()
