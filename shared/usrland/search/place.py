"""Where an index lies: in a folder of this machine, or in a bucket that all replicas share.

Beside its tables an index keeps a few short notes, so that who loses the tables loses what was said of them. And
it lets one writer in at a time. In a folder both are files. In a bucket a note is an object, and turns are taken
in the database that holds the truth: who is killed loses its turn with its connection, where a lock in a bucket
would stay.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from filelock import FileLock
from filelock import Timeout as LockTimeout
from pydantic import BaseModel, ConfigDict

from usrland.durable import sync
from usrland.errors import InvalidInput, NotFound
from usrland.s3 import BucketTable, Store

if TYPE_CHECKING:
    from usrland.database import Database
    from usrland.settings import Settings

__all__ = ["Bucket", "Folder", "IndexTable", "Place", "place_of"]

FIRST_TRY_SECONDS, LAST_TRY_SECONDS = 0.02, 0.5
"""Between two tries for a turn that another process has; each pause is twice the one before."""
REQUEST_SECONDS, CONNECT_SECONDS = 10.0, 3.0
RETRIES = 2
MAX_ANSWER_BYTES = 1 << 20


class IndexTable(BaseModel):
    """The `[index]` table: where the search indexes lie, if not in the home."""

    model_config = ConfigDict(extra="forbid")

    bucket: BucketTable | None = None
    """For several machines that share PostgreSQL; the store must refuse to make an object that is there already
    (`If-None-Match`)."""


class Place(ABC):
    """One index's place."""

    address: str
    """As LanceDB takes it."""
    options: Mapping[str, str] | None = None

    @abstractmethod
    async def note(self, name: str) -> str | None:
        """What was noted; None where nothing was."""

    @abstractmethod
    async def write_note(self, name: str, text: str) -> None: ...

    @abstractmethod
    async def remove_note(self, name: str) -> None: ...

    async def is_new(self) -> bool:
        """Whether it is certain that there are no tables here yet."""
        return False

    @abstractmethod
    async def origin(self, name: str) -> str:
        """Of a note that is there: differs where the whole place is a copy that somebody has made of another."""

    @abstractmethod
    async def sync(self) -> None:
        """When this returns, a loss of power takes nothing away of what was written here."""

    @asynccontextmanager
    async def turn(self, name: str, wait_seconds: float = math.inf) -> AsyncIterator[bool]:
        """Whether this is the only one in here by this name, now or within that time, until the block ends."""
        deadline = time.monotonic() + wait_seconds
        pause = FIRST_TRY_SECONDS
        while True:
            async with self._tried(name) as mine:
                if mine or time.monotonic() >= deadline:
                    yield mine
                    return
            await anyio.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(2 * pause, LAST_TRY_SECONDS)

    @abstractmethod
    def _tried(self, name: str) -> AbstractAsyncContextManager[bool]:
        """One try."""


class Folder(Place):
    """A folder that one machine's processes share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = str(folder)
        self._synced: set[tuple[str, int]] = set()
        """Paths and inodes: what LanceDB has written it never changes."""

    async def note(self, name: str) -> str | None:
        try:
            return (self._folder / name).read_text(encoding="utf-8") or None
        except FileNotFoundError:
            return None

    async def write_note(self, name: str, text: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self._folder / f"{name}.draft"
        draft.write_text(text, encoding="utf-8")
        draft.replace(self._folder / name)

    async def remove_note(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    async def origin(self, name: str) -> str:
        return str((self._folder / name).stat().st_ino)

    async def is_new(self) -> bool:
        return not self._folder.exists() or not any(path.is_dir() for path in self._folder.iterdir())

    async def sync(self) -> None:
        await anyio.to_thread.run_sync(self._sync)

    def _sync(self) -> None:
        there: set[tuple[str, int]] = set()
        for folder, _, names in os.walk(self._folder):
            if folder == self.address:
                continue  # locks and notes: who loses a note begins anew
            files = {(path, inode) for name in names if (inode := _inode(path := f"{folder}/{name}"))}
            new = files - self._synced
            for path in [*(path for path, _ in new), *([folder, self.address] if new else [])]:
                with suppress(FileNotFoundError):
                    sync(path)
            there |= files
        self._synced = there

    async def clear(self) -> None:
        """Let go of the tables and of what was noted of them. Only for who has the turn to write.

        Raises `OSError` where a file cannot be read at all: that is no damage of the tables.
        """
        await anyio.to_thread.run_sync(self._clear)

    def _clear(self) -> None:
        for path in self._folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    file.read(1)
        for path in self._folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.suffix != ".lock":
                path.unlink()

    @asynccontextmanager
    async def _tried(self, name: str) -> AsyncIterator[bool]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(self._folder / f"{name}.lock", thread_local=False)
        try:
            lock.acquire(timeout=0)
        except LockTimeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()


class Bucket(Place):
    """A place under a bucket's prefix, for all processes that share one PostgreSQL."""

    def __init__(self, table: BucketTable, secret: str, name: str, database: Database) -> None:
        self._table = table
        self._secret = secret
        self._prefix = f"{table.prefix.strip('/')}/{name}".lstrip("/")
        self._database = database
        self.address = f"s3://{table.name}/{self._prefix}"
        self.options = {
            "aws_endpoint": table.endpoint,
            "aws_region": table.region,
            "aws_access_key_id": table.access_key,
            "aws_secret_access_key": secret,
            "allow_http": "true" if table.endpoint.startswith("http:") else "false",
            # its own patience is three minutes; whoever waits here can go on by words alone
            "timeout": f"{REQUEST_SECONDS:g}s",
            "connect_timeout": f"{CONNECT_SECONDS:g}s",
            "client_max_retries": str(RETRIES),
            "client_retry_timeout": f"{REQUEST_SECONDS:g}",
        }

    async def note(self, name: str) -> str | None:
        try:
            return (await self._request("GET", name)).decode() or None
        except NotFound:
            return None

    async def write_note(self, name: str, text: str) -> None:
        await self._request("PUT", name, text.encode())

    async def remove_note(self, name: str) -> None:
        with suppress(NotFound):
            await self._request("DELETE", name)

    async def origin(self, name: str) -> str:
        return self.address

    async def sync(self) -> None:
        """A store has what it acknowledged."""

    async def _request(self, method: str, name: str, content: bytes = b"") -> bytes:
        from usrland.http import client

        table = self._table
        async with client(
            allow_private=table.allow_private, total_seconds=REQUEST_SECONDS, max_answer_bytes=MAX_ANSWER_BYTES
        ) as http:
            store = Store(
                endpoint=table.endpoint,
                region=table.region,
                access_key=table.access_key,
                secret_key=self._secret,
                http=http,
            )
            answer = await store.send(method, table.name, f"{self._prefix}/notes/{name}", content=content)
            return answer.content

    @asynccontextmanager
    async def _tried(self, name: str) -> AsyncIterator[bool]:
        async with self._database.claimed(f"{self.address} {name}") as mine:
            yield mine


def _inode(path: str) -> int | None:
    """None where it has got its name meanwhile: who embeds shards writes beside whoever has the turn."""
    try:
        return os.stat(path).st_ino  # noqa: PTH116 - of many strings
    except FileNotFoundError:
        return None


def place_of(settings: Settings, server: str, database: Database) -> Place:
    """Where a server's index lies. Raises `InvalidInput` for a bucket over a database of one machine."""
    table = settings.section("index", IndexTable)
    if table.bucket is None:
        return Folder(settings.data(server) / "index")
    if database.is_sqlite:
        raise InvalidInput(
            f"[index] bucket is for servers that share PostgreSQL, and the data of {server} lies in SQLite.",
            fix=f'Set database = "env:…" under [{server}], or leave [index] out.',
        )
    return Bucket(table.bucket, settings.secret(table.bucket.secret), server, database)
