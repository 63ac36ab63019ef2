"""`usrland init`: the usrland home, with settings that explain themselves.

A file that is there is never written anew: folders are added to it as a person would, and every comment and
blank line of theirs stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tomlkit
import typer
from tomlkit.exceptions import TOMLKitError

from usrland.cli.console import say
from usrland.errors import Conflict, InvalidInput
from usrland.settings import Settings

__all__ = ["add_folders", "init"]

FILES_TABLE = "filesystem-retrieval"

SETTINGS = """\
# The settings of usrland. Every key has a default, so an empty file is fine.
# A key that nobody knows is an error: a typing mistake never does nothing in silence.

[filesystem-retrieval]
# The folders that hosts may search and read, by name. Nothing outside them can be reached,
# and neither can what a .gitignore or .usrlandignore in them names.
roots = {}
# Patterns to ignore besides those, in all folders:
# ignore = ["*.log"]

[memory-snapshot]
# What your model's context window holds; what is restored is packed to fit.
# window_tokens = 200_000

[identity]
# Who you are to your own servers. Default: your user name on this computer.
# subject = "ada"
# What is remembered and indexed is kept apart by namespace.
# namespace = "main"
# What your own hosts may do. Default: everything.
# scopes = ["*"]

[server]
# Audit log and retried calls are kept in SQLite files in this folder, or in one PostgreSQL database.
# database = "postgresql://usrland@db.internal/usrland"
# For HTTP behind a name of your own:
# public_url = "https://usrland.internal"
# allowed_hosts = ["usrland.internal"]

[audit]
# Signed checkpoints of the log of calls are appended to this file. Choose one that nobody here can edit,
# such as another machine's share: what they attest cannot be changed or cut off unnoticed.
# checkpoints = "/mnt/archive/usrland-checkpoints"

[oauth]
# For HTTP: whose access tokens open the door, besides those of `usrland token`.
# issuer = "https://login.internal"
# The claim that says whose data a caller reaches:
# tenant_claim = "org"
"""

CONNECTORS = """\
# The systems that enterprise-connectors can reach: one table each, under a name of your choice.
# Secrets stand here only as env:NAME or file:/path, never as plain text.
# Only what reads is offered, unless a table says write = true.

# [crm]
# kind = "sql"
# about = "Customers, deals and their contacts."
# url = "env:CRM_DATABASE_URL"

# [tickets]
# kind = "openapi"
# about = "Support tickets."
# spec = "/srv/specs/tickets.yaml"
# base_url = "https://tickets.internal/api"
# auth = { kind = "bearer", secret = "file:/run/secrets/tickets-token" }

# [tasks]
# kind = "example"
# about = "A team's task list, to try things out."
# file = "/home/ada/tasks.sqlite"
# write = true
"""


def init(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FOLDER]...", help="Folders that hosts may search and read."),
    ] = None,
) -> None:
    """Make the usrland home and its settings, and add folders to them. What is there already stays."""
    home = Settings.load().home
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, text in (("usrland.toml", SETTINGS), ("connectors.toml", CONNECTORS)):
        say(f"{'made' if _make(home / name, text) else 'kept'}   {home / name}")
    file = home / "usrland.toml"
    before = file.read_text(encoding="utf-8")
    after, added = add_folders(before, [_checked(folder) for folder in folders or []])
    if after != before:
        _replace(file, after)
    for name, path in added.items():
        say(f"added  {name} = {path}", "green")
    _say_next(after)


def add_folders(text: str, folders: list[Path]) -> tuple[str, dict[str, str]]:
    """The settings with these folders as roots, and those that were not there yet, by name."""
    try:
        document = tomlkit.parse(text)
    except TOMLKitError as error:
        raise InvalidInput(
            f"usrland.toml is not valid TOML: {error}.", fix="Correct it; nothing was changed."
        ) from error
    table: Any = document.setdefault(FILES_TABLE, tomlkit.table())
    if not folders:
        return text, {}
    roots: Any = table.setdefault("roots", tomlkit.inline_table())
    if not isinstance(roots, dict):
        raise InvalidInput("usrland.toml: roots is no table.", fix='Write it as: roots = { name = "/folder" }')
    added = {}
    for folder in folders:
        if folder not in _folders(roots):
            name = _name(folder, taken=set(roots))
            roots[name] = added[name] = str(folder)
    return (tomlkit.dumps(document), added) if added else (text, {})


def _folders(roots: Mapping[str, Any]) -> set[Path]:
    """Where the roots are: each is a path, or a table with a path in it."""
    paths = (root.get("folder", "") if isinstance(root, dict) else root for root in roots.values())
    return {Path(str(path)).expanduser() for path in paths}


def _make(file: Path, text: str) -> bool:
    try:
        with file.open("x", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
    except FileExistsError:
        return False
    return True


def _replace(file: Path, text: str) -> None:
    draft = file.with_name(f".{file.name}.draft")
    draft.write_text(text, encoding="utf-8", newline="")
    draft.chmod(file.stat().st_mode & 0o7777)
    draft.replace(file)


def _checked(folder: Path) -> Path:
    path = folder.expanduser().resolve()
    if not path.is_dir():
        raise InvalidInput(f"{str(folder)!r} is no folder.", fix="Name folders that are there.")
    if path == Path(path.anchor):
        raise Conflict(f"{path} is the whole disk.", fix="Name the folders that hosts are to see.")
    return path


def _name(folder: Path, taken: set[str]) -> str:
    """A short name for a root; a number behind it where two folders are called alike."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-") or "root"
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}-{number}", number + 1
    return candidate


def _say_next(text: str) -> None:
    table = tomlkit.parse(text).get(FILES_TABLE) or {}
    if not table.get("roots"):
        say("\nNext: say which folders hosts may read:  usrland init ~/Documents")
    else:
        say("\nNext: let a host start the servers:  usrland connect claude-desktop")
