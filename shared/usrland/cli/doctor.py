"""`usrland doctor`: start everything as a host would and say what is wrong, and what to do about it.

A host gives a server almost no environment and a clock, so that is what the doctor gives it too: a server that
runs in a terminal proves little.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from usrland.cli.connect import places
from usrland.cli.console import say, say_json
from usrland.cli.findings import (
    Finding,
    Started,
    check_databases,
    check_host,
    check_indexes,
    check_installation,
    check_model,
    check_server,
    check_settings,
    check_systems,
)
from usrland.cli.hosts import HOSTS, find_host
from usrland.cli.servers import Server, pick_servers
from usrland.errors import InvalidInput
from usrland.probe import Launch, bare_environment
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
    fix: Annotated[
        bool, typer.Option("--fix", help="First do what is safe: permissions, the home, commands that are gone.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For another program.")] = False,
) -> None:
    """Start each server as a host would, and check what hosts trip over. Exit code 1 where something is wrong."""
    servers = pick_servers(server or [])
    if fix:
        _repair(as_host, servers, quiet=as_json)
    findings = []
    for finding in _findings(as_host, servers):
        findings.append(finding)
        if not as_json:
            _print(finding)
    bad = sum(finding.level == "error" for finding in findings)
    if as_json:
        say_json({"ok": not bad, "findings": [finding.facts() for finding in findings]})
    else:
        say(f"\n{len(findings)} checks, {bad or 'none'} failed", "red" if bad else "green")
        if any(finding.repair for finding in findings):
            say("What is safe to repair: usrland doctor --fix")
    if bad:
        raise typer.Exit(1)


def _repair(as_host: str | None, servers: list[Server], *, quiet: bool) -> None:
    """What is found without starting anything."""
    settings = _settings()
    here = places(settings)
    found = list(check_installation(settings))
    for host in [find_host(as_host)] if as_host else HOSTS:
        found += check_host(host, here, servers, settings)[0]
    for finding in found:
        if finding.repair is not None:
            finding.repair()
            if not quiet:
                say(f"fixed    {finding.check}: {finding.fact}", "green")


def _findings(as_host: str | None, servers: list[Server]) -> Iterator[Finding]:
    try:
        settings = Settings.load()
    except InvalidInput as error:
        fix = error.fix or "Correct the file."
        yield Finding(check="settings", level="error", fact=error.fact.rstrip("."), fix=fix)
        settings = _settings()
    else:
        yield from check_settings(settings)
    yield from check_installation(settings)
    known: list[Launch] = []
    if as_host is None:
        yield from check_databases(settings)
        yield from check_systems(settings, servers)
        yield from check_indexes(settings, servers)
        yield from check_model()
        known = [server.launch(settings) for server in servers]
        for server, launch in zip(servers, known, strict=True):
            yield from check_server(server.name, _bare(launch, settings))
    yield from _of_hosts(as_host, settings, servers, known)


def _of_hosts(
    as_host: str | None, settings: Settings, servers: list[Server], known: list[Launch]
) -> Iterator[Finding]:
    """Each host's files, and each command in them that was not started yet, once."""
    here = places(settings)
    started: list[Started] = []
    for host in [find_host(as_host)] if as_host else HOSTS:
        findings, of_host = check_host(host, here, servers, settings)
        yield from findings
        started += of_host
        if as_host and not findings:
            fact = f"{host.title} has none of our servers"
            yield Finding(check=host.name, level="error", fact=fact, fix=f"usrland connect {host.name}")
        if as_host or of_host:
            fact = f"{host.title} keeps its logs in {host.log_folder(here)}"
            yield Finding(check=host.name, level="ok", fact=fact)
    for launch in [each for at, each in enumerate(started) if each.launch not in known + _launches(started[:at])]:
        alike = [each for each in started if each.launch == launch.launch]
        seconds = min(each.host.start_seconds for each in alike)  # the most impatient of them
        who = "" if as_host else f" (as {', '.join(each.host.name for each in alike)})"
        yield from check_server(launch.name + who, _bare(launch.launch, settings), seconds)


def _launches(started: list[Started]) -> list[Launch]:
    return [each.launch for each in started]


def _bare(launch: Launch, settings: Settings) -> Launch:
    """With nothing from the shell that runs the doctor."""
    return replace(launch, environment={**bare_environment(settings.environment), **launch.environment})


def _settings() -> Settings:
    """Also where the settings file itself is what is wrong."""
    try:
        return Settings.load()
    except InvalidInput:
        return _without_file()


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
