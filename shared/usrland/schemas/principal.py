"""Who is calling."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Principal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """An identity that was proven, never one that a tool argument claimed.

    `tenant` and `namespace` bound what can be reached: a store keys everything by both.
    `scopes` are the grants. A scope `fs:*` grants every `fs:…`; `*` grants everything and is what the
    owner of a local stdio process has.
    """

    subject: str
    tenant: str = "local"
    namespace: str = "main"
    scopes: frozenset[str] = frozenset()
    client: str = ""
    """The program that acts for the subject, where an access token names one."""
    source: str = "stdio"
    """How the identity was proven: `stdio` (the profile), `local` (over HTTP, to whom the profile belongs),
    `token` (a static bearer token), `oauth`, `test`."""
    groups: frozenset[str] = frozenset()
    """What an access token says its subject belongs to; grants may be given to a group."""
    token: str = field(default="", repr=False, compare=False)
    """The access token that proved it, for an exchange at an authorization server and nothing else."""

    def missing(self, needed: frozenset[str]) -> frozenset[str]:
        """The scopes in `needed` that this principal does not hold."""
        return frozenset(scope for scope in needed if not self._holds(scope))

    def _holds(self, scope: str) -> bool:
        if scope in self.scopes or "*" in self.scopes:
            return True
        parts = scope.split(":")
        return any(":".join([*parts[:depth], "*"]) in self.scopes for depth in range(1, len(parts)))
