"""A secret that changes while the server runs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from pydantic import BaseModel

from enterprise_connectors.connection import Connection
from enterprise_connectors.systems import System, configure
from usrland.connector import Connector, Operation
from usrland.errors import Conflict, InvalidInput, Unavailable
from usrland.redact import redact
from usrland.schemas.wire import Answer
from usrland.settings import Settings

Serve = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enterprise_connectors.connection.RENEW_SECONDS", 0.0)
    monkeypatch.setattr("enterprise_connectors.connection.SUSPECT_SECONDS", 0.0)


SPEC = {"openapi": "3.1.0", "paths": {"/me": {"get": {"operationId": "me", "summary": "Who am I"}}}}


@pytest.fixture
def table(tmp_path: Path, tickets: Any) -> str:
    (tmp_path / "spec.json").write_text(json.dumps(SPEC), encoding="utf-8")
    (tmp_path / "key").write_text("first-secret", encoding="utf-8")
    tickets.answer("/me", {"name": "ann"})
    return (
        f'[api]\nkind = "openapi"\nspec = "{tmp_path / "spec.json"}"\nbase_url = "{tickets.url}"\n'
        f'allow_private = true\nauth = {{kind = "bearer", secret = "file:{tmp_path / "key"}"}}\n'
    )


async def test_the_next_call_uses_what_the_file_holds_now(
    serve: Serve, table: str, tickets: Any, tmp_path: Path
) -> None:
    async with serve(table) as run:
        await run("api_me")
        (tmp_path / "key").write_text("second-secret", encoding="utf-8")
        await run("api_me")

    assert [seen.headers["authorization"] for seen in tickets.seen] == [
        "Bearer first-secret",
        "Bearer second-secret",
    ]
    assert redact("second-secret") == "[redacted]"


async def test_a_file_that_is_gone_leaves_what_is_there_in_use(
    serve: Serve, table: str, tickets: Any, tmp_path: Path
) -> None:
    async with serve(table) as run:
        await run("api_me")
        (tmp_path / "key").unlink()
        await run("api_me")

    assert [seen.headers["authorization"] for seen in tickets.seen] == ["Bearer first-secret"] * 2


async def test_another_database_by_the_same_reference_is_used_from_the_next_call_on(
    serve: Serve, crm: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.sqlite"
    connection = sqlite3.connect(other)
    connection.executescript(
        "CREATE TABLE customers (id INTEGER, name TEXT); INSERT INTO customers VALUES (1, 'Zoe')"
    )
    connection.close()
    (tmp_path / "url").write_text(f"sqlite:///{crm}", encoding="utf-8")
    async with serve(f'[crm]\nkind = "sql"\nurl = "file:{tmp_path / "url"}"\n') as run:
        first = await run("crm_query", sql="SELECT name FROM customers WHERE id = 1")
        (tmp_path / "url").write_text(f"sqlite:///{other}", encoding="utf-8")
        second = await run("crm_query", sql="SELECT name FROM customers WHERE id = 1")
        (tmp_path / "url").write_text("nothing that is an address", encoding="utf-8")
        third = await run("crm_query", sql="SELECT name FROM customers WHERE id = 1")

    assert (first["items"], second["items"], third["items"]) == ([["Ada"]], [["Zoe"]], [["Zoe"]])


class Empty(BaseModel):
    secret: str
    text: str = "Say it."


class Slow(Connector[Empty]):
    """Answers once it is let, and notes when it was closed."""

    name = "slow"
    config_type = Empty

    def __init__(self, config: Empty, http: Any) -> None:
        super().__init__(config, http)
        self.go = anyio.Event()
        self.begun = anyio.Event()
        self.stopped = False
        self.closed = False

    def operations(self) -> Sequence[Operation]:
        return [
            Operation(call=self.say, effect="read", scopes=frozenset({"sys:read"}), description=self.config.text)
        ]

    async def say(self) -> Answer:
        await self.go.wait()
        if self.closed or self.config.secret == "wrong":
            raise Unavailable("it was closed under a call.")
        return Said(secret=self.config.secret)

    async def work(self) -> None:
        self.begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.stopped = True

    async def aclose(self) -> None:
        self.closed = True


class Said(Answer):
    secret: str


class Kept:
    """A connection over a table whose secret is in a file, and every connector that it opened."""

    def __init__(self, tmp_path: Path, reference: str = "") -> None:
        self.file = tmp_path / "secret"
        self.file.write_text("one-secret", encoding="utf-8")
        settings = Settings(home=tmp_path, environment={"SLOW": "from-outside"})
        (self.system,) = configure(
            settings, {"slow": {"kind": "slow", "secret": reference or f"file:{self.file}"}}
        ).systems
        self.opened: list[Slow] = []
        self.text = "Say it."
        self.changes = 0
        self.connection = Connection(self.system, self.open, self.changed)
        (self.operation,) = self.connection.operations()
        self.say = self.connection.calling(self.operation, "call")

    def open(self, system: System) -> Any:
        slow = Slow(Empty(**{**system.options, "text": self.text}), cast("Any", None))
        self.opened.append(slow)
        return slow, slow.aclose

    def changed(self) -> None:
        self.changes += 1


async def test_a_call_that_runs_ends_on_the_old_connector_which_is_closed_after_it(tmp_path: Path) -> None:
    kept, answers = Kept(tmp_path), []

    async def ask() -> None:
        answers.append(cast("Said", await kept.say()).secret)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        kept.file.write_text("two-secrets", encoding="utf-8")
        await kept.connection.renew()
        old, new = kept.opened
        assert not old.closed
        old.go.set()
        new.go.set()
    await ask()

    assert answers == ["one-secret", "two-secrets"]
    assert (old.closed, new.closed, kept.changes) == (True, False, 1)
    await kept.connection.aclose()
    assert new.closed


async def test_one_that_nobody_uses_is_closed_at_once(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    await kept.connection.renew()
    assert len(kept.opened) == 1

    kept.file.write_text("two-secrets", encoding="utf-8")
    await kept.connection.renew()

    assert [slow.closed for slow in kept.opened] == [True, False]


async def test_background_work_goes_over_to_the_new_connector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enterprise_connectors.connection.ASK_SECONDS", 0.02)
    kept = Kept(tmp_path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(kept.connection.work)
        await anyio.sleep(0.05)
        kept.file.write_text("two-secrets", encoding="utf-8")
        with anyio.fail_after(60):
            while len(kept.opened) < 2:  # noqa: ASYNC110 - made by a task that tells nobody
                await anyio.sleep(0.01)
            await kept.opened[1].begun.wait()
        assert kept.opened[0].stopped and not kept.opened[1].stopped
        tasks.cancel_scope.cancel()


async def test_an_operation_that_has_become_another_is_refused(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.text = "Say something else."
    kept.file.write_text("two-secrets", encoding="utf-8")

    with pytest.raises(Conflict, match="syscalls --diff"):
        await kept.say()


async def test_a_program_is_asked_again_after_a_failure_and_not_at_every_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enterprise_connectors.connection.ASK_SECONDS", 1_000.0)
    script = tmp_path / "asked"
    kept = Kept(tmp_path, f"command:sh -c 'echo x >> {script}; cat {tmp_path / 'secret'}'")
    kept.opened[0].go.set()
    await kept.say()
    await kept.say()
    asked_before = script.read_text(encoding="utf-8").count("x")
    kept.opened[0].config.secret = "wrong"
    kept.file.write_text("two-secrets", encoding="utf-8")
    with pytest.raises(Unavailable):
        await kept.say()
    await kept.connection.renew()

    assert asked_before == 1 and len(kept.opened) == 2
    assert kept.opened[1].config.secret == "two-secrets"


async def test_a_connector_that_cannot_be_made_again_leaves_the_old_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept(tmp_path)
    kept.opened[0].go.set()
    kept.file.write_text("two-secrets", encoding="utf-8")

    def broken(system: System) -> Any:
        raise RuntimeError("a bug of its own")

    kept.connection._open = broken
    answer = cast("Said", await kept.say())

    assert answer.secret == "one-secret" and "cannot be made again" in caplog.text
    with pytest.raises(InvalidInput):
        kept.file.unlink()
        kept.system.again()


def test_a_certificate_that_is_written_anew_makes_another_system(tmp_path: Path) -> None:
    file = tmp_path / "us.pem"
    file.write_text("one", encoding="utf-8")
    table = {"kind": "slow", "tls": {"certificate": str(file), "authority": str(tmp_path / "not there")}}
    (system,) = configure(Settings(home=tmp_path), {"slow": table}).systems

    assert system.again() == system and f"file:{file}" in system.references
    file.write_text("longer", encoding="utf-8")
    assert system.again() != system


async def test_a_system_without_secrets_is_never_looked_at_again() -> None:
    system = System(name="plain", kind="slow", options={"secret": "x"})
    slow = Slow(Empty(secret="x"), cast("Any", None))
    connection = Connection(system, lambda _: (slow, slow.aclose))
    await connection.renew()

    assert system.again() is system and connection.connector is slow
