"""`usrland doctor`: start everything as a host would and say what is wrong, and what to do about it.

A host gives a server almost no environment and a clock, so that is what the doctor gives it too: a server that
runs in a terminal proves little.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from usrland.cli.connect import places
from usrland.cli.console import say, say_json
from usrland.cli.findings import (
    Finding,
    check_host,
    check_installation,
    check_model,
    check_server,
    check_settings,
    check_systems,
)
from usrland.cli.hosts import HOSTS, find_host
from usrland.cli.servers import Server, pick_servers
from usrland.errors import InvalidInput
from usrland.probe import bare_environment
from usrland.settings import Settings

__all__ = ["doctor"]

MARKS = {"ok": ("ok     ", "green"), "warning": ("warning", "yellow"), "error": ("error  ", "red")}


def doctor(
    as_host: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="Only what this host's own file starts, with the commands it names."),
    ] = None,
    server: Annotated[
        list[str] | None, typer.Option("--server", metavar="NAME", help="Only this server; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For another program.")] = False,
) -> None:
    """Start each server as a host would, and check what hosts trip over. Exit code 1 where something is wrong."""
    findings = []
    for finding in _findings(as_host, pick_servers(server or [])):
        findings.append(finding)
        if not as_json:
            _print(finding)
    bad = sum(finding.level == "error" for finding in findings)
    if as_json:
        say_json({"ok": not bad, "findings": [asdict(finding) for finding in findings]})
    else:
        say(f"\n{len(findings)} checks, {bad or 'none'} failed", "red" if bad else "green")
    if bad:
        raise typer.Exit(1)


def _findings(as_host: str | None, servers: list[Server]) -> Iterator[Finding]:
    try:
        settings = Settings.load()
    except InvalidInput as error:
        yield Finding(check="settings", level="error", fact=error.fact.rstrip("."), fix=error.fix)
        settings = _without_file()
    else:
        yield from check_settings(settings)
    yield from check_installation(settings)
    if as_host is None:
        yield from check_systems(settings, servers)
        yield from check_model()
        for server in servers:
            launch = server.launch(settings)
            bare = bare_environment(settings.environment)
            yield from check_server(server.name, replace(launch, environment={**bare, **launch.environment}))
    yield from _of_hosts(as_host, settings, servers)


def _of_hosts(as_host: str | None, settings: Settings, servers: list[Server]) -> Iterator[Finding]:
    here = places(settings)
    for host in [find_host(as_host)] if as_host else HOSTS:
        findings, launches = check_host(host, here, servers)
        yield from findings
        if as_host is None:
            continue
        if not launches:
            fact = f"{host.title} starts none of our servers"
            yield Finding(check=host.name, level="error", fact=fact, fix=f"usrland connect {host.name}")
        for name, launch in launches.items():
            environment = {**bare_environment(settings.environment), **launch.environment}
            yield from check_server(name, replace(launch, environment=environment), host.start_seconds)
        yield Finding(check=host.name, level="ok", fact=f"{host.title} keeps its logs in {host.log_folder(here)}")


def _without_file() -> Settings:
    """The home and the environment, where the settings file itself is what is wrong."""
    environment = Settings.load(Path("/nonexistent")).environment
    home = Path(environment.get("USRLAND_HOME") or Path.home() / ".usrland")
    return Settings(home=home.expanduser().absolute(), environment=environment)


def _print(finding: Finding) -> None:
    mark, style = MARKS[finding.level]
    say(f"{mark}  {finding.check}: {finding.fact}", style)
    for line in finding.lines:
        say(f"           | {line}", "dim")
    if finding.fix:
        say(f"         → {finding.fix}")
