"""Bearer tokens for teams without an identity provider: `tokens.json` in the usrland home.

The file holds SHA-256 of each token and never the token, so reading the file does not let anybody in. A plain
hash is enough because tokens are 256 random bits; this would not do for passwords. Revoking takes effect at
the next request: the file is read again whenever it has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from usrland.errors import Conflict, InvalidInput, NotFound
from usrland.identity.grants import BY_GRANT
from usrland.schemas.principal import Principal

__all__ = ["Token", "TokenFile"]

PREFIX = "usrland_"
FILE_NAME = "tokens.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is kept of one token."""

    name: str
    sha256: str
    scopes: tuple[str, ...]
    tenant: str = "local"
    namespace: str = "main"
    created_at: int = 0
    expires_at: int | None = None
    """Seconds since 1970; None does not expire."""

    @property
    def principal(self) -> Principal:
        return Principal(
            subject=self.name,
            tenant=self.tenant,
            namespace=self.namespace,
            scopes=frozenset(self.scopes),
            source="token",
        )


@dataclass(slots=True)
class TokenFile:
    """The tokens of one usrland home."""

    path: Path
    _read: tuple[int, int, tuple[Token, ...]] | None = field(default=None)

    @classmethod
    def of(cls, home: Path) -> TokenFile:
        return cls(home / FILE_NAME)

    def tokens(self) -> tuple[Token, ...]:
        """All of them, the expired too; raises `InvalidInput` where the file cannot be read."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return ()
        if self._read is None or self._read[:2] != (stat.st_mtime_ns, stat.st_size):
            try:
                rows = json.loads(self.path.read_text(encoding="utf-8"))
                tokens = tuple(Token(**{**row, "scopes": tuple(row["scopes"])}) for row in rows)
            except (ValueError, TypeError, KeyError) as error:
                raise InvalidInput(
                    f"{FILE_NAME} is damaged.", fix="Restore it, or revoke and add tokens anew."
                ) from error
            self._read = (stat.st_mtime_ns, stat.st_size, tokens)
        return self._read[2]

    def principal(self, token: str, *, now: float | None = None) -> Principal | None:
        """Who holds this token; None where nobody does or it has expired."""
        digest = hashlib.sha256(token.encode()).hexdigest()
        moment = time.time() if now is None else now
        for known in self.tokens():
            if secrets.compare_digest(known.sha256, digest):
                return known.principal if known.expires_at is None or moment < known.expires_at else None
        return None

    def add(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        tenant: str = "local",
        namespace: str = "main",
        days: float | None = 90,
    ) -> str:
        """Make a token and return it: the only time it can be seen.

        The one scope `BY_GRANT` makes a token that only proves the name: what it may do stands in `grants.toml`.
        """
        if not scopes or (BY_GRANT in scopes and len(scopes) > 1):
            raise InvalidInput("a token needs at least one scope.", fix="See them with: usrland syscalls.")
        if any(known.name == name for known in self.tokens()):
            raise Conflict(f"there is a token named {name!r}.", fix="Revoke it first, or choose another name.")
        token = PREFIX + secrets.token_urlsafe(32)
        now = int(time.time())
        kept = Token(
            name=name,
            sha256=hashlib.sha256(token.encode()).hexdigest(),
            scopes=tuple(sorted(scopes)),
            tenant=tenant,
            namespace=namespace,
            created_at=now,
            expires_at=None if days is None else now + int(days * 86_400),
        )
        self._write((*self.tokens(), kept))
        return token

    def revoke(self, name: str) -> None:
        """Forget a token; raises `NotFound`."""
        kept = tuple(known for known in self.tokens() if known.name != name)
        if len(kept) == len(self.tokens()):
            raise NotFound(f"there is no token named {name!r}.", fix="See them with: usrland token list.")
        self._write(kept)

    def _write(self, tokens: Sequence[Token]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self.path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump([asdict(token) for token in tokens], stream, indent=2)
        draft.replace(self.path)
        self._read = None
