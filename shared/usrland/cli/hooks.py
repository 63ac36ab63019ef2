"""Hooks: commands that a host runs by itself at a moment of a session, so that nobody has to think of it.

What can be run is said by servers, through the entry point group `usrland.hooks`: a mapping of a moment to the
arguments of a `usrland` sub-command. A host is data again: its file, its names for the moments, the form of an
entry.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

from usrland.cli.host import Format, Paths, Places, Scope
from usrland.cli.jsontext import JsonText
from usrland.errors import InvalidInput
from usrland.settings import Settings

__all__ = ["HOOKS", "HookFile", "offered", "with_ours", "without_ours"]

Moment = Literal["session_start", "before_compaction"]
"""A host that has no moment of its own after a compaction begins a session anew then, or has none at all."""

_PROGRAM = "usrland.cli"
_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class HookFile:
    """Where and how one host is told of hooks. Read and changed like its file of servers (`hostfile`)."""

    files: Mapping[Scope, Paths]
    moments: Mapping[Moment, str]
    format: Format
    container: str = "hooks"
    new_file: str = ""
    grouped: bool = True
    """Whether an entry is a group with a list of commands in it."""
    typed: bool = True
    timeout: int = _SECONDS
    """In the host's own unit."""
    after_compaction: bool = False
    """Whether `session_start` comes again after a compaction."""
    then: str = ""

    def file(self, scope: Scope, places: Places) -> Path:
        """Raises `InvalidInput` where this host has no such file."""
        if scope not in self.files:
            raise InvalidInput(f"it has no hooks of {scope} scope.", fix=f"Use --scope {' or '.join(self.files)}.")
        return places.find(self.files[scope])

    def entry(self, command: str) -> dict[str, Any]:
        one: dict[str, Any] = {"type": "command"} if self.typed else {}
        one |= {"command": command, "timeout": self.timeout}
        return {"hooks": [one]} if self.grouped else one


def _everywhere(template: str) -> Paths:
    return {"linux": (template,), "darwin": (template,), "win32": (template,)}


_JSON = JsonText()
_CLAUDE: Mapping[Moment, str] = {"session_start": "SessionStart", "before_compaction": "PreCompact"}

HOOKS: Mapping[str, HookFile] = {
    "claude-code": HookFile(
        files={
            "user": _everywhere("{claude_home}/settings.json"),
            "project": _everywhere("{project}/.claude/settings.local.json"),
        },
        moments=_CLAUDE,
        format=_JSON,
        after_compaction=True,
        then="`/hooks` in Claude Code shows them.",
    ),
    "codex": HookFile(
        files={
            "user": _everywhere("{codex}/hooks.json"),
            "project": _everywhere("{project}/.codex/hooks.json"),
        },
        moments=_CLAUDE,
        format=_JSON,
        after_compaction=True,
        then="Codex asks once whether you trust them; `/hooks` shows them.",
    ),
    "gemini-cli": HookFile(
        files={
            "user": _everywhere("{home}/.gemini/settings.json"),
            "project": _everywhere("{project}/.gemini/settings.json"),
        },
        moments={"session_start": "SessionStart", "before_compaction": "PreCompress"},
        format=JsonText(comments=True),
        timeout=1000 * _SECONDS,
    ),
    "qwen-code": HookFile(
        files={
            "user": _everywhere("{home}/.qwen/settings.json"),
            "project": _everywhere("{project}/.qwen/settings.json"),
        },
        moments=_CLAUDE,
        format=JsonText(comments=True),
        timeout=1000 * _SECONDS,
        after_compaction=True,
    ),
    "cursor": HookFile(
        files={
            "user": _everywhere("{home}/.cursor/hooks.json"),
            "project": _everywhere("{project}/.cursor/hooks.json"),
        },
        moments={"session_start": "sessionStart", "before_compaction": "preCompact"},
        format=_JSON,
        new_file='{\n  "version": 1\n}\n',
        grouped=False,
        typed=False,
    ),
    "vscode": HookFile(
        files={
            "user": _everywhere("{home}/.copilot/hooks/usrland.json"),
            "project": _everywhere("{project}/.github/hooks/usrland.json"),
        },
        moments=_CLAUDE,
        format=_JSON,
        grouped=False,
        then="VS Code also runs the hooks of Claude Code: connect one of the two.",
    ),
}
"""By the name of the host. Others have no hooks, or none that can give text to a session."""


def offered(host: str, settings: Settings) -> dict[Moment, str]:
    """The command line for each moment that an installed server has something to do at."""
    found: dict[Moment, str] = {}
    for point in entry_points(group="usrland.hooks"):
        for moment, arguments in point.load().items():
            line = [str(Path(sys.executable).absolute()), "-m", _PROGRAM, *arguments, "--host", host]
            if settings.home != Path.home() / ".usrland":
                line += ["--home", str(settings.home)]
            found[moment] = subprocess.list2cmdline(line) if sys.platform == "win32" else shlex.join(line)
    return found


def with_ours(file: HookFile, there: Mapping[str, Any], commands: Mapping[Moment, str]) -> dict[str, Any]:
    """The lists of those events that change, with our entry at the end of each."""
    changed = {}
    for moment, name in file.moments.items():
        if moment in commands:
            kept = _others(there.get(name, []))
            changed[name] = [*kept, file.entry(commands[moment])]
    return {name: entries for name, entries in changed.items() if entries != there.get(name)}


def without_ours(file: HookFile, there: Mapping[str, Any]) -> dict[str, Any]:
    """The same without it; `None` where nothing is left of a list."""
    changed = {name: _others(there[name]) for name in file.moments.values() if name in there}
    return {name: entries or None for name, entries in changed.items() if entries != there[name]}


def _others(entries: Any) -> list[Any]:
    if not isinstance(entries, list):
        raise InvalidInput("a list of hooks is no list.", fix="Correct the file; nothing was changed.")
    return [entry for entry in entries if not _is_ours(entry)]


def _is_ours(entry: Any) -> bool:
    """By what it runs: a group is ours where all of its commands are."""
    if not isinstance(entry, dict):
        return False
    group = entry.get("hooks")
    commands = group if isinstance(group, list) else [entry]
    lines = [str(one.get("command", "")) if isinstance(one, dict) else "" for one in commands]
    return bool(lines) and all(f" -m {_PROGRAM} " in line and " hook " in line for line in lines)
