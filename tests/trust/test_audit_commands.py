"""A log that is taken elsewhere, a call that is erased from it, checkpoints that go where nobody here can change
them: and everything still verifies."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import pytest
import toy
from mcp import Client
from typer.testing import CliRunner

from usrland.audit import Signer, opened
from usrland.audit.exporting import places
from usrland.cli import application
from usrland.errors import InvalidInput, Unavailable, UsrlandError
from usrland.host import running
from usrland.settings import Settings

SERVER = "memory-snapshot"
SECRET = "the merger is called Bluebird"


@pytest.fixture
def usrland(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("USRLAND_HOME", str(tmp_path))

    def run(*arguments: str, exit_code: int = 0) -> str:
        done = CliRunner().invoke(application(arguments[:1]), list(arguments))
        if isinstance(done.exception, UsrlandError):
            assert exit_code == 1
            return str(done.exception)
        assert done.exit_code == exit_code, done.output
        return done.output

    return run


async def calls(home: Path, *made: tuple[str, dict[str, Any]]) -> list[Any]:
    """The toy under the name of an installed server, so that the commands find its log."""
    service = replace(toy.service(Settings(home=home)), name=SERVER)
    async with running(service, Settings(home=home)) as host, Client(host.server) as client:
        return [await client.call_tool(name, arguments) for name, arguments in made]


PUT = ("put", {"name": "a", "text": SECRET, "idempotency_key": "k"})


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A home with a log of some calls, one of which says what it should not have."""
    adds = [("add", {"left": number}) for number in range(3)]
    anyio.run(calls, tmp_path, *adds, PUT, ("add", {"left": 9}))
    return tmp_path


def test_an_exported_log_verifies_without_the_database(
    recorded: Path, usrland: Callable[..., str], tmp_path: Path
) -> None:
    file, head = tmp_path / "log.jsonl", tmp_path / "head"
    file.write_text(usrland("audit", "export", SERVER))
    head.write_text(usrland("audit", "head"))

    assert "6 entries, unbroken" in usrland("audit", "verify", "--file", str(file), "--head", str(head))
    lines = file.read_text().splitlines()
    put = next(number for number, line in enumerate(lines) if SECRET in line)
    for number, change in (
        (put, lambda line: line.replace("put", "add")),
        (put, lambda line: line.replace("Bluebird", "Redbird")),
        (2, lambda line: ""),
    ):
        file.write_text("\n".join([*lines[:number], change(lines[number]), *lines[number + 1 :]]))
        usrland("audit", "verify", "--file", str(file), exit_code=1)
    file.write_text("\n".join(lines[:-1]))
    assert "unbroken" in usrland("audit", "verify", "--file", str(file))
    assert "ends before the exported checkpoint" in usrland(
        "audit", "verify", "--file", str(file), "--head", str(head), exit_code=1
    )
    file.write_text(usrland("audit", "export", SERVER, "--since", "4"))
    assert "3 entries, unbroken" in usrland("audit", "verify", "--file", str(file))


def test_a_redacted_call_is_gone_and_its_place_stays(recorded: Path, usrland: Callable[..., str]) -> None:
    head = recorded / "head"
    head.write_text(usrland("audit", "head"))
    (call,) = {each["call"] for each in json.loads(usrland("trace", "--json")) if each["operation"] == "put"}

    assert "Erased 2 values" in usrland("audit", "redact", SERVER, call, "--reason", "told by counsel")

    assert "unbroken" in usrland("audit", "verify", "--head", str(head))
    said = usrland("trace", "--json")
    assert SECRET not in said and call in said and "told by counsel" in said
    assert all(SECRET.encode() not in file.read_bytes() for file in (recorded / SERVER).glob("calls*"))
    assert "erased already" in usrland("audit", "redact", SERVER, call, "--reason", "again", exit_code=1)
    assert "no call 'nobody'" in usrland("audit", "redact", SERVER, "nobody", "--reason", "x", exit_code=1)


def test_a_retry_of_a_redacted_call_has_no_second_effect(recorded: Path, usrland: Callable[..., str]) -> None:
    (call,) = {each["call"] for each in json.loads(usrland("trace", "--json")) if each["operation"] == "put"}
    usrland("audit", "redact", SERVER, call, "--reason", "told by counsel")
    notes = toy.service(Settings(home=recorded)).state["toy"]
    before = notes.notes()

    (again,) = anyio.run(calls, recorded, PUT)

    assert again.structured_content == {"note": "This answer was redacted."}
    assert notes.notes() == before


# -- where checkpoints go


async def recorded_with(home: Path, *where: str, **audit: Any) -> list[str]:
    settings = Settings(home=home, tables={"audit": {"checkpoints": list(where), **audit}})
    async with running(toy.service(settings), settings) as host, Client(host.server) as client:
        await client.call_tool("add", {"left": 1})
    return [str(Signer(settings.key("audit")).key)]


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    ).stdout


async def test_checkpoints_go_to_a_repository_a_store_and_the_log_at_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    repository = tmp_path / "repository"
    git(tmp_path, "init", "--quiet", str(repository))
    for name in ("user.name", "user.email"):
        git(repository, "config", name, "t@example.org")
    secret = tmp_path / "secret"
    secret.write_text("Bearer let-me-put")
    with _store() as (address, puts):
        home = tmp_path / "home"
        await recorded_with(
            home, f"git:{repository}", f"{address}/audit", "stderr", authorization=f"file:{secret}"
        )

    key = Signer(Settings(home=home).key("audit")).key
    committed = git(repository, "show", "HEAD:toy.checkpoints")
    ((path, authorization, body),) = puts
    said = json.loads(next(line for line in capfd.readouterr().err.splitlines() if "audit_checkpoint" in line))
    assert path.startswith("/audit/toy-000000000001-") and authorization == "Bearer let-me-put"
    for note in (committed, body, said["audit_checkpoint"]):
        assert [each.size for each in opened(note, [key])] == [1]


async def test_a_place_that_does_not_take_it_costs_no_other_and_is_tried_again(tmp_path: Path) -> None:
    kept, lost = tmp_path / "kept", tmp_path / "nowhere" / "file"
    home = tmp_path / "home"
    await recorded_with(home, str(lost), str(kept), f"git:{tmp_path / 'no-repository'}")
    key = Signer(Settings(home=home).key("audit")).key
    assert [each.size for each in opened(kept.read_text(), [key])] == [1]

    lost.parent.mkdir()
    await recorded_with(home, str(lost), str(kept))

    assert [each.size for each in opened(lost.read_text(), [key])] == [2]
    assert [each.size for each in opened(kept.read_text(), [key])] == [1, 2]


def test_a_place_that_others_could_change_on_the_way_is_refused(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, tables={"audit": {"checkpoints": "http://store.example.org/x"}})
    with pytest.raises(InvalidInput, match="changed on the way"):
        places(settings)


@contextmanager
def _store() -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    puts: list[tuple[str, str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            puts.append((self.path, self.headers["authorization"], body))
            self.send_response(201)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", puts
        server.shutdown()


# -- the wait


async def test_a_log_that_another_holds_refuses_the_call_after_a_bounded_wait(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, tables={"audit": {"wait_seconds": 0.2}})
    service = toy.service(settings)
    async with running(service, settings) as host:
        assert host.principal is not None
        await host.path.run("add", {"left": 1}, principal=host.principal)
        await host.path.ledger.flush()
        with closing(sqlite3.connect(tmp_path / "toy" / "calls.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="another process holds it"):
                await host.path.run("put", {"name": "a", "text": "b"}, principal=host.principal)
            other.execute("ROLLBACK")
        assert service.state["toy"].notes() == {}
        await host.path.run("put", {"name": "a", "text": "b"}, principal=host.principal)
        assert "a" in service.state["toy"].notes()
