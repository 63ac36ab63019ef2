"""SQLite and PostgreSQL behind the same two verbs."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import anyio
import pytest
from sqlalchemy import text
from sqlalchemy.exc import InternalError
from sqlmodel import Session

from usrland.database import Database
from usrland.errors import InvalidInput, Unavailable

REVISION = """
from alembic import op
import sqlalchemy as sa
revision, down_revision, branch_labels, depends_on = "{name}", {down}, {labels}, None
def upgrade():
    {work}
"""


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations"
    folder.mkdir()
    work = 'op.create_table("thing", sa.Column("name", sa.String(20), primary_key=True))'
    (folder / "one.py").write_text(REVISION.format(name="one", down=None, labels='("things",)', work=work))
    return folder


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/with space/things.sqlite"
    make: Callable[[], str] = request.getfixturevalue("postgresql")
    return make()


def names(database: Database) -> list[str]:
    return sorted(database.read_now(lambda s: s.execute(text("SELECT name FROM thing")).scalars().all()))


async def test_a_read_sees_one_state_whatever_others_write_meanwhile(url: str, migrations: Path) -> None:
    database = Database(url, [migrations])
    await database.write(lambda s: s.execute(text("INSERT INTO thing VALUES ('first')")))

    def twice(session: Session) -> tuple[int, int]:
        count = text("SELECT count(*) FROM thing")
        before = session.execute(count).scalar_one()
        database.write_now(lambda s: s.execute(text("INSERT INTO thing VALUES ('second')")))
        return before, session.execute(count).scalar_one()

    assert await database.read(twice) == (1, 1)
    assert names(database) == ["first", "second"]
    database.close()


async def test_a_write_is_all_or_nothing_and_a_read_changes_nothing(url: str, migrations: Path) -> None:
    database = Database(url, [migrations])
    await database.write(lambda s: s.execute(text("INSERT INTO thing VALUES ('kept')")))

    def fails(session: object) -> None:
        session.execute(text("INSERT INTO thing VALUES ('lost')"))  # type: ignore[attr-defined]  # a Session
        raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        await database.write(fails)
    with nullcontext() if database.is_sqlite else pytest.raises(InternalError, match="read-only"):
        await database.read(lambda s: s.execute(text("INSERT INTO thing VALUES ('read')")))

    assert names(database) == ["kept"]
    database.close()


async def test_what_is_asked_often_is_prepared_once(
    postgresql: Callable[[], str], migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usrland.database.engine.MAX_THREADS", 1)
    database = Database(postgresql(), [migrations])
    for _ in range(20):
        await database.read(lambda s: s.execute(text("SELECT name FROM thing")))

    prepared = await database.read(lambda s: s.execute(text("SELECT statement FROM pg_prepared_statements")).all())
    assert "SELECT name FROM thing" in [statement for (statement,) in prepared]
    database.close()


@pytest.mark.parametrize("rested", [True, False])
async def test_a_connection_that_was_closed_meanwhile_is_made_anew(
    postgresql: Callable[[], str], migrations: Path, monkeypatch: pytest.MonkeyPatch, rested: bool
) -> None:
    monkeypatch.setattr("usrland.database.engine.MAX_THREADS", 1)
    url = postgresql()
    database, other = Database(url, [migrations]), Database(url, [])
    mine = database.read_now(lambda s: s.execute(text("SELECT pg_backend_pid()")).scalar_one())
    ended = text("SELECT pg_terminate_backend(:pid, 10000)")
    assert other.read_now(lambda s: s.execute(ended, {"pid": mine}).scalar_one())

    monkeypatch.setattr("usrland.database.engine.RESTED_SECONDS", 0.0 if rested else 60.0)
    if not rested:
        with pytest.raises(Unavailable, match="closed the connection"):
            names(database)
    assert names(database) == []
    database.close()
    other.close()


async def test_a_new_revision_is_applied_to_old_data_once(url: str, migrations: Path) -> None:
    first = Database(url, [migrations])
    await first.write(lambda s: s.execute(text("INSERT INTO thing VALUES ('old')")))
    first.close()
    work = 'op.add_column("thing", sa.Column("size", sa.Integer, server_default="7"))'
    (migrations / "two.py").write_text(REVISION.format(name="two", down='"one"', labels=None, work=work))

    for _ in range(2):
        second = Database(url, [migrations])
        assert await second.read(lambda s: s.execute(text("SELECT size FROM thing")).scalar()) == 7
        second.close()


async def test_a_migration_that_fails_leaves_the_old_schema(url: str, migrations: Path) -> None:
    Database(url, [migrations]).open().dispose()
    work = 'op.add_column("thing", sa.Column("size", sa.Integer)); raise RuntimeError("killed")'
    (migrations / "two.py").write_text(REVISION.format(name="two", down='"one"', labels=None, work=work))

    with pytest.raises(RuntimeError, match="killed"):
        Database(url, [migrations]).open()
    (migrations / "two.py").unlink()
    database = Database(url, [migrations])

    await database.write(lambda s: s.execute(text("INSERT INTO thing (name) VALUES ('works')")))
    assert names(database) == ["works"]
    database.close()


def test_processes_that_start_together_migrate_once(url: str, migrations: Path) -> None:
    code = "import sys, pathlib; from usrland.database import Database; "
    code += "Database(sys.argv[1], [pathlib.Path(sys.argv[2])]).open()"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, url, str(migrations)], stderr=subprocess.PIPE)
        for _ in range(3)
    ]

    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()


def test_a_new_database_can_be_opened_by_several_at_once(tmp_path: Path, migrations: Path) -> None:
    for number in range(12):
        databases = [Database(f"sqlite:///{tmp_path}/new-{number}.sqlite", [migrations]) for _ in range(4)]
        together = threading.Barrier(4)

        def opened(database: Database, together: threading.Barrier = together) -> list[str]:
            together.wait()
            found = names(database)
            database.close()
            return found

        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(opened, databases)) == [[]] * 4


async def test_a_database_that_another_holds_is_unavailable_and_says_so(tmp_path: Path, migrations: Path) -> None:
    file = tmp_path / "held.sqlite"
    database = Database(f"sqlite:///{file}", [migrations], wait_seconds=0.1)
    database.open()
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    with pytest.raises(Unavailable, match="another process holds it"):
        await database.write(lambda s: s.execute(text("INSERT INTO thing VALUES ('x')")))
    holder.rollback()
    await database.write(lambda s: s.execute(text("INSERT INTO thing VALUES ('x')")))

    holder.close()
    database.close()


async def test_a_server_that_is_not_there_is_unavailable(migrations: Path) -> None:
    database = Database("postgresql://nobody:hunter2@127.0.0.1:1/none", [migrations])

    with pytest.raises(Unavailable) as refusal:
        await database.read(lambda s: None)
    assert "hunter2" not in str(refusal.value)


def test_an_unknown_kind_of_database_is_refused() -> None:
    with pytest.raises(InvalidInput, match="scheme 'mysql' is not known"):
        Database("mysql://root@localhost/x", [])


def test_an_erasure_waits_for_who_may_still_see_it_and_says_where_that_takes_too_long(
    postgresql: Callable[[], str], migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(postgresql(), [migrations])
    reader = Database(database._url, [migrations])
    database.write_now(lambda session: session.execute(text("INSERT INTO thing VALUES ('said')")))
    reader.open()
    with reader.open().connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        assert connection.execute(text("SELECT name FROM thing")).scalars().all() == ["said"]
        database.write_now(lambda session: session.execute(text("DELETE FROM thing")))
        monkeypatch.setattr("usrland.database.engine.READERS_SECONDS", 0.2)
        with pytest.raises(Unavailable, match="an older transaction is open"):
            database._scrub(["thing"])
        monkeypatch.undo()
        with ThreadPoolExecutor() as threads:
            erasing = threads.submit(database._scrub, ["thing"])
            connection.rollback()
            erasing.result(timeout=30)
    size = text("SELECT pg_relation_size('thing')")
    assert database.read_now(lambda session: session.execute(size).scalar_one()) == 0
    reader.close()
    database.close()


async def test_one_of_all_that_share_postgresql_has_a_claim_until_it_ends_or_loses_its_connection(
    postgresql: Callable[[], str], migrations: Path
) -> None:
    url = postgresql()
    first, second = Database(url, [migrations]), Database(url, [migrations])
    async with first.claimed("index") as mine, second.claimed("index") as theirs, second.claimed("other") as other:
        assert (mine, theirs, other) == (True, False, True)
    async with second.claimed("index") as theirs:
        assert theirs
        end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = :low"
        low = "SELECT hashtextextended('index', 0) & 4294967295"
        number = first.read_now(lambda session: session.execute(text(low)).scalar_one())
        first.read_now(lambda session: session.execute(text(end), {"low": number}).all())
        mine = False
        with anyio.fail_after(60):
            while not mine:  # until the backend has ended
                async with first.claimed("index") as mine:
                    pass
    first.close()
    second.close()


async def test_a_claim_on_a_database_that_is_not_there_says_so() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/nothing", [])
    with pytest.raises(Unavailable, match="cannot be used now"):
        async with database.claimed("index"):
            pass
