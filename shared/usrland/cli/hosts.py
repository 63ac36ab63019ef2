"""The MCP hosts we can write to: one row of data each.

A new host is a new row. Paths are templates over `{home}`, `{config}` (XDG), `{appdata}`, `{localappdata}`
and `{project}`; an entry is a template over the words below, read in both directions: `connect` fills it in,
`doctor` reads a command back out of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from usrland.errors import InvalidInput
from usrland.probe import Launch

__all__ = ["HOSTS", "Host", "Places", "Scope", "find_host"]

Platform = Literal["linux", "darwin", "win32"]
Scope = Literal["user", "project"]

COMMAND = "{command}"
ARGUMENTS = "{arguments}"
ENVIRONMENT = "{environment}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where this person's files are. `platform` is `sys.platform`."""

    home: Path
    project: Path
    platform: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def fill(self, template: str) -> Path:
        home = self.home.as_posix()
        return Path(
            template.format(
                home=home,
                project=self.project.as_posix(),
                config=self.environment.get("XDG_CONFIG_HOME") or f"{home}/.config",
                appdata=self.environment.get("APPDATA") or f"{home}/AppData/Roaming",
                localappdata=self.environment.get("LOCALAPPDATA") or f"{home}/AppData/Local",
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One program that starts MCP servers over stdio, and the JSON file that tells it which."""

    name: str
    title: str
    files: Mapping[Scope, Mapping[Platform, str]]
    servers_key: str
    """The object in the file that holds one entry per server."""
    entry: Mapping[str, Any]
    start_seconds: float
    """How long the host waits for a server before it gives up."""
    logs: Mapping[Platform, str]
    then: str
    """What a person does for the change to take effect."""

    def file(self, scope: Scope, places: Places) -> Path:
        """Raises `InvalidInput` where this host has no such file on this system."""
        by_platform = self.files.get(scope)
        if by_platform is None:
            raise InvalidInput(
                f"{self.title} has no {scope} scope.", fix=f"Use --scope {' or '.join(self.files)}."
            )
        return places.fill(_for_platform(by_platform, places.platform))

    def log_folder(self, places: Places) -> Path:
        return places.fill(_for_platform(self.logs, places.platform))

    def write_entry(self, launch: Launch) -> dict[str, Any]:
        words: dict[str, Any] = {
            COMMAND: launch.command,
            ARGUMENTS: list(launch.arguments),
            ENVIRONMENT: dict(launch.environment),
        }
        return {key: words.get(word, word) for key, word in self.entry.items()}

    def read_entry(self, entry: Mapping[str, Any]) -> Launch | None:
        """The command of an entry, or `None` where it is no stdio server (a URL, or nonsense)."""
        at = {word: key for key, word in self.entry.items()}
        command = entry.get(at[COMMAND])
        arguments = entry.get(at[ARGUMENTS], [])
        environment = entry.get(at[ENVIRONMENT], {})
        if not (isinstance(command, str) and isinstance(arguments, list) and isinstance(environment, dict)):
            return None
        return Launch(
            command=command,
            arguments=tuple(map(str, arguments)),
            environment={key: str(value) for key, value in environment.items()},
        )


def _for_platform(templates: Mapping[Platform, str], platform: str) -> str:
    if platform == "darwin":
        return templates["darwin"]
    if platform == "win32":
        return templates["win32"]
    return templates["linux"]


def _everywhere(template: str) -> Mapping[Platform, str]:
    return {"linux": template, "darwin": template, "win32": template}


HOSTS: tuple[Host, ...] = (
    Host(
        name="claude-desktop",
        title="Claude Desktop",
        files={
            "user": {
                "linux": "{config}/Claude/claude_desktop_config.json",
                "darwin": "{home}/Library/Application Support/Claude/claude_desktop_config.json",
                "win32": "{appdata}/Claude/claude_desktop_config.json",
            }
        },
        servers_key="mcpServers",
        entry={"command": COMMAND, "args": ARGUMENTS, "env": ENVIRONMENT},
        start_seconds=60,
        logs={
            "linux": "{config}/Claude/logs",
            "darwin": "{home}/Library/Logs/Claude",
            "win32": "{appdata}/Claude/logs",
        },
        then="Quit Claude Desktop completely and open it again.",
    ),
    Host(
        name="claude-code",
        title="Claude Code",
        files={"user": _everywhere("{home}/.claude.json"), "project": _everywhere("{project}/.mcp.json")},
        servers_key="mcpServers",
        entry={"type": "stdio", "command": COMMAND, "args": ARGUMENTS, "env": ENVIRONMENT},
        start_seconds=30,
        logs={
            "linux": "{home}/.cache/claude-cli-nodejs",
            "darwin": "{home}/Library/Caches/claude-cli-nodejs",
            "win32": "{localappdata}/claude-cli-nodejs/Cache",
        },
        then="Start a new session of Claude Code; `/mcp` shows the servers.",
    ),
)


def find_host(name: str) -> Host:
    """Raises `InvalidInput` with the names there are."""
    for host in HOSTS:
        if host.name == name:
            return host
    raise InvalidInput(f"there is no host {name!r}.", fix=f"Known: {', '.join(host.name for host in HOSTS)}.")
