"""The one reader of the environment and of configuration files.

Order, last wins: the defaults in a model's fields, the table of `usrland.toml`, the environment. A table is
named like the server it configures; the environment variable of a field is `USRLAND_<TABLE>_<FIELD>` in
capitals, with dashes as underscores, holding a TOML value or, where that does not parse, plain text:

    [filesystem-retrieval]              USRLAND_FILESYSTEM_RETRIEVAL_ROOTS='{ docs = "/srv/docs" }'
    roots = { docs = "/srv/docs" }

Every table and key must be known to somebody: a typing mistake is an error and not a setting that silently
does nothing. Graphical hosts start servers with an almost empty environment, so nothing here is needed from
it; `USRLAND_HOME` only moves the folder that holds everything.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from usrland.errors import InvalidInput
from usrland.redact import keep_secret

__all__ = ["DEFAULT_PORT", "LOOPBACK", "ServerTable", "Settings", "explain", "tell_by_environment"]

SectionT = TypeVar("SectionT", bound=BaseModel)

FILE_NAME = "usrland.toml"
DEFAULT_PORT = 8417
LOOPBACK = ("127.0.0.1", "::1", "localhost")
COMMAND_SECONDS = 20.0


class ServerTable(BaseModel):
    """The `[server]` table: what holds for every server of this home."""

    model_config = ConfigDict(extra="forbid")

    database: str = ""
    """Where audit log and retried calls are kept; default a SQLite file per server. May be a secret reference."""
    allowed_hosts: list[str] = []
    """Host names under which HTTP is reached from outside (`usrland.example.org`, with the port if not 443)."""
    allowed_origins: list[str] = []
    """Origins of browsers that may call (`https://app.example.org`)."""
    public_url: str = ""
    """The address clients use, where a proxy stands before the server."""
    open_loopback: bool = False
    """Let every program of this machine call over loopback without a token, as the owner of this home: for trying
    out programs that cannot send one."""
    max_streams: int = 32
    """How many streams one caller may hold open over HTTP, over all processes that share the ledger."""
    max_requests: int = 256
    """How many other requests, at the same time, per process."""
    body_seconds: float = 10.0
    """How long the body of a request may take to arrive."""
    log: str = "WARNING"
    """What goes to stderr: DEBUG, INFO, WARNING or ERROR."""
    sessions: bool = False
    """Whether HTTP keeps a session per client of the older protocol eras, which can then be asked and told of
    changes. Sessions live in one process: not for several behind a balancer."""
    drain_seconds: float = 5.0
    """How long running calls may go on after SIGTERM."""


def tell_by_environment(values: Mapping[str, str], *, unless_said: bool = False) -> None:
    """For a library that takes these from nowhere else, and for the processes that it starts.

    With `unless_said`, what somebody has said already stays.
    """
    os.environ.update(
        {name: os.environ.get(name, value) if unless_said else value for name, value in values.items()}
    )


def explain(error: ValidationError) -> str:
    """Name every wrong field and what is wrong with it, without repeating the value (it may be a secret)."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'value'}: {item['msg']}"
        for item in error.errors(include_input=False, include_url=False)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where things are and what the operator said."""

    home: Path
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, home: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
        """Read `usrland.toml` in the usrland home, if there is one.

        Raises `InvalidInput` where the file is not TOML or a top-level key is not a table.
        """
        env = dict(os.environ if environment is None else environment)
        home = home or Path(env.get("USRLAND_HOME") or Path.home() / ".usrland")
        home = home.expanduser().absolute()
        file = home / FILE_NAME
        tables: dict[str, Any] = {}
        if file.exists():
            try:
                tables = tomllib.loads(file.read_text(encoding="utf-8"))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise InvalidInput(f"{FILE_NAME} is not valid TOML: {error}.", fix=f"Correct {file}.") from error
            for name, table in tables.items():
                if not isinstance(table, dict):
                    raise InvalidInput(
                        f"{FILE_NAME}: {name!r} stands outside any table.",
                        fix=f"Put it under a [table] in {file}.",
                    )
        return cls(home=home, tables=tables, environment=env)

    @property
    def file(self) -> Path:
        return self.home / FILE_NAME

    def section(self, name: str, model: type[SectionT], **defaults: object) -> SectionT:
        """One table, checked; raises `InvalidInput` naming every wrong or unknown key.

        `defaults` are for what only a home can tell, such as a path in it.
        """
        values = {**defaults, **self.tables.get(name, {})}
        prefix = f"USRLAND_{name.upper().replace('-', '_')}_"
        for field_name in model.model_fields:
            text = self.environment.get(prefix + field_name.upper())
            if text is not None:
                values[field_name] = _toml_value(text)
        unknown = values.keys() - model.model_fields.keys()
        if unknown:
            known = ", ".join(model.model_fields)
            raise InvalidInput(
                f"{FILE_NAME} [{name}]: unknown {', '.join(sorted(unknown))}.", fix=f"Known keys: {known}."
            )
        try:
            return model.model_validate(values)
        except ValidationError as error:
            raise InvalidInput(f"{FILE_NAME} [{name}]: {explain(error)}.", fix=f"Correct {self.file}.") from error

    def data(self, server: str) -> Path:
        """The folder that belongs to one server alone; made on first use, readable by its owner only."""
        folder = self.home / server
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def key(self, name: str) -> bytes:
        """32 random bytes that belong to this home, made at the first use and readable by its owner only."""
        folder = self.home / "keys"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = folder / name
        if not file.exists():
            draft = folder / f".{name}.{os.getpid()}"
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(os.urandom(32))
            with contextlib.suppress(FileExistsError):
                os.link(draft, file)  # of several processes starting at once, one wins and all read its key
            draft.unlink()
        return file.read_bytes()

    def secret(self, reference: str) -> str:
        """The secret a setting points to: `env:NAME`, `file:/path`, `command:PROGRAM ARGUMENT…` or
        `keyring:SERVICE/NAME`. Plain text is refused.

        A command is run without a shell and its output is the secret; the keyring is the operating system's.

        From then on the value is redacted from all that leaves the process. Raises `InvalidInput`; the
        message never holds the secret.
        """
        value = self._secret(reference)
        keep_secret(value)
        return value

    def address(self, said: str) -> str:
        """Of a database: as it was said, or what a reference to a secret stands for."""
        return said if not said or "://" in said else self.secret(said)

    def _secret(self, reference: str) -> str:
        kind, _, where = reference.partition(":")
        if kind == "env" and where:
            value = self.environment.get(where)
            if value is None:
                raise InvalidInput(
                    f"environment variable {where!r} is not set.", fix="Set it where the server starts."
                )
            return value
        if kind == "file" and where:
            try:
                return Path(where).expanduser().read_text(encoding="utf-8").strip()
            except OSError as error:
                raise InvalidInput(f"secret file {where!r} cannot be read: {error.strerror}.") from error
        if kind == "command" and where:
            return _said_by(where)
        if kind == "keyring" and where:
            return _kept_in_keyring(where)
        raise InvalidInput(
            "a secret is given as 'env:NAME', 'file:/path', 'command:PROGRAM …' or 'keyring:SERVICE/NAME', "
            "never as plain text."
        )


def _said_by(command: str) -> str:
    """What a program writes. Its name is repeated in a failure, its arguments and its words are not."""
    words = shlex.split(command)
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_SECONDS, check=True, text=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
        reason = {
            FileNotFoundError: "it is not there",
            subprocess.TimeoutExpired: f"it did not end within {COMMAND_SECONDS:g} seconds",
        }.get(type(error), "it failed")
        raise InvalidInput(
            f"the secret command {words[0]!r} gave nothing: {reason}.", fix="Run it by hand to see why."
        ) from None
    return done.stdout.strip("\r\n")


def _kept_in_keyring(where: str) -> str:
    service, _, name = where.partition("/")
    try:
        import keyring
        from keyring.errors import KeyringError
    except ModuleNotFoundError:
        raise InvalidInput("the OS keyring needs: pip install 'usrland[keyring]'.") from None
    try:
        value = keyring.get_password(service, name)
    except KeyringError as error:
        raise InvalidInput(f"the OS keyring cannot be read: {type(error).__name__}.") from None
    if value is None:
        raise InvalidInput(
            f"the OS keyring holds nothing for {where!r}.", fix=f"Run: keyring set {service} {name}"
        )
    return value


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
