"""The servers, a home for each with something in it, and the calls every client makes.

The calls only read, and each of them is one whose answer must not depend on the time or on who asks. Refusals
are among them: a host's model lives from what they say.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["CASES", "Ask", "Calls", "Case"]

Calls: TypeAlias = Sequence[tuple[str, Mapping[str, Any]]]
Ask: TypeAlias = Callable[[Calls], Mapping[str, Any]]
"""Makes calls over stdio and returns what was answered."""


@dataclass(frozen=True)
class Case:
    """One server."""

    name: str
    launch: Sequence[str]
    prepare: Callable[[Path, Ask], AbstractContextManager[Calls]]
    """Fills the home; what it opened stays open until the last client is done."""


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


# -- filesystem-retrieval

FILES = {
    "README.md": "# Harbour\n\nTwo cranes load ferries at night.\n\n## Costs\n\nA crane costs 40 euros.\n",
    "notes/größe – 日本語 🚢.md": "# Überfahrt\n\nDie Fähre fährt um 7 Uhr.\n\n船は七時。 🚢 “yes” \u2028 x\n",
    "notes/windows.txt": "first line\r\nsecond line, with a ferry\r\n\ttabbed\r\n",
    "src/crane.py": "class Crane:\n    def lift(self, tons: float) -> bool:\n        return tons <= 1e-07 * 4e8\n",
    "data/prices.csv": "what,price\ncrane,40.0\nferry,1200\n",
    "data/config.json": '{"ferries": [1, 2.0, null], "big": 9007199254740993}\n',
}
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
DOCUMENT = {
    "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.'
    'document.main+xml"/></Types>',
    "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/'
    'officeDocument" Target="word/document.xml"/></Relationships>',
    "word/document.xml": f'<w:document xmlns:w="{_WORD}"><w:body><w:p><w:r><w:t>The pilot boards the ferry at the '
    "outer buoy.</w:t></w:r></w:p></w:body></w:document>",
}
_INDEX = """
import sys, anyio
from pathlib import Path
from filesystem_retrieval.server import service
from usrland.settings import Settings
anyio.run(service(Settings.load(Path(sys.argv[1]))).state["index_once"])
"""


@contextmanager
def _files(home: Path, ask: Ask) -> Iterator[Calls]:
    root = home / "harbour"
    for name, text in FILES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="")
    with zipfile.ZipFile(root / "pilot.docx", "w") as document:
        for name, text in DOCUMENT.items():
            document.writestr(name, text)
    _configure(home, "filesystem-retrieval", roots={"harbour": str(root)})
    subprocess.run([sys.executable, "-c", _INDEX, str(home)], check=True)
    # fs_status is left out: it tells how far this very process is
    searches: Calls = [
        ("fs_search", {"query": "What does a crane cost?"}),
        ("fs_search", {"query": "Fähre", "mode": "lexical", "limit": 3}),
        ("fs_search", {"query": "the price of lifting cargo", "mode": "semantic", "glob": "*.md"}),
        ("fs_search", {"query": "quantum chromodynamics of neutron stars"}),
    ]
    yield [
        ("fs_list", {}),
        ("fs_list", {"root": "harbour", "glob": "**/*.md"}),
        *[("fs_read", {"root": "harbour", "path": name}) for name in [*FILES, "pilot.docx"]],
        ("fs_read", {"path": "harbour/README.md", "first_line": 5, "last_line": 7}),
        ("fs_grep", {"pattern": "ferry", "context_lines": 1}),
        ("fs_grep", {"pattern": r"\bcran\w+", "regex": True, "root": "harbour"}),
        *searches,
        ("fs_read", {"root": "harbour", "path": "../outside.txt"}),
        ("fs_read", {"root": "harbour", "path": "nowhere.md"}),
        ("fs_read", {"root": "harbour", "path": "README.md", "first_lines": 2}),
        ("fs_list", {"root": "harbour", "depth": 99}),
    ]


# -- enterprise-connectors

DATABASE = """
CREATE TABLE ships (id INTEGER PRIMARY KEY, name TEXT NOT NULL, tons REAL, registered INTEGER, note TEXT);
INSERT INTO ships VALUES (1, 'Ärger & Söhne', 12.5, 9007199254740993, 'née “Möwe” 🚢');
INSERT INTO ships VALUES (2, '海龍', 1e-07, -1, NULL);
INSERT INTO ships VALUES (3, 'Dover', 100.0, 0, 'tab	and
newline');
"""
API = {
    "openapi": "3.1.0",
    "info": {"title": "Berths", "version": "1"},
    "paths": {
        "/berths": {
            "get": {
                "operationId": "listBerths",
                "summary": "List the berths of the harbour",
                "parameters": [{"name": "free", "in": "query", "schema": {"type": "boolean"}}],
                "responses": {"200": {"description": "ok"}},
            }
        },
        "/berths/{id}": {
            "get": {
                "operationId": "getBerth",
                "summary": "One berth by its number",
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}],
                "responses": {"200": {"description": "ok"}},
            }
        },
    },
}
BERTHS: dict[str, Any] = {
    "/berths": {"berths": [{"id": 1, "name": "Süd", "depth": 7.0}, {"id": 2, "name": "北", "depth": 1.5e300}]},
    "/berths/1": {"id": 1, "name": "Süd", "depth": 7.0, "crane": None, "owner": {"id": 9007199254740993}},
}


class _Berths(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = BERTHS.get(self.path.partition("?")[0])
        body = json.dumps(found or {"error": "no such berth"}).encode()
        self.send_response(200 if found else 404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def _systems(home: Path, ask: Ask) -> Iterator[Calls]:
    database = home / "fleet.sqlite"
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(DATABASE)
    (home / "berths.json").write_text(json.dumps(API), encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Berths) as api:
        threading.Thread(target=api.serve_forever, daemon=True).start()
        (home / "connectors.toml").write_text(
            f'[fleet]\nkind = "sql"\nabout = "Ships"\nurl = "sqlite:///{database}"\n'
            f'[port]\nkind = "openapi"\nabout = "Berths"\nallow_private = true\nspec = "{home / "berths.json"}"\n'
            f'base_url = "http://127.0.0.1:{api.server_port}"\n',
            encoding="utf-8",
        )
        yield [
            ("sys_find", {"request": "which ships are there"}),
            ("sys_find", {"request": "list free berths", "limit": 2}),
            ("sys_find", {"request": "anything", "system": "nowhere"}),
            ("sys_describe", {"name": "fleet_query"}),
            ("sys_describe", {"name": "port_list_berths"}),
            ("sys_call", {"name": "fleet_tables", "arguments": {}}),
            ("sys_call", {"name": "fleet_query", "arguments": {"sql": "SELECT * FROM ships ORDER BY id"}}),
            ("sys_call", {"name": "fleet_describe", "arguments": {"table": "ships"}}),
            ("sys_call", {"name": "fleet_query", "arguments": {"sql": "DROP TABLE ships"}}),
            ("sys_call", {"name": "port_list_berths", "arguments": {"free": True}}),
            ("sys_call", {"name": "port_get_berth", "arguments": {"id": 1}}),
            ("sys_call", {"name": "port_get_berth", "arguments": {"id": 404}}),
            ("sys_call", {"name": "port_get_berth", "arguments": {"id": "1"}}),
            ("sys_call", {"name": "nothing_like_it", "arguments": {}}),
        ]
        api.shutdown()


# -- memory-snapshot

ITEMS = [
    {"text": "The ferry to Dover leaves at 07:00", "key": "ferry", "tags": ["plan"]},
    {"text": "Antworte auf Deutsch – „bitte“ 🚢", "kind": "preference", "source": {"origin": "direct_user"}},
    {"text": "We chose the northern berth because of its depth", "kind": "decision"},
]


@contextmanager
def _memories(home: Path, ask: Ask) -> Iterator[Calls]:
    said = ask(
        [
            ("memory_remember", {"items": ITEMS[:2]}),
            ("memory_snapshot", {"message": "planned the crossing", "items": ITEMS[2:], "reason": "handoff"}),
            ("memory_remember", {"items": [{"text": "The ferry to Dover leaves at 07:30", "key": "ferry"}]}),
        ]
    )
    taken = said["calls"][1]["structuredContent"]["id"]
    recalls: Calls = [
        ("memory_recall", {"query": "when does the ferry leave?"}),
        ("memory_recall", {"query": "Antworte auf Deutsch", "kinds": ["preference"]}),
    ]
    ask(recalls[:1])  # is asked again until nothing is missing: by then everything has its vector
    yield [
        *recalls,
        ("memory_history", {}),
        ("memory_history", {"key": "ferry"}),
        ("memory_restore", {}),
        ("memory_restore", {"ref": taken, "mode": "full"}),
        ("memory_recall", {"query": "ferry", "limit": 0}),
        ("memory_history", {"ref": "no-such-snapshot"}),
    ]


# -- common


def _configure(home: Path, server: str, **table: Any) -> None:
    lines = "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())
    (home / "usrland.toml").write_text(f"[{server}]\n{lines}", encoding="utf-8")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)


CASES: Sequence[Case] = (
    Case("filesystem-retrieval", _module("filesystem_retrieval"), _files),
    Case("enterprise-connectors", _module("enterprise_connectors"), _systems),
    Case("memory-snapshot", _module("memory_snapshot"), _memories),
)
