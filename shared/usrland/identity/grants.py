"""Who may do what, in one file: `grants.toml` in the usrland home.

    [roles]
    reader = ["fs:read", "memory:read"]

    [subjects."ada"]
    may = ["reader", "sys:call", "fs:label:finance"]
    tenant = "acme"

    [groups."analysts"]
    may = ["reader"]

A word with a colon is a scope, one without is a role. What a caller holds is what its credential carries, as far
as the file grants it: neither can widen the other. Whom the file does not name keeps what the credential carries,
where an operator of this home wrote that (the profile, a static token); an access token of an authorization
server gives nothing then. Without a file, credentials alone decide.

The file is read again whenever it has changed, so revoking takes effect at the next call.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from usrland.errors import InvalidInput
from usrland.schemas.principal import Principal
from usrland.settings import explain

__all__ = ["BY_GRANT", "GrantFile", "Granted"]

FILE_NAME = "grants.toml"
BY_GRANT = "@grants"
"""Stands among the scopes of a credential that proves only who somebody is: it carries what the file grants."""


class Granted(BaseModel):
    """One row: what somebody may do, and whose data that concerns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    may: list[str] = []
    tenant: str = ""
    """Default: what the credential says."""
    namespace: str = ""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    roles: dict[str, list[str]] = {}
    subjects: dict[str, Granted] = {}
    groups: dict[str, Granted] = {}

    def scopes(self, words: Iterable[str]) -> frozenset[str]:
        found: set[str] = set()
        for word in words:
            if is_scope(word):
                found.add(word)
            elif word in self.roles:
                found.update(self.roles[word])
            else:
                raise InvalidInput(f"{FILE_NAME}: there is no role {word!r}.", fix="Define it under [roles].")
        return frozenset(found)


@dataclass(slots=True)
class GrantFile:
    """The grants of one usrland home."""

    path: Path
    _read: tuple[tuple[int, int, int], _File] | None = field(default=None)

    @classmethod
    def of(cls, home: Path) -> GrantFile:
        return cls(home / FILE_NAME)

    def rows(self, principal: Principal) -> Mapping[str, Granted]:
        """What the file says of this caller, by whom it names. Raises `InvalidInput` where it is damaged."""
        file = self._file()
        named = {principal.subject: file.subjects.get(principal.subject)}
        named |= {group: file.groups.get(group) for group in sorted(principal.groups)}
        return {name: row for name, row in named.items() if row is not None}

    def roles(self) -> Mapping[str, list[str]]:
        return self._file().roles

    def subjects(self) -> Mapping[str, Granted]:
        return self._file().subjects

    def bounded(self, principal: Principal) -> Principal:
        """The caller with what it holds in the end. Raises `InvalidInput` where the file is damaged."""
        if not self._stamp():
            return principal
        rows = self.rows(principal)
        if not rows:
            return replace(principal, scopes=frozenset()) if principal.source == "oauth" else principal
        granted = self._file().scopes(word for row in rows.values() for word in row.may)
        tenants = {row.tenant for row in rows.values() if row.tenant} or {principal.tenant}
        namespaces = {row.namespace for row in rows.values() if row.namespace} or {principal.namespace}
        if len(tenants) > 1 or len(namespaces) > 1:
            raise InvalidInput(
                f"{FILE_NAME}: {principal.subject!r} is in several tenants or namespaces at once.",
                fix="Name one for the subject, or take it out of a group.",
            )
        scopes = granted if BY_GRANT in principal.scopes else _meet(principal.scopes, granted)
        return replace(principal, scopes=scopes, tenant=tenants.pop(), namespace=namespaces.pop())

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _file(self) -> _File:
        stamp = self._stamp()
        if stamp is None:
            return _File()
        if self._read is None or self._read[0] != stamp:
            self._read = (stamp, parsed(self.path.read_bytes()))
        return self._read[1]

    def write(self, text: str) -> None:
        """Replace the file, if `text` is a good one; readable by its owner only."""
        parsed(text.encode())
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self.path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
        draft.replace(self.path)


def parsed(content: bytes) -> _File:
    try:
        file = _File.model_validate(tomllib.loads(content.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"{FILE_NAME} is not valid TOML: {error}.", fix="Correct it; nobody comes in."
        ) from error
    except ValidationError as error:
        raise InvalidInput(f"{FILE_NAME}: {explain(error)}.", fix="Correct it; nobody comes in.") from error
    for role, words in file.roles.items():
        if is_scope(role):
            raise InvalidInput(f"{FILE_NAME}: {role!r} is a scope and no role.", fix="Name roles without a colon.")
        wrong = [word for word in words if not is_scope(word)]
        if wrong:
            raise InvalidInput(
                f"{FILE_NAME}: role {role!r}: {wrong[0]!r} is no scope.", fix="Roles hold scopes only."
            )
    for row in (*file.subjects.values(), *file.groups.values()):
        file.scopes(row.may)
    return file


def is_scope(word: str) -> bool:
    """A role has no colon; a scope has one, or is `*`."""
    return ":" in word or word == "*"


def _meet(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    """What both grant: of `fs:*` and `fs:read`, that is `fs:read`."""
    first, second = Principal(subject="", scopes=one), Principal(subject="", scopes=other)
    return frozenset(
        scope
        for scopes, held in ((one, second), (other, first))
        for scope in scopes
        if not held.missing(frozenset({scope}))
    )
