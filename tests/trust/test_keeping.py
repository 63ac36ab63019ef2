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

import anyio
import pytest
from bit_rot import rotten
from bits import cells, flip
from lived_in import TEXTS, live
from mcp import Client
from typer.testing import CliRunner

from memory_snapshot.server import service as memory
from usrland.cli import application
from usrland.errors import UsrlandError
from usrland.host import running
from usrland.settings import Settings

Usrland = Callable[..., str]


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
    anyio.run(live, top)
    return top


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


async def test_a_flipped_bit_is_found_whichever_column_of_whichever_table_it_is_in(tmp_path: Path) -> None:
    outcome = await rotten(tmp_path, flips=24, seed=11)

    assert outcome.missed == []
    assert len(outcome.found) == 24


async def test_sqlite_itself_finds_hardly_any_flipped_bit(tmp_path: Path) -> None:
    await live(tmp_path)
    chance, silent = random.Random(5), 0
    file = tmp_path / "home" / "memory-snapshot" / "memory.sqlite"
    known = cells(file)
    original = file.read_bytes()
    for _ in range(12):
        flip(file, chance.choice([cell for cell in known if cell.column == "text"]), chance)
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            silent += connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        file.write_bytes(original)

    assert silent > 8, "the tests of flipped bits would be none if SQLite found them"
