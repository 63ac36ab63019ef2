"""Buckets as roots: what an S3-compatible store holds, kept as files of our own that are looked after like any.

A copy and not a second way to read: paths, labels, archives, versions, citations and the search of lines then mean
the same in a bucket as in a folder. Objects are fetched when their tag changes, and let go when they are gone.
What is too large to be searched is kept as a file of that size with nothing in it, so that it is listed with the
reason. The copy is as old as its last comparison with the store.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from filesystem_retrieval.beneath import Opened
from filesystem_retrieval.containers import problem_of_name
from filesystem_retrieval.patterns import DRAFT
from usrland.errors import InvalidInput, NotFound, Unavailable
from usrland.s3 import BucketTable, Store, read_tree
from usrland.settings import Settings

if TYPE_CHECKING:
    import httpx

__all__ = ["Bucket"]

SYNC_SECONDS = 30.0
"""How often the store is asked at most."""
TOTAL_SECONDS = 120.0
MAX_OBJECTS = 200_000
HOLLOW = stat.S_ISVTX
"""The mode of a copy without content."""
AT_ONCE = 4
NOTED_AFTER = 50
"""Objects fetched before they are written down, so that what breaks off goes on there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Object:
    tag: str
    size: int
    changed: float


class Bucket:
    """One bucket, or what is under one prefix of it. `copy` is the folder that becomes a root."""

    def __init__(self, table: BucketTable, settings: Settings, data: Path, key: str, *, max_bytes: int) -> None:
        self._table = table
        self._settings = settings
        self._max_bytes = max_bytes
        place = data / "buckets" / hashlib.sha256(key.encode()).hexdigest()[:16]
        self.copy = place / "objects"
        self._list = place / "objects.json"
        self._synced_at = float("-inf")
        self.problem: str | None = None
        self.copy.mkdir(parents=True, exist_ok=True, mode=0o700)

    def lacks(self, file: Opened) -> bool:
        """Whether the copy has no content, since the object is too large."""
        return bool(file.status.st_mode & HOLLOW)

    async def sync(self) -> None:
        """Bring the copy up to date, unless that was done just now. Raises what the store's refusal means."""
        if time.monotonic() - self._synced_at < SYNC_SECONDS:
            return
        from usrland.http import client

        async with client(
            allow_private=self._table.allow_private,
            total_seconds=TOTAL_SECONDS,
            max_answer_bytes=self._max_bytes + (1 << 20),
        ) as http:
            store = self._store(http)
            there = await self._there(store)
            have = await anyio.to_thread.run_sync(self._have)
            await anyio.to_thread.run_sync(self._forget, have, there)
            await self._fetch_all(store, have, there)
        self._synced_at = time.monotonic()

    def _store(self, http: httpx.AsyncClient) -> Store:
        return Store(
            endpoint=self._table.endpoint,
            region=self._table.region,
            access_key=self._table.access_key,
            secret_key=self._settings.secret(self._table.secret),
            http=http,
        )

    async def _there(self, store: Store) -> dict[str, _Object]:
        """The objects by their paths here; those whose keys are no paths are left out and counted."""
        found: dict[str, _Object] = {}
        left_out = 0
        query = [("list-type", "2"), ("prefix", self._table.prefix)]
        more: list[tuple[str, str]] = []
        while True:
            answer = read_tree((await store.send("GET", self._table.name, query=[*query, *more])).content)
            for entry in answer.iter("Contents"):
                key = entry.findtext("Key") or ""
                path = key.removeprefix(self._table.prefix)
                if not path or path.endswith("/"):  # how some programs write a folder
                    continue
                if problem_of_name(path) or any(part.startswith(DRAFT) for part in path.split("/")):
                    left_out += 1
                    continue
                found[path] = _object(
                    entry.findtext("ETag"), entry.findtext("Size"), entry.findtext("LastModified")
                )
            token = answer.findtext("NextContinuationToken")
            if not token:
                break
            if len(found) > MAX_OBJECTS:
                raise Unavailable(f"the bucket holds more than {MAX_OBJECTS} objects.", fix="Give it a prefix.")
            more = [("continuation-token", token)]
        folders = {path[:at] for path in found for at, letter in enumerate(path) if letter == "/"}
        for path in folders & found.keys():  # one name cannot be both
            del found[path]
            left_out += 1
        self.problem = f"{left_out} objects are left out, whose keys are no paths." if left_out else None
        return found

    def _have(self) -> dict[str, _Object]:
        with suppress(OSError, ValueError, TypeError):
            rows: Mapping[str, Mapping[str, object]] = json.loads(self._list.read_text(encoding="utf-8"))
            known = {path: _Object(**row) for path, row in rows.items()}  # type: ignore[arg-type]  # as written below
            return {path: each for path, each in known.items() if (self.copy / path).is_file()}
        return {}

    def _note(self, have: Mapping[str, _Object]) -> None:
        draft = self._list.with_suffix(".draft")
        draft.write_text(json.dumps({path: asdict(each) for path, each in have.items()}), encoding="utf-8")
        draft.replace(self._list)

    def _forget(self, have: dict[str, _Object], there: Mapping[str, _Object]) -> None:
        kept = {str(self.copy / path) for path in there}
        for folder, _, names in os.walk(self.copy, topdown=False):
            for name in names:
                if str(Path(folder, name)) not in kept:
                    Path(folder, name).unlink()
            with suppress(OSError):  # not empty
                if folder != str(self.copy):
                    Path(folder).rmdir()
        for path in have.keys() - there.keys():
            del have[path]

    async def _fetch_all(self, store: Store, have: dict[str, _Object], there: Mapping[str, _Object]) -> None:
        wanted = [path for path, each in there.items() if have.get(path) != each]
        turns = anyio.CapacityLimiter(AT_ONCE)

        async def fetch(path: str) -> None:
            async with turns:
                with suppress(NotFound):  # deleted since it was listed
                    await self._fetch(store, path, there[path])
                    have[path] = there[path]

        try:
            for start in range(0, len(wanted), NOTED_AFTER):
                async with anyio.create_task_group() as tasks:
                    for path in wanted[start : start + NOTED_AFTER]:
                        tasks.start_soon(fetch, path)
                await anyio.to_thread.run_sync(self._note, dict(have))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        await anyio.to_thread.run_sync(self._note, dict(have))

    async def _fetch(self, store: Store, path: str, expected: _Object) -> None:
        content = None
        if expected.size <= self._max_bytes:
            key = self._table.prefix + path
            content = (await store.send("GET", self._table.name, key)).content
        await anyio.to_thread.run_sync(self._put, path, content, expected)

    def _put(self, path: str, content: bytes | None, expected: _Object) -> None:
        file = self.copy / path
        if file.is_dir():  # a folder of an earlier state, empty by now
            file.rmdir()
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = file.parent / f"{DRAFT}{hashlib.sha256(path.encode()).hexdigest()[:24]}"
        draft.write_bytes(content or b"")
        if content is None:
            os.truncate(draft, expected.size)  # a hole, which takes no room
            draft.chmod(HOLLOW | 0o600)
        os.utime(draft, (expected.changed, expected.changed))
        draft.replace(file)


def _object(tag: str | None, size: str | None, changed: str | None) -> _Object:
    try:
        moment = datetime.fromisoformat((changed or "").replace("Z", "+00:00")).timestamp()
        return _Object(tag=tag or "", size=int(size or ""), changed=moment)
    except ValueError as error:
        raise InvalidInput("the store's list is not what it should be.") from error
