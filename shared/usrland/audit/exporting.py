"""Checkpoints handed out while a server runs, to where this process can add and nobody can change what is there.

`[audit] checkpoints` names the places:

    "/mnt/elsewhere/checkpoints"       appended to a file: another machine's share, a folder a log shipper reads
    "stderr"                           a line of JSON in the server's own log, for whoever collects that
    "git:/srv/checkpoints"             committed to a repository that somebody else pulls
    "https://store.example.org/audit/" put there as an object of its own; the store should keep what it has

What was recorded after the newest exported checkpoint could be cut off unnoticed, so the interval is the honest
promise.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import anyio
import anyio.to_thread
from pydantic import BaseModel, ConfigDict, Field

from usrland.audit.checkpoint import Signer
from usrland.audit.log import AuditLog
from usrland.errors import InvalidInput, Unavailable, UsrlandError
from usrland.settings import Settings

__all__ = ["AuditTable", "Exporter", "Place", "places"]

logger = logging.getLogger(__name__)

Place = Callable[[str, str, int], Awaitable[None]]
"""Takes a note, its chain and its size; raises `UsrlandError` or `OSError` where it was not taken."""


class AuditTable(BaseModel):
    """The `[audit]` table."""

    model_config = ConfigDict(extra="forbid")

    checkpoints: str | list[str] = Field(default="", description="Where signed checkpoints go.")
    every_seconds: float = Field(default=60.0, ge=1.0, description="How often, while anything is recorded.")
    authorization: str = Field(
        default="", description="The Authorization header for https places (env: or file:)."
    )
    wait_seconds: float = Field(
        default=10.0, gt=0, description="How long a call waits for the log; then it is refused."
    )


class Exporter:
    """Hands out a checkpoint of one log whenever it has grown."""

    def __init__(self, log: AuditLog, signer: Signer, to: Sequence[Place]) -> None:
        self._log = log
        self._signer = signer
        self._left = dict.fromkeys(to, 0)
        """How many entries the newest checkpoint of each place covers."""

    async def run(self, every_seconds: float) -> None:
        """Export until cancelled."""
        while True:
            await anyio.sleep(every_seconds)
            await self.export()

    async def export(self) -> None:
        """Now. Says so in the server's own log where a place does not take it, and tries again the next time."""
        if not self._left or await self._log.size() == min(self._left.values()):
            return
        size, root = await self._log.state()
        note = self._signer.note(self._log.chain, size, root)
        for place, exported in self._left.items():
            if exported == size:
                continue
            try:
                await place(note, self._log.chain, size)
                self._left[place] = size
            except (OSError, UsrlandError) as error:
                logger.error("an audit checkpoint could not be handed out: %s", error)


def places(settings: Settings) -> list[Place]:
    """The places that the settings name; raises `InvalidInput` for one that is none."""
    table = settings.section("audit", AuditTable)
    named = [table.checkpoints] if isinstance(table.checkpoints, str) else table.checkpoints
    return [_place(name, settings, table) for name in named if name]


def _place(name: str, settings: Settings, table: AuditTable) -> Place:
    kind, _, rest = name.partition(":")
    if name == "stderr":
        return _to_stderr
    if kind == "git":
        return _threaded(_Repository(Path(rest).expanduser()).commit)
    if kind == "https" or name.startswith(("http://127.0.0.1", "http://localhost")):
        header = settings.secret(table.authorization) if table.authorization else ""
        return _Store(name.rstrip("/"), header).put
    if kind == "http":
        raise InvalidInput(
            f"[audit] checkpoints: {name!r} can be changed on the way.", fix="Name an https address."
        )
    return _threaded(_File(Path(name).expanduser()).append)


def _threaded(work: Callable[[str, str, int], None]) -> Place:
    async def place(note: str, chain: str, size: int) -> None:
        await anyio.to_thread.run_sync(work, note, chain, size)

    return place


async def _to_stderr(note: str, chain: str, size: int) -> None:
    line = json.dumps({"audit_checkpoint": note, "chain": chain, "size": size}, ensure_ascii=False)
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - a line for whoever collects this log


class _File:
    def __init__(self, file: Path) -> None:
        self._file = file

    def append(self, note: str, chain: str, size: int) -> None:
        # one write to a file opened for appending: servers that share it do not mix their lines
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, f"{note}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _Repository:
    """A file for each chain, in a repository that is there already."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def commit(self, note: str, chain: str, size: int) -> None:
        name = f"{chain}.checkpoints"
        _File(self._folder / name).append(note, chain, size)
        self._git("add", "--", name)
        self._git("commit", "--quiet", "--no-verify", "--message", f"{chain}: {size} entries", "--", name)

    def _git(self, *arguments: str) -> None:
        command = ["git", "-C", str(self._folder), *arguments]
        try:
            subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=30)
        except (OSError, subprocess.SubprocessError) as error:
            raise Unavailable(f"git {arguments[0]} in {str(self._folder)!r} failed.") from error


class _Store:
    """Whatever takes a PUT: an object of its own for each checkpoint, named by chain and size."""

    def __init__(self, url: str, authorization: str) -> None:
        self._url = url
        self._headers = {"content-type": "text/plain; charset=utf-8"}
        if authorization:
            self._headers["authorization"] = authorization

    async def put(self, note: str, chain: str, size: int) -> None:
        from usrland.http import client

        name = f"{quote(chain, safe='')}-{size:012d}-{hashlib.sha256(note.encode()).hexdigest()[:8]}"
        async with client(allow_private=True) as http:
            answer = await http.put(f"{self._url}/{name}", content=note.encode(), headers=self._headers)
        if answer.status_code not in (200, 201, 204):
            raise Unavailable(f"the store of audit checkpoints answered {answer.status_code}.")
