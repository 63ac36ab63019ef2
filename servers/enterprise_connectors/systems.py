"""`connectors.toml`: which systems there are.

Each table is one system, and its name is how people and kernels call it:

    [crm]
    kind = "sql"                          # the connector: an entry point of the group usrland.connectors
    about = "Customers and deals"         # what it holds; helps sys_find
    write = true                          # also what writes and destroys; otherwise only what reads
    allow_private = true                  # its HTTP may reach loopback and private addresses
    at_once = 8                           # calls it gets at the same time, from this process
    tls = {certificate = "/etc/us.pem"}   # mutual TLS: certificate, key; authority: who vouches for the system
    direct = ["query"]                    # operations that are tools of their own however many there are
    redact = {fields = ["email"]}         # personal data that no answer shows: see personal.py
    url = "env:CRM_URL"                   # from here on: what the connector's own config_type asks for

A value `env:NAME`, `file:/path`, `command:PROGRAM …` or `keyring:SERVICE/NAME` anywhere in a table stands for
the secret it names; a key called `secret`, `password` or `token` takes nothing else. One wrong table never
costs the others: it becomes a problem that sys_find reports, and so does a file that cannot be read at all.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError

from enterprise_connectors.personal import Personal
from usrland.errors import InvalidInput
from usrland.settings import Settings, explain

__all__ = ["FILE_NAME", "Configured", "System", "configure", "systems"]

FILE_NAME = "connectors.toml"
MAX_SYSTEM_NAME = 16
"""Characters. It stands before every operation's name, which has 56 in all."""

_NAME = re.compile(rf"[a-z][a-z0-9_]{{0,{MAX_SYSTEM_NAME - 1}}}")
_RESERVED = frozenset({"sys", "fs", "memory", "audit", "usrland"})
_REFERENCE = re.compile(r"env:\w+|(?:file:(?:~|/(?!/))|command:(?=\S)|keyring:(?!//)).*")
_SECRET_KEYS = frozenset({"secret", "password", "token"})


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One table, before its connector has seen it. Secrets are in `options`: never print them."""

    name: str
    kind: str
    about: str = ""
    write: bool = False
    allow_private: bool = False
    at_once: int = 8
    tls: Mapping[str, str] = field(default_factory=dict)
    direct: tuple[str, ...] = ()
    redact: Personal = field(default_factory=Personal)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    references: frozenset[str] = frozenset()
    """Where its secrets come from."""
    certificates: tuple[tuple[int, int], ...] = ()
    """When the files of `tls` were written, and how large they are."""
    reread: Callable[[], Mapping[str, Any]] | None = field(default=None, repr=False, compare=False)

    def again(self) -> System:
        """The same system, its secrets read again. Blocks. Raises `InvalidInput` where one is not there."""
        if self.reread is None:
            return self
        return replace(self, options=self.reread(), certificates=_written(self.tls.values()))


@dataclass(frozen=True, slots=True)
class Configured:
    """The systems that can be tried, and what is wrong with the others, by name."""

    systems: list[System] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


class _HostKeys(BaseModel):
    """The keys of a table that are not the connector's."""

    model_config = ConfigDict(extra="ignore", strict=True)

    kind: str
    about: str = Field(default="", max_length=120)
    write: bool = False
    allow_private: bool = False
    at_once: int = Field(default=8, ge=1, le=100)
    tls: dict[Literal["certificate", "key", "authority"], str] = {}
    direct: Annotated[tuple[str, ...], Strict(False)] = ()
    redact: Annotated[Personal, Strict(False)] = Personal()


def systems(settings: Settings) -> Configured:
    """Read `connectors.toml` in the usrland home; no file is no systems."""
    file = settings.home / FILE_NAME
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Configured()
    except OSError as error:
        return Configured(problems={FILE_NAME: f"cannot be read: {error.strerror}."})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return Configured(problems={FILE_NAME: f"is not valid TOML: {error}."})
    return configure(settings, tables)


def configure(settings: Settings, tables: Mapping[str, Any]) -> Configured:
    """The systems of these tables, wherever they were written; secrets are read."""
    configured = Configured()
    for name, table in tables.items():
        try:
            configured.systems.append(_system(settings, name, table))
        except InvalidInput as error:
            configured.problems[name] = f"{error.fact} {error.fix}"
    return configured


def _system(settings: Settings, name: str, table: Any) -> System:
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise InvalidInput(
            f"{name!r} cannot be the name of a system.",
            fix=f"Use a-z, 0-9 and '_', at most {MAX_SYSTEM_NAME}, and none of {', '.join(sorted(_RESERVED))}.",
        )
    if not isinstance(table, dict):
        raise InvalidInput(f"{name!r} stands outside any table.", fix="Put it under a [system].")
    try:
        keys = _HostKeys.model_validate(table)
    except ValidationError as error:
        raise InvalidInput(f"[{name}]: {explain(error)}.", fix=f"Correct {FILE_NAME}.") from None
    options = {key: value for key, value in table.items() if key not in _HostKeys.model_fields}
    reread = partial(_resolved, settings, "", options)
    references = frozenset(_references("", options))
    return System(
        name=name,
        options=reread(),
        references=references | {f"file:{file}" for file in keys.tls.values()},
        certificates=_written(keys.tls.values()),
        reread=reread,
        **dict(keys),
    )


def _resolved(settings: Settings, key: str, value: Any) -> Any:
    match value:
        case dict():
            return {inner: _resolved(settings, inner, item) for inner, item in value.items()}
        case list():
            return [_resolved(settings, key, item) for item in value]
        case str() if _is_reference(key, value):
            return settings.secret(value)
        case _:
            return value


def _written(files: Iterable[str]) -> tuple[tuple[int, int], ...]:
    found = []
    for file in files:
        with suppress(OSError):  # who opens it says what is wrong
            facts = Path(file).expanduser().stat()
            found.append((facts.st_mtime_ns, facts.st_size))
    return tuple(found)


def _references(key: str, value: Any) -> Iterator[str]:
    match value:
        case dict():
            for inner, item in value.items():
                yield from _references(inner, item)
        case list():
            for item in value:
                yield from _references(key, item)
        case str() if _is_reference(key, value):
            yield value


def _is_reference(key: str, value: str) -> bool:
    return key in _SECRET_KEYS or _REFERENCE.fullmatch(value) is not None
