"""`usrland connect` and `usrland disconnect`: our entries in a host's own configuration file."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from usrland.cli import hostfile
from usrland.cli.console import say, say_table
from usrland.cli.hooks import HOOKS, offered, with_ours, without_ours
from usrland.cli.host import Address, Host, Places, Scope
from usrland.cli.hosts import HOSTS, find_host
from usrland.cli.servers import Server, pick_servers
from usrland.errors import InvalidInput, NotFound, UsrlandError
from usrland.settings import Settings

__all__ = ["connect", "disconnect", "our_entries", "places"]

HostNames = Annotated[
    list[str] | None, typer.Argument(metavar="[HOST]...", help=f"Of: {', '.join(host.name for host in HOSTS)}.")
]
ServerNames = Annotated[
    list[str] | None,
    typer.Option("--server", metavar="NAME", help="Only this server; may be repeated. Default: all."),
]
ScopeName = Annotated[
    Literal["user", "project"],
    typer.Option(help="Your own file, or the one in the current folder."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the change and write nothing.")]
Undo = Annotated[
    bool, typer.Option("--undo", help="Put back what was there before the last change, byte for byte.")
]
Hooks = Annotated[
    bool,
    typer.Option(
        "--hooks",
        help="Also have the host restore memory at the start of a session and after a compaction, and keep a "
        "snapshot before one.",
    ),
]
Found = Annotated[bool, typer.Option("--found", help="Every host that is installed here.")]


def connect(
    host: HostNames = None,
    found: Found = False,
    server: ServerNames = None,
    scope: ScopeName = "user",
    url: Annotated[
        str | None, typer.Option(help="Of `usrland serve --all --transport http`, instead of starting servers.")
    ] = None,
    token_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="The environment variable with the token for --url.")
    ] = None,
    hooks: Hooks = False,
    dry_run: DryRun = False,
    undo: Undo = False,
) -> None:
    """Let hosts start our servers, or reach them: writes them into their configuration, and keeps everything else
    in it. Without a host: shows which are here."""
    settings = Settings.load()
    here = places(settings)
    if not host and not found:
        _show(here, pick_servers(server or []))
        return
    servers = [] if undo else pick_servers(server or [])
    addresses = _addresses(servers, url, token_env)
    for target in _targets(host, found, here):
        path = target.file(scope, here)
        if undo:
            if hooks:
                _undo_hooks(target, scope, here)
            _undo(target, path)
            continue
        entries = {
            each.name: target.write_remote(each.name, addresses[each.name])
            if url
            else target.write_entry(each.name, each.launch(settings))
            for each in servers
        }
        change = hostfile.plan(path, target, entries)
        if not change:
            say(f"{target.title} already has {_names(servers)}: {path}")
        elif _make(change, dry_run):
            _read_back(target, change.path, entries)
            say(f"{target.title} now has {_names(servers)}.", "green")
            if scope == "project" and not url:
                say("  The file names this computer's Python: keep it out of version control.")
            say(f"{target.then} Check with: usrland doctor --as-host {target.name}")
        if hooks:
            _connect_hooks(target, scope, here, settings, dry_run)


def disconnect(
    host: HostNames = None,
    found: Found = False,
    server: ServerNames = None,
    scope: ScopeName = "user",
    hooks: Annotated[bool, typer.Option("--hooks", help="Only the hooks; the servers stay.")] = False,
    dry_run: DryRun = False,
    undo: Undo = False,
) -> None:
    """Take our servers, and what hooks we installed, out of hosts' configuration. Others stay, whatever their
    names."""
    settings = Settings.load()
    here = places(settings)
    for target in _targets(host, found, here):
        path = target.file(scope, here)
        if undo:
            if hooks:
                _undo_hooks(target, scope, here)
            else:
                _undo(target, path)
            continue
        if hooks or not server:
            _disconnect_hooks(target, scope, here, dry_run, asked=hooks)
        if hooks:
            continue
        ours = our_entries(target, hostfile.read(path, target), pick_servers(server or []))
        if not ours:
            say(f"{target.title} has none of these servers: {path}")
        elif _make(hostfile.plan(path, target, dict.fromkeys(ours, None)), dry_run):
            say(f"{target.title} no longer has {', '.join(ours)}.", "green")
            say(target.then)


def places(settings: Settings) -> Places:
    """Where this person's files are."""
    return Places(home=Path.home(), project=Path.cwd(), platform=sys.platform, environment=settings.environment)


def our_entries(host: Host, entries: Mapping[str, Any], servers: Sequence[Server]) -> list[str]:
    """The names in a host's file under which it has one of these servers.

    An entry is ours by what it runs, or by where it leads: somebody else's server may have the same name.
    """
    return [name for name, entry in entries.items() if isinstance(entry, dict) and _is_ours(host, entry, servers)]


def _is_ours(host: Host, entry: Mapping[str, Any], servers: Sequence[Server]) -> bool:
    address = host.read_address(entry)
    if address is not None:
        return any(address.endswith(f"/{server.name}/mcp") for server in servers)
    launch = host.read_entry(entry)
    return launch is not None and any(
        launch.arguments[:2] == ("-m", server.module) or launch.arguments[-3:] == ("usrland", "serve", server.name)
        for server in servers
    )


def _targets(names: Sequence[str] | None, found: bool, here: Places) -> list[Host]:
    if found:
        installed = [host for host in HOSTS if host.trace(here)]
        if not installed:
            raise NotFound("none of the hosts we know is installed here.", fix="`usrland connect` lists them.")
        return installed
    if not names:
        raise InvalidInput("which host?", fix=f"Known: {', '.join(host.name for host in HOSTS)}.")
    return [find_host(name) for name in names]


def _addresses(servers: Sequence[Server], url: str | None, token_variable: str | None) -> dict[str, Address]:
    """Each server's own address below the given one."""
    if url is None:
        if token_variable is not None:
            raise InvalidInput("--token-env is for --url.", fix="A server that a host starts needs no token.")
        return {}
    if not re.fullmatch(r"https?://[^/\s@?#]+(/[^\s?#]*)?", url):
        raise InvalidInput(f"{url!r} is no address of a server.", fix="As in: --url https://usrland.example.org")
    if token_variable is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", token_variable):
        raise InvalidInput(
            "--token-env takes the name of an environment variable, and this is none.",
            fix="Put the token itself into that variable: it does not belong in a file.",
        )
    base = url.rstrip("/").removesuffix("/mcp")
    return {
        server.name: Address(
            url=f"{base.removesuffix('/' + server.name)}/{server.name}/mcp", token_variable=token_variable or ""
        )
        for server in servers
    }


def _show(here: Places, servers: Sequence[Server]) -> None:
    """A row for each host: whether it is here, and what it has of ours."""
    rows = []
    for host in HOSTS:
        path = host.file("user", here)
        try:
            ours = ", ".join(our_entries(host, hostfile.read(path, host), servers)) or "-"
        except UsrlandError as error:
            ours = error.fact
        rows.append([host.name, "here" if host.trace(here) else "-", ours, str(path)])
    say_table(["host", "installed", "has", "file"], rows)
    say("\nConnect one: usrland connect HOST      all that are here: usrland connect --found")


def _make(change: hostfile.Change, dry_run: bool) -> bool:
    """Show the change or make it; whether it was made."""
    if dry_run:
        say(change.diff().rstrip("\n"))
        return False
    backup = hostfile.write(change)
    say(f"{'wrote' if change.after is not None else 'removed'}   {change.path}")
    say(f"backup  {backup}")
    return True


def _connect_hooks(host: Host, scope: Scope, here: Places, settings: Settings, dry_run: bool) -> None:
    file = HOOKS.get(host.name)
    commands = offered(host.name, settings)
    if file is None or not commands:
        why = "no server here has any" if file else "this host cannot give a session the text of one"
        say(f"{host.title}: no hooks installed; {why}.", "yellow")
        return
    path = file.file(scope, here)
    changed = with_ours(file, hostfile.read(path, file), commands)
    if not changed:
        say(f"{host.title} already has the hooks: {path}")
    elif _make(hostfile.plan(path, file, changed), dry_run):
        say(f"{host.title} now runs {', '.join(changed)}.", "green")
        if not file.after_compaction:
            say("  It has none after a compaction: what was kept comes back with the next session, or when asked.")
        if file.then:
            say(file.then)


def _disconnect_hooks(host: Host, scope: Scope, here: Places, dry_run: bool, *, asked: bool) -> None:
    file = HOOKS.get(host.name)
    path = file.file(scope, here) if file and scope in file.files else None
    changed = without_ours(file, hostfile.read(path, file)) if file and path else {}
    if not file or not path or not changed:
        if asked:
            say(f"{host.title} has none of our hooks.")
    elif _make(hostfile.plan(path, file, changed, removing=True), dry_run):
        say(f"{host.title} no longer runs our hooks.", "green")


def _undo_hooks(host: Host, scope: Scope, here: Places) -> None:
    if file := HOOKS.get(host.name):
        _undo(host, file.file(scope, here))


def _undo(host: Host, path: Path) -> None:
    backup = hostfile.undo(path)
    say(f"{path} is again what it was before the last change (from {backup.name}).", "green")
    say(host.then)


def _read_back(host: Host, path: Path, entries: Mapping[str, Any]) -> None:
    """Read the file as the host will and see that every command in it is there."""
    written = hostfile.read(path, host)
    for name in entries:
        launch = host.read_entry(written[name])
        if host.read_address(written[name]) is None and (launch is None or not Path(launch.command).is_file()):
            raise NotFound(
                f"{path} names a command for {name!r} that is not there.",
                fix=f"usrland connect {host.name} --undo",
            )


def _names(servers: Sequence[Server]) -> str:
    return ", ".join(server.name for server in servers)
