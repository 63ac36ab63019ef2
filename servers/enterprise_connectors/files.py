"""Downloads that a kernel holds by a handle, so that their bytes never pass through its window.

What one system gave can be handed to another: `{"handle": "file_…"}` stands for the content wherever an
operation takes a file. A handle is good for whoever it was given to and for nobody else, for a day.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from usrland.errors import InvalidInput, NotFound, QuotaExceeded
from usrland.schemas.principal import Principal
from usrland.schemas.wire import Answer

__all__ = ["Download", "File", "Files"]

KEEP_SECONDS = 24 * 3600
MAX_OWNED_BYTES = 256 * 1024 * 1024

_HANDLE = re.compile(r"file_[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """Some content and what it says it is."""

    content: bytes
    name: str = "file"
    media_type: str = "application/octet-stream"


class Download(Answer):
    """Content that stays on the server; the handle stands for it wherever a file is asked for."""

    handle: str
    bytes: int
    media_type: str
    filename: str

    @classmethod
    def of(cls, file: File, handle: str) -> Download:
        return cls(handle=handle, bytes=len(file.content), media_type=file.media_type, filename=file.name)


class Files:
    """Files by handle, in a folder of their own for each principal. Blocks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, file: File, owner: Principal) -> str:
        """Keep a file; returns its handle. Raises `QuotaExceeded` where the owner holds too much."""
        folder = self._of(owner)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        held = _cleaned(folder)
        if held + len(file.content) > MAX_OWNED_BYTES:
            raise QuotaExceeded(
                f"downloads of the last day fill {held} bytes; at most {MAX_OWNED_BYTES} are kept.",
                retry_after_seconds=3600.0,
            )
        handle = f"file_{secrets.token_hex(8)}"
        facts = {key: value for key, value in asdict(file).items() if key != "content"}
        for suffix, content in (("json", json.dumps(facts).encode()), ("bin", file.content)):
            descriptor = os.open(folder / f"{handle}.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
        return handle

    def get(self, handle: str, owner: Principal) -> File:
        """The file; raises `NotFound` where the owner has no such handle or it has expired."""
        if not _HANDLE.fullmatch(handle):
            raise InvalidInput("handle: not one of ours.", fix="Pass a handle that a download gave.")
        path = self._of(owner) / handle
        try:
            if path.with_suffix(".bin").stat().st_mtime < time.time() - KEEP_SECONDS:
                raise FileNotFoundError
            facts = json.loads(path.with_suffix(".json").read_text())
            return File(content=path.with_suffix(".bin").read_bytes(), **facts)
        except FileNotFoundError:
            raise NotFound(f"there is no file {handle!r}.", fix="Handles last a day; download it again.") from None

    def _of(self, owner: Principal) -> Path:
        who = json.dumps([owner.tenant, owner.namespace, owner.subject])
        return self._folder / hashlib.sha256(who.encode()).hexdigest()[:32]


def _cleaned(folder: Path) -> int:
    """Drop what has expired; the bytes that are left."""
    held = 0
    for path in folder.iterdir():
        facts = path.stat()
        if facts.st_mtime < time.time() - KEEP_SECONDS:
            path.unlink(missing_ok=True)
        else:
            held += facts.st_size
    return held
