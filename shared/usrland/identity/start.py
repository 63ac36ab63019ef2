"""The token of one start: who may call over loopback where nobody handed out tokens.

Every program of this machine can reach a port of loopback, those of other people and the pages in a browser
too. So a server that has neither tokens nor an authorization server makes one token for its own life and leaves it
where only its owner can read: `run/<port>.token` in the usrland home.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["StartToken"]

PREFIX = "usrland_start_"


@dataclass(frozen=True, slots=True)
class StartToken:
    """Good until the server ends."""

    file: Path
    _digest: bytes

    @classmethod
    @contextmanager
    def made(cls, home: Path, port: int) -> Iterator[StartToken]:
        """Make it and write it down; take it away when the block is left."""
        token = PREFIX + secrets.token_urlsafe(32)
        folder = home / "run"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        file, draft = folder / f"{port}.token", folder / f".{port}.{os.getpid()}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(token)
        draft.replace(file)
        try:
            yield cls(file, hashlib.sha256(token.encode()).digest())
        finally:
            with contextlib.suppress(OSError):
                file.unlink()

    def opens(self, token: str) -> bool:
        return secrets.compare_digest(hashlib.sha256(token.encode()).digest(), self._digest)
