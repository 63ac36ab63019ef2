"""SQLAlchemy behind two verbs: `read` and `write`.

Work is a plain function over a SQLModel `Session`, run in a worker thread inside one transaction. A write
on SQLite begins with `BEGIN IMMEDIATE` under `synchronous=FULL`: when `write` returns, the change has
reached the disk. Threads instead of SQLAlchemy's async layer, because every statement here is short, both
drivers behave the same, and a cancelled caller can never leave a half-used connection behind.
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread

from usrland.database import seals
from usrland.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine
    from sqlmodel import Session

__all__ = ["Database", "DatabaseUrl", "import_sqlmodel"]

ResultT = TypeVar("ResultT")

DatabaseUrl = str
"""`sqlite:////absolute/path.sqlite` or `postgresql://user@host/name`. Never logged: it may hold a password."""

BUSY_TIMEOUT_SECONDS = 30.0
MAX_THREADS = 8
RESTED_SECONDS = 1.0
"""A connection that was used less long ago is taken without asking whether it still stands."""
READERS_SECONDS = 20.0
"""How long an erasure waits for transactions that may still see what was erased."""


class Database:
    """One database and the migrations it needs.

    `migrations` are folders of Alembic revision files. The branch label of the first base names the table
    that remembers which were applied, so the parts of several servers can live in one PostgreSQL database
    without knowing of each other.
    """

    def __init__(
        self,
        url: DatabaseUrl,
        migrations: Sequence[Path],
        *,
        wait_seconds: float = BUSY_TIMEOUT_SECONDS,
        hashed: Collection[str] = (),
    ) -> None:
        """`wait_seconds`: how long a write waits for others before it is `Unavailable`. `hashed` tables carry
        hashes of their own; of all others in SQLite a sum is kept (see `seals`)."""
        self._url = _with_driver(url)
        self._wait_seconds = wait_seconds
        self._migrations = list(migrations)
        self._hashed = frozenset(hashed)
        self._engine: Engine | None = None
        self._opening = threading.Lock()
        self._threads = anyio.CapacityLimiter(MAX_THREADS)

    @property
    def is_sqlite(self) -> bool:
        return self._url.startswith("sqlite")

    async def read(self, work: Callable[[Session], ResultT]) -> ResultT:
        """Run `work` in a transaction that sees one state of the database."""
        return await anyio.to_thread.run_sync(self.read_now, work, limiter=self._threads)

    async def write(self, work: Callable[[Session], ResultT]) -> ResultT:
        """Run `work` in a transaction that has reached the disk when this returns; all of it or nothing.

        Once begun it is finished even if the caller is cancelled, so that an answer is never wrong about
        what was stored. Raises `Unavailable` when the disk is full or another process holds the database
        for longer than it waits.
        """
        return await anyio.to_thread.run_sync(self.write_now, work, limiter=self._threads)

    def alone(self, session: Session, name: str) -> None:
        """Within a write: be the only one who is in here by this name, until the transaction ends.

        SQLite lets one writer in anyway.
        """
        from sqlalchemy import text

        if not self.is_sqlite:
            session.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": name})

    @asynccontextmanager
    async def claimed(self, name: str) -> AsyncIterator[bool]:
        """Whether this is the only one in here by this name, over all that share this PostgreSQL.

        It does not wait. Whoever is killed, or loses the connection, is in here no more. SQLite is of one machine,
        whose files can be locked: not for it.
        """
        connection = await anyio.to_thread.run_sync(self._claim, name)
        try:
            yield connection is not None
        finally:
            if connection is not None:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(_give_back, connection, name)

    def _claim(self, name: str) -> Connection | None:
        """A connection that holds the claim, or nothing."""
        from sqlalchemy.exc import DBAPIError

        try:
            connection = self.open().connect().execution_options(isolation_level="AUTOCOMMIT")
            if connection.exec_driver_sql(_CLAIM, {"name": name}).scalar_one():
                return connection
            connection.close()
        except DBAPIError as error:
            raise Unavailable(
                f"the database cannot be used now: {_unavailable(error.orig) or 'it failed'}."
            ) from error
        return None

    async def scrub(self, *tables: str) -> None:
        """Take what was deleted from these tables off the disk, as far as the database's own files go.

        SQLite rewrites the file and empties its log, PostgreSQL rewrites the tables (its write-ahead log and its
        backups are the operator's). Costs what the file or the tables hold; waits for readers to finish. Raises
        `Unavailable` where one that may still see what was deleted does not.
        """
        await anyio.to_thread.run_sync(self._scrub, tables, limiter=self._threads)

    def _scrub(self, tables: Sequence[str]) -> None:
        from sqlalchemy.exc import DBAPIError

        try:
            pooled = self.open().raw_connection()
            connection: Any = pooled.driver_connection
            pooled.detach()  # its settings are changed below
            with closing(connection):
                cursor = connection.cursor()
                if self.is_sqlite:
                    cursor.execute("VACUUM")
                    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    return
                connection.autocommit = True
                _wait_for_readers(cursor)
                for table in tables:
                    cursor.execute(f'VACUUM (FULL) "{table}"')
        except (DBAPIError, sqlite3.OperationalError) as error:
            reason = _unavailable(error) or "it is busy"
            raise Unavailable(f"the database still holds deleted bytes on its disk: {reason}.") from error

    def read_now(self, work: Callable[[Session], ResultT]) -> ResultT:
        """`read` for callers that are in a thread already."""
        return self._run(work, write=False)

    def write_now(self, work: Callable[[Session], ResultT]) -> ResultT:
        """`write` for callers that are in a thread already."""
        return self._run(work, write=True)

    def _run(self, work: Callable[[Session], ResultT], *, write: bool) -> ResultT:
        import_sqlmodel()
        from sqlalchemy.exc import DBAPIError
        from sqlmodel import Session

        try:
            engine = self.open()
            options: dict[str, Any] = {"usrland_write": write}
            if not write and not self.is_sqlite:  # SQLite's transactions see one state by themselves
                options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
            with engine.connect().execution_options(**options) as connection, connection.begin():
                with Session(connection, expire_on_commit=False) as session:
                    result = work(session)
                    session.flush()
                if not write and self.is_sqlite:  # psycopg forgets its prepared statements at a rollback
                    connection.rollback()
                return result
        except DBAPIError as error:
            reason = _unavailable(error.orig)
            if reason is None:
                raise
            raise Unavailable(f"the database cannot be used now: {reason}.") from error

    def open(self) -> Engine:
        """The engine, with all migrations applied. Blocks; the first caller waits for it.

        Table modules may be imported once this has returned, and not before (see `import_sqlmodel`).
        """
        with self._opening:
            if self._engine is None:
                import_sqlmodel()
                engine = _create_engine(self._url, self._wait_seconds)
                try:
                    if self._migrations:
                        _migrate(engine, self._migrations)
                    if self.is_sqlite:
                        seals.seal(engine, self._hashed)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    def close(self) -> None:
        """Give the connections back. The database can be opened again."""
        with self._opening:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None


def _wait_for_readers(cursor: Any) -> None:
    """PostgreSQL keeps what was deleted for as long as a transaction, whoever's, began before that."""
    (now,) = cursor.execute("SELECT txid_current() % (2^32)::bigint").fetchone()
    deadline = time.monotonic() + READERS_SECONDS
    while cursor.execute(_OLDER_READERS, (str(now),)).fetchone() != (0,):
        if time.monotonic() > deadline:
            raise Unavailable("the database still holds deleted bytes on its disk: an older transaction is open.")
        time.sleep(0.05)


_OLDER_READERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
AND greatest(age(backend_xmin), age(backend_xid)) > age(%s::xid)
"""
_CLAIM = "SELECT pg_try_advisory_lock(hashtextextended(%(name)s, 0))"
_GIVE_BACK = "SELECT pg_advisory_unlock(hashtextextended(%(name)s, 0))"


def _give_back(connection: Connection, name: str) -> None:
    from sqlalchemy.exc import DBAPIError

    try:
        connection.exec_driver_sql(_GIVE_BACK, {"name": name})
    except DBAPIError:  # the claim went with the connection
        connection.invalidate()
    finally:
        connection.close()


_importing = threading.Lock()


def import_sqlmodel() -> None:
    """Import SQLAlchemy from one thread at a time.

    It imports itself in circles; two threads that begin at different ends see half a package.
    """
    with _importing:
        import sqlmodel  # noqa: F401


def _with_driver(url: str) -> str:
    scheme, found, rest = url.partition("://")
    if found and scheme in ("postgresql", "postgres"):
        return f"postgresql+psycopg://{rest}"
    if found and scheme in ("sqlite", "postgresql+psycopg"):
        return url
    raise InvalidInput(f"database scheme {scheme!r} is not known.", fix="Use sqlite:///… or postgresql://….")


def _create_engine(url: str, wait_seconds: float) -> Engine:
    from sqlalchemy import create_engine, event
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        try:
            engine = create_engine(
                parsed.update_query_dict(
                    {"options": f"{_options(parsed)} -c lock_timeout={wait_seconds * 1000:.0f}"}
                ),
                pool_size=MAX_THREADS,
                max_overflow=2,
            )
        except ModuleNotFoundError as error:
            raise Unavailable("PostgreSQL needs: pip install 'usrland[postgres]'.") from error
        _look_after(engine)
        return engine

    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = create_engine(
        url,
        pool_size=MAX_THREADS,
        # isolation_level None: sqlite3 must not begin transactions by itself, `begin` below does
        connect_args={"timeout": wait_seconds, "isolation_level": None, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        _enter_wal(cursor)
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA secure_delete=ON")
        cursor.close()
        seals.register(connection)

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        write = connection.get_execution_options().get("usrland_write", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _look_after(engine: Engine) -> None:
    """Take no connection that was closed while it rested.

    SQLAlchemy's own `pool_pre_ping` asks before every transaction: a tenth of all that PostgreSQL is asked here.
    """
    from sqlalchemy import event
    from sqlalchemy.exc import DisconnectionError

    @event.listens_for(engine, "checkin")
    def given_back(_: Any, record: Any) -> None:
        record.info["rests_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def taken(connection: Any, record: Any, _: Any) -> None:
        if time.monotonic() - record.info.get("rests_since", math.inf) < RESTED_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except connection.OperationalError as error:
            raise DisconnectionError from error


def _options(url: URL) -> str:
    """What the address asks of each connection already."""
    given = url.query.get("options", "")
    return given if isinstance(given, str) else " ".join(given)


def _enter_wal(cursor: sqlite3.Cursor) -> None:
    """Turn write-ahead logging on; a file remembers it.

    SQLite's own busy timeout does not cover this: of several that open a new file at once, all but one are
    told at once that it is locked.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _migrate(engine: Engine, folders: Sequence[Path]) -> None:
    from usrland.database.migrate import migrate

    migrate(engine, folders)


def _unavailable(error: BaseException | None) -> str | None:
    text = str(error).lower()
    for sign, reason in (
        ("database is locked", "another process holds it"),
        ("lock timeout", "another process holds it"),
        ("disk is full", "the disk is full"),
        ("disk i/o error", "the disk reports an error"),
        ("readonly database", "it cannot be written to"),
        ("unable to open database file", "its file cannot be opened"),
        ("connection refused", "it refuses connections"),
        ("server closed the connection", "it closed the connection"),
        ("terminating connection", "it closed the connection"),
        ("the connection is lost", "the connection was lost"),
    ):
        if sign in text:
            return reason
    return None
