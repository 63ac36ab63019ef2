"""`usrland check`, `rebuild`, `backup`, `restore`: is everything still what was written, and a copy of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import anyio
import typer

from usrland.cli.console import say
from usrland.cli.servers import pick_servers
from usrland.connector import Service
from usrland.keeping import Problem, back_up, changed_files
from usrland.keeping import check as look_over
from usrland.keeping import restore as bring_back
from usrland.settings import Settings

__all__ = ["backup", "check", "rebuild", "restore"]

ServerNames = Annotated[
    list[str] | None, typer.Option("--server", metavar="NAME", help="Only this server; may be repeated.")
]


def check(
    server: ServerNames = None,
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Read every stored byte and hold it against its hash.")
    ] = False,
    copy: Annotated[Path | None, typer.Option("--backup", metavar="FOLDER", help="A copy, instead.")] = None,
) -> None:
    """Say whether everything this home keeps is what was written. Exit code 1: it is not."""
    settings = Settings.load()
    if copy is not None:
        problems = changed_files(copy)
    else:
        problems = anyio.run(_problems, settings, _services(settings, server or []), read_data)
    for problem in problems:
        say(f"{problem.place}: {problem.fact}", "red")
    if problems:
        raise typer.Exit(1)
    say("Everything is what was written." if read_data or copy else "Nothing is broken. Every byte: --read-data")


def rebuild(server: ServerNames = None) -> None:
    """Throw away what is derived (search indexes) and make it anew from what is kept."""
    settings = Settings.load()
    for service in _services(settings, server or []):
        if service.keeping is not None:
            say(f"{service.name}: {anyio.run(service.keeping.rebuild)}", "green")


def backup(folder: Annotated[Path, typer.Argument(help="A folder that is not there yet.")]) -> None:
    """Copy everything this home keeps, while servers run. Indexes are left out: they are made anew."""
    settings = Settings.load()
    manifest = back_up(settings, _services(settings, []), folder.expanduser().absolute())
    say(f"{len(manifest['files'])} files in {folder}. It holds keys: keep it as you keep the home.", "green")
    for place in manifest["elsewhere"]:
        say(
            f"not in it: {place} (in a database that is not of this home; back it up with its own tools)", "yellow"
        )


def restore(folder: Annotated[Path, typer.Argument(help="What `usrland backup` made.")]) -> None:
    """Bring a copy back as the usrland home, which must be empty or not there. Nothing is overwritten."""
    settings = Settings.load()
    count = bring_back(folder.expanduser().absolute(), settings.home)
    say(f"{count} files in {settings.home}. Look it over: usrland check --read-data", "green")


def _services(settings: Settings, names: list[str]) -> list[Service]:
    return [server.load(settings) for server in pick_servers(names)]


async def _problems(settings: Settings, services: list[Service], read_data: bool) -> list[Problem]:
    return [problem for service in services async for problem in look_over(settings, service, read_data=read_data)]
