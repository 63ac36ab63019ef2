"""The system behind the connector: tasks in one SQLite file.

Yours is a service on the network or a database; keep the shape. The store is the only place that knows the
system: it answers in models, bounds everything by the caller's tenant and namespace, and translates the
system's failures where they occur.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import anyio.to_thread
from pydantic import Field

from usrland import Answer, NotFound, Principal, Unavailable

__all__ = ["Task", "TaskStore"]

ResultT = TypeVar("ResultT")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS task (
    task INTEGER PRIMARY KEY AUTOINCREMENT,  -- a number is never given twice, also after a removal
    tenant TEXT NOT NULL,
    namespace TEXT NOT NULL,
    title TEXT NOT NULL,
    owner TEXT NOT NULL
)
"""


class Task(Answer):
    """One thing to do."""

    task: int = Field(description="Its number.")
    title: str
    owner: str


class TaskStore:
    """Each call opens the file for itself: any number of processes may use it at the same time."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def check(self) -> None:
        """Raises `Unavailable` where the file cannot be used."""
        await self._run(lambda connection: None)

    async def find(self, principal: Principal, text: str, *, skip: int, limit: int) -> tuple[list[Task], int]:
        """The tasks that hold `text`, newest first, and how many there are in all."""

        def work(connection: sqlite3.Connection) -> tuple[list[Task], int]:
            fits = "tenant = ? AND namespace = ? AND instr(lower(title || char(10) || owner), lower(?))"
            values = (principal.tenant, principal.namespace, text)
            (total,) = connection.execute(f"SELECT count(*) FROM task WHERE {fits}", values).fetchone()  # nosec B608 # a constant
            rows = connection.execute(
                f"SELECT task, title, owner FROM task WHERE {fits} ORDER BY task DESC LIMIT ? OFFSET ?",  # nosec B608 # a constant
                (*values, limit, skip),
            )
            return [Task(task=row[0], title=row[1], owner=row[2]) for row in rows], total

        return await self._run(work)

    async def get(self, principal: Principal, task: int) -> Task:
        """Raises `NotFound`, also for a task of somebody else."""

        def work(connection: sqlite3.Connection) -> Task:
            row = connection.execute(
                "SELECT task, title, owner FROM task WHERE task = ? AND tenant = ? AND namespace = ?",
                (task, principal.tenant, principal.namespace),
            ).fetchone()
            return _task(task, row)

        return await self._run(work)

    async def add(self, principal: Principal, title: str, owner: str) -> Task:
        """It has reached the disk when this returns."""

        def work(connection: sqlite3.Connection) -> Task:
            cursor = connection.execute(
                "INSERT INTO task (tenant, namespace, title, owner) VALUES (?, ?, ?, ?)",
                (principal.tenant, principal.namespace, title, owner),
            )
            return Task(task=cursor.lastrowid or 0, title=title, owner=owner)

        return await self._run(work)

    async def remove(self, principal: Principal, task: int) -> Task:
        """Raises `NotFound`, also for a task of somebody else."""

        def work(connection: sqlite3.Connection) -> Task:
            row = connection.execute(
                "DELETE FROM task WHERE task = ? AND tenant = ? AND namespace = ? RETURNING task, title, owner",
                (task, principal.tenant, principal.namespace),
            ).fetchone()
            return _task(task, row)

        return await self._run(work)

    async def _run(self, work: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        """In a thread, since SQLite blocks; one transaction, all of it or nothing."""
        return await anyio.to_thread.run_sync(self._run_now, work)

    def _run_now(self, work: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with closing(sqlite3.connect(self._file, timeout=10)) as connection, connection:
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute(_SCHEMA)
                return work(connection)
        except OSError as error:  # its text names the path, which is nobody's business
            raise Unavailable(f"the task file cannot be used: {error.strerror}.") from error
        except sqlite3.Error as error:
            raise Unavailable(f"the task file cannot be used: {error}.") from error


def _task(number: int, row: tuple[int, str, str] | None) -> Task:
    if row is None:
        raise NotFound(f"there is no task {number}.", fix="Find its number with `task_find`.")
    return Task(task=row[0], title=row[1], owner=row[2])
