"""What a home keeps can be looked over, copied while servers run, and brought back: the drill."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from typer.testing import CliRunner

from filesystem_retrieval.server import service as files
from memory_snapshot.server import service as memory
from usrland.cli import application
from usrland.errors import UsrlandError
from usrland.host import running
from usrland.settings import Settings

Usrland = Callable[..., str]
TEXTS = [f"The ferry number {number} leaves at {number % 24}:00 from the north quay." for number in range(40)]


@pytest.fixture
def usrland(monkeypatch: pytest.MonkeyPatch) -> Usrland:
    def run(home: Path, *arguments: str, exit_code: int = 0) -> str:
        monkeypatch.setenv("USRLAND_HOME", str(home))
        done = CliRunner().invoke(application(arguments[:1]), list(arguments))
        if isinstance(done.exception, UsrlandError):
            assert exit_code == 1, done.exception
            return str(done.exception)
        assert done.exit_code == exit_code, (done.output, done.exception)
        return done.output

    return run


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with memories, files and their versions, and the calls that made them."""
    top = tmp_path_factory.mktemp("lived-in")
    anyio.run(_live, top)
    return top


async def _live(top: Path) -> None:
    home, docs = top / "home", top / "docs"
    docs.mkdir()
    home.mkdir()
    for number, text in enumerate(TEXTS):
        (docs / f"{number}.md").write_text(f"# {number}\n\n{text}\n" * 5, encoding="utf-8")
    (home / "usrland.toml").write_text(
        '[filesystem-retrieval]\nembedding = "none"\n'
        f'roots = {{ docs = {{ folder = "{docs}", writable = true }} }}\n'
        '[memory-snapshot]\nembedding = "none"\n',
        encoding="utf-8",
    )
    settings = Settings.load(home, {})
    service = files(settings)
    await service.state["index_once"]()
    async with running(service, settings) as host, Client(host.server) as client:
        for number in range(5):
            arguments = {"path": f"docs/new{number}.md", "content": TEXTS[number] * 20}
            assert not (await client.call_tool("fs_write", arguments)).is_error
    async with running(memory(settings), settings) as host, Client(host.server) as client:
        items = [{"text": text} for text in TEXTS]
        assert not (await client.call_tool("memory_remember", {"items": items[:20]})).is_error
        assert not (await client.call_tool("memory_snapshot", {"message": "m", "items": items[20:]})).is_error


async def restored(home: Path) -> str:
    settings = Settings.load(home, {})
    async with running(memory(settings), settings) as host, Client(host.server) as client:
        arguments = {"mode": "full", "budget_tokens": 20_000}
        return str((await client.call_tool("memory_restore", arguments)).structured_content["text"])


def test_a_copy_made_while_servers_run_brings_everything_back(
    lived_in: Path, tmp_path: Path, usrland: Usrland
) -> None:
    home, copy, new = lived_in / "home", tmp_path / "copy", tmp_path / "new"

    async def under_way() -> str:
        settings = Settings.load(home, {})
        async with running(memory(settings), settings) as host, Client(host.server) as client:
            await client.call_tool("memory_remember", {"items": [{"text": "Said before the copy."}]})
            said = await anyio.to_thread.run_sync(usrland, home, "backup", str(copy))
            await client.call_tool("memory_remember", {"items": [{"text": "Said after the copy."}]})
        return said

    assert "It holds keys" in anyio.run(under_way)
    assert copy.stat().st_mode & 0o077 == 0
    assert not list(copy.rglob("index"))
    usrland(home, "check", "--backup", str(copy))

    usrland(new, "restore", str(copy))

    assert "Everything is what was written" in usrland(new, "check", "--read-data")
    text = anyio.run(restored, new)
    assert "Said before the copy." in text and "Said after the copy." not in text
    assert all(each in text for each in TEXTS)
    head = usrland(home, "audit", "key")
    assert usrland(new, "audit", "key") == head
    assert "the search index was made anew" in usrland(new, "rebuild")
    assert "is not empty" in usrland(new, "restore", str(copy), exit_code=1)
    assert "is there already" in usrland(home, "backup", str(copy), exit_code=1)


def test_a_copy_that_was_changed_is_not_restored(lived_in: Path, tmp_path: Path, usrland: Usrland) -> None:
    home, copy = lived_in / "home", tmp_path / "copy"
    usrland(home, "backup", str(copy))
    for change, said in (
        (lambda: _flip(copy / "memory-snapshot" / "memory.sqlite", random.Random(1)), "was changed"),
        (lambda: (copy / "usrland.toml").unlink(), "is missing"),
        (lambda: (copy / "keys" / "planted").write_bytes(b"x"), "was put in"),
    ):
        fresh = tmp_path / "fresh"
        shutil.copytree(copy, fresh)
        change()
        assert said in usrland(home, "check", "--backup", str(copy), exit_code=1)
        assert "nothing was restored" in usrland(tmp_path / "new", "restore", str(copy), exit_code=1)
        assert not (tmp_path / "new").exists()
        shutil.rmtree(copy)
        fresh.rename(copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["../outside"] = {"sha256": hashlib.sha256(b"").hexdigest(), "bytes": 0}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert "names files outside" in usrland(tmp_path / "new", "restore", str(copy), exit_code=1)


def _flip(file: Path, chance: random.Random, at: int | None = None) -> None:
    data = bytearray(file.read_bytes())
    data[chance.randrange(len(data)) if at is None else at] ^= 1 << chance.randrange(8)
    file.write_bytes(data)


def test_a_flipped_bit_of_what_was_said_or_kept_is_found(lived_in: Path, tmp_path: Path, usrland: Usrland) -> None:
    """Wherever words, bytes or entries lie in the databases. SQLite itself notices hardly any of these."""
    home, chance, silent = tmp_path / "home", random.Random(5), 0
    shutil.copytree(lived_in / "home", home)
    assert "Everything" in usrland(home, "check", "--read-data")
    for server, name, table, column in (
        ("memory-snapshot", "memory", "memory_body", "text"),
        ("memory-snapshot", "memory", "memory_event", "payload"),
        ("memory-snapshot", "calls", "audit_entry", "body"),
        ("memory-snapshot", "calls", "audit_entry", "hash"),
        ("memory-snapshot", "calls", "audit_argument", "value"),
        ("filesystem-retrieval", "catalogue", "fs_blob", "data"),
    ):
        file = home / server / f"{name}.sqlite"
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        original = file.read_bytes()
        for _ in range(4):
            value = _value(original, file, table, column, chance)
            at = original.index(value[: max(8, len(value) // 2)]) + chance.randrange(max(8, len(value) // 2))
            _flip(file, chance, at)
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
                silent += connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            said = usrland(home, "check", "--read-data", exit_code=1)
            assert server in said, (table, column, at)
            file.write_bytes(original)
    assert silent > 12, "this would be no test if SQLite had found them"


def _value(held: bytes, file: Path, table: str, column: str, chance: random.Random) -> bytes:
    """Some value of that column that lies in one piece in the file."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        values: list[Any] = [row[0] for row in connection.execute(f"SELECT {column} FROM {table}") if row[0]]
    pieces = [value.encode() if isinstance(value, str) else bytes(value) for value in values]
    return chance.choice([piece for piece in pieces if 8 <= len(piece) <= 1_500 and piece in held])
