"""`usrland connect` and `usrland disconnect`: our entries in a host's own configuration file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from usrland.cli import hostfile
from usrland.cli.console import say
from usrland.cli.hosts import HOSTS, Host, Places, find_host
from usrland.cli.servers import Server, pick_servers
from usrland.errors import NotFound
from usrland.settings import Settings

__all__ = ["connect", "disconnect", "our_entries", "places"]

HostName = Annotated[
    str, typer.Argument(metavar="HOST", help=f"One of: {', '.join(host.name for host in HOSTS)}.")
]
ServerNames = Annotated[
    list[str] | None,
    typer.Option("--server", metavar="NAME", help="Only this server; may be repeated. Default: all."),
]
ScopeName = Annotated[
    Literal["user", "project"] | None,
    typer.Option(help="Your own file, or the one in the current folder. Default: user."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the change and write nothing.")]
Undo = Annotated[
    bool, typer.Option("--undo", help="Put back what was there before the last change, byte for byte.")
]


def connect(
    host: HostName,
    server: ServerNames = None,
    scope: ScopeName = None,
    dry_run: DryRun = False,
    undo: Undo = False,
) -> None:
    """Let a host start our servers: writes them into its configuration, and keeps everything else in it."""
    settings = Settings.load()
    target = find_host(host)
    path = target.file(scope or "user", places(settings))
    if undo:
        _undo(target, path)
        return
    servers = pick_servers(server or [])
    entries = {each.name: target.write_entry(each.launch(settings)) for each in servers}
    change = hostfile.plan(path, target.servers_key, entries)
    if not change:
        say(f"{target.title} already starts {_names(servers)}: {path}")
        return
    if not _make(change, dry_run):
        return
    _read_back(target, change.path, servers)
    say(f"{target.title} now starts {_names(servers)}.", "green")
    if scope == "project":
        say("  The file names this computer's Python: keep it out of version control, or let each person connect.")
    say(f"{target.then} Check with: usrland doctor --as-host {target.name}")


def disconnect(
    host: HostName,
    server: ServerNames = None,
    scope: ScopeName = None,
    dry_run: DryRun = False,
    undo: Undo = False,
) -> None:
    """Take our servers out of a host's configuration. Others stay, whatever their names."""
    settings = Settings.load()
    target = find_host(host)
    path = target.file(scope or "user", places(settings))
    if undo:
        _undo(target, path)
        return
    ours = our_entries(target, hostfile.read(path), pick_servers(server or []))
    if not ours:
        say(f"{target.title} starts none of these servers: {path}")
        return
    change = hostfile.plan(path, target.servers_key, dict.fromkeys(ours, None))
    if _make(change, dry_run):
        say(f"{target.title} no longer starts {', '.join(ours)}.", "green")
        say(target.then)


def places(settings: Settings) -> Places:
    """Where this person's files are."""
    return Places(home=Path.home(), project=Path.cwd(), platform=sys.platform, environment=settings.environment)


def our_entries(host: Host, content: Mapping[str, Any], servers: list[Server]) -> list[str]:
    """The names in a host's file under which it starts one of these servers.

    An entry is ours by what it runs: somebody else's server may have the same name.
    """
    entries = content.get(host.servers_key)
    if not isinstance(entries, dict):
        return []
    modules = {server.module for server in servers}
    found = []
    for name, entry in entries.items():
        launch = host.read_entry(entry) if isinstance(entry, dict) else None
        if launch and launch.arguments[:1] == ("-m",) and modules.intersection(launch.arguments[1:2]):
            found.append(name)
    return found


def _make(change: hostfile.Change, dry_run: bool) -> bool:
    """Show the change or make it; whether it was made."""
    if dry_run:
        say(change.diff().rstrip("\n"))
        return False
    backup = hostfile.write(change)
    say(f"wrote   {change.path}")
    say(f"backup  {backup}")
    return True


def _undo(host: Host, path: Path) -> None:
    backup = hostfile.undo(path)
    say(f"{path} is again what it was before the last change (from {backup.name}).", "green")
    say(host.then)


def _read_back(host: Host, path: Path, servers: list[Server]) -> None:
    """Read the file as the host will and see that every command in it is there."""
    entries = hostfile.read(path)[host.servers_key]
    for server in servers:
        launch = host.read_entry(entries[server.name])
        if launch is None or not Path(launch.command).is_file():
            raise NotFound(
                f"{path} names a command for {server.name!r} that is not there.",
                fix=f"usrland connect {host.name} --undo",
            )


def _names(servers: list[Server]) -> str:
    return ", ".join(server.name for server in servers)
