"""What we know of one MCP host: where its file is, how an entry in it reads, how it is told of a server.

A host is data. An entry is a template over the words below, read in both directions: `connect` fills it in,
`doctor` reads a command back out of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from usrland.errors import InvalidInput
from usrland.probe import Launch

__all__ = [
    "ARGUMENTS",
    "COMMAND",
    "COMMAND_LINE",
    "ENVIRONMENT",
    "NAME",
    "TOKEN",
    "URL",
    "Address",
    "Format",
    "Host",
    "Paths",
    "Places",
    "Platform",
    "Scope",
]

Platform = Literal["linux", "darwin", "win32"]
Scope = Literal["user", "project"]
Paths = Mapping[Platform, tuple[str, ...]]
"""By system; of several the first that exists, and where none does, the first."""

NAME = "{name}"
COMMAND = "{command}"
ARGUMENTS = "{arguments}"
COMMAND_LINE = "{command_line}"
"""Command and arguments in one list."""
ENVIRONMENT = "{environment}"
URL = "{url}"
TOKEN = "{token}"
"""Inside a text: the name of an environment variable."""


class Format(Protocol):
    """How a file is read, and changed in one place. Texts in, texts out."""

    def parse(self, text: str) -> dict[str, Any]: ...
    def entries(self, content: dict[str, Any], container: str) -> dict[str, Any]: ...
    def put(self, text: str, container: str, name: str, entry: Any) -> str: ...
    def remove(self, text: str, container: str, name: str) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A server that runs already. The token itself is never here: only the variable that holds it."""

    url: str
    token_variable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where this person's files are. `platform` is `sys.platform`."""

    home: Path
    project: Path
    platform: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def fill(self, template: str) -> Path:
        """The words in braces: home, project, the system's folders, and those that a host's own variable moves."""
        home = self.home.as_posix()

        def moved(variable: str, otherwise: str) -> str:
            return self.environment.get(variable) or f"{home}/{otherwise}"

        return Path(
            template.format(
                home=home,
                project=self.project.as_posix(),
                config=moved("XDG_CONFIG_HOME", ".config"),
                data=moved("XDG_DATA_HOME", ".local/share"),
                state=moved("XDG_STATE_HOME", ".local/state"),
                appdata=moved("APPDATA", "AppData/Roaming"),
                localappdata=moved("LOCALAPPDATA", "AppData/Local"),
                claude=moved("CLAUDE_CONFIG_DIR", ""),
                claude_home=moved("CLAUDE_CONFIG_DIR", ".claude"),
                codex=moved("CODEX_HOME", ".codex"),
                continue_dev=moved("CONTINUE_GLOBAL_DIR", ".continue"),
            )
        )

    def find(self, paths: Paths) -> Path:
        """The first of these that is there, or the first."""
        platform: Platform = "darwin" if self.platform == "darwin" else "linux"
        filled = [self.fill(template) for template in paths["win32" if self.platform == "win32" else platform]]
        return next((path for path in filled if path.exists()), filled[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One program that uses MCP servers, and the file that tells it which."""

    name: str
    title: str
    files: Mapping[Scope, Paths]
    format: Format
    container: str
    """The key in the file under which there is one entry per server."""
    entry: Mapping[str, Any]
    """For a server that the host starts itself."""
    remote: Mapping[str, Any] | None
    """For one that it reaches by its address; `None` where the file cannot say that."""
    headers: tuple[str, str] | None
    """The key of `remote` that names the token, and what stands there. `None` where the host has no way to name an
    environment variable instead of the token itself."""
    traces: tuple[str, ...]
    """A program or a path by which one sees that the host is installed."""
    start_seconds: float
    """How long the host waits for a server before it gives up."""
    logs: Paths
    then: str
    """What a person does for the change to take effect."""
    new_file: str = ""
    """What a file must say beside its entries."""

    def file(self, scope: Scope, places: Places) -> Path:
        """Raises `InvalidInput` where this host has no such file."""
        paths = self.files.get(scope)
        if paths is None:
            raise InvalidInput(
                f"{self.title} has no {scope} scope.", fix=f"Use --scope {' or '.join(self.files)}."
            )
        return places.find(paths)

    def log_folder(self, places: Places) -> Path:
        return places.find(self.logs)

    def trace(self, places: Places) -> Path | None:
        """What shows that it is installed here, if anything does."""
        for trace in self.traces:
            if "{" in trace:
                path = places.fill(trace)
                if path.exists():
                    return path
            elif found := shutil.which(trace, path=places.environment.get("PATH", "")):
                return Path(found)
        return None

    def write_entry(self, name: str, launch: Launch) -> dict[str, Any]:
        words: dict[str, Any] = {
            NAME: name,
            COMMAND: launch.command,
            ARGUMENTS: list(launch.arguments),
            COMMAND_LINE: [launch.command, *launch.arguments],
            ENVIRONMENT: dict(launch.environment),
        }
        return {key: words.get(word, word) if isinstance(word, str) else word for key, word in self.entry.items()}

    def write_remote(self, name: str, address: Address) -> dict[str, Any]:
        """Raises `InvalidInput` where this host cannot be told of an address, or not of a token."""
        if self.remote is None:
            raise InvalidInput(
                f"{self.title} starts servers from this file and reaches none by address.",
                fix="Connect it without --url, or add the address in its own settings.",
            )
        words = {NAME: name, URL: address.url}
        entry = {
            key: words.get(word, word) if isinstance(word, str) else word for key, word in self.remote.items()
        }
        if not address.token_variable:
            return entry
        if self.headers is None:
            raise InvalidInput(
                f"{self.title} cannot take a token from an environment variable, and a secret does not belong in "
                "its file.",
                fix="Connect it without --url: the server then runs on this computer and needs no token.",
            )
        key, text = self.headers
        text = text.replace(TOKEN, address.token_variable)
        header = {"Authorization": text}
        told: Any = {"headers": header, "requestOptions": {"headers": header}}.get(key, text)
        return {**entry, key: told}

    def read_entry(self, entry: Mapping[str, Any]) -> Launch | None:
        """The command of an entry, or `None` where it is no stdio server (an address, or nonsense)."""
        at = {word: key for key, word in self.entry.items() if isinstance(word, str)}
        if COMMAND_LINE in at:
            line = entry.get(at[COMMAND_LINE])
            command, arguments = (line[0], line[1:]) if isinstance(line, list) and line else (None, [])
        else:
            command, arguments = entry.get(at[COMMAND]), entry.get(at[ARGUMENTS], [])
        environment = entry.get(at[ENVIRONMENT], {})
        if not (isinstance(command, str) and isinstance(arguments, list) and isinstance(environment, dict)):
            return None
        return Launch(
            command=command,
            arguments=tuple(map(str, arguments)),
            environment={key: str(value) for key, value in environment.items()},
        )

    def read_address(self, entry: Mapping[str, Any]) -> str | None:
        """The URL of an entry, where it has one."""
        key = next((key for key, word in (self.remote or {}).items() if word == URL), None)
        address = entry.get(key) if key else None
        return address if isinstance(address, str) else None
