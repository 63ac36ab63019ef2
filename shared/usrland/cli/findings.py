"""What `usrland doctor` looks at. Each check answers with findings; each finding that is bad has a way out."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import anyio

from usrland.cli import hostfile
from usrland.cli.connect import our_entries
from usrland.cli.host import Host, Places
from usrland.cli.servers import Server, installed_servers
from usrland.errors import InvalidInput, Unavailable, UsrlandError
from usrland.probe import Launch, Probe, probe
from usrland.settings import Settings

__all__ = [
    "Finding",
    "check_host",
    "check_installation",
    "check_model",
    "check_server",
    "check_settings",
    "check_systems",
]

Level = Literal["ok", "warning", "error"]

START_SECONDS = 60.0
QUICK_SECONDS = 5.0
"""The shortest time after which a host known to us gives up (an agent SDK)."""
SYSTEMS_SECONDS = 60.0
MAX_TOOLS = 13
SHOWN_LINES = 8
LIBRARY_TABLES = frozenset({"server", "identity"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    check: str
    level: Level
    fact: str
    fix: str = ""
    lines: tuple[str, ...] = ()
    """What the process said, word for word."""


def check_installation(settings: Settings) -> Iterator[Finding]:
    """Versions, and a home that can be written to."""
    try:
        protocol = version("mcp")
    except PackageNotFoundError:
        yield Finding(
            check="versions", level="error", fact="the package mcp is missing", fix="pip install usrland"
        )
    else:
        fact = f"usrland {version('usrland')}, mcp {protocol}, Python {platform.python_version()}"
        yield Finding(check="versions", level="ok", fact=f"{fact} at {sys.executable}")
    yield _home(settings.home)


def _home(home: Path) -> Finding:
    if not home.is_dir():
        return Finding(check="home", level="warning", fact=f"{home} is not there yet", fix="usrland init")
    try:
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        fix = f"Make {home} writable for you, or set USRLAND_HOME to a folder that is."
        return Finding(check="home", level="error", fact=f"{home} cannot be written to: {error.strerror}", fix=fix)
    free = shutil.disk_usage(home).free / 1e9
    if free < 1:
        return Finding(check="home", level="warning", fact=f"{free:.1f} GB free in {home}", fix="Make room.")
    return Finding(check="home", level="ok", fact=f"{home} can be written to, {free:.0f} GB free")


def check_settings(settings: Settings) -> Iterator[Finding]:
    """Tables that nobody reads. What stands in the others, each server checks when it starts."""
    if not settings.file.exists():
        yield Finding(check="settings", level="warning", fact=f"no {settings.file}", fix="usrland init")
        return
    known = LIBRARY_TABLES | {server.name for server in installed_servers()}
    unknown = sorted(settings.tables.keys() - known)
    if unknown:
        fix = f"Known tables: {', '.join(sorted(known))}."
        fact = f"{settings.file}: nobody reads [{'], ['.join(unknown)}]"
        yield Finding(check="settings", level="warning", fact=fact, fix=fix)
    else:
        yield Finding(check="settings", level="ok", fact=f"{settings.file} is valid")


def check_systems(settings: Settings, servers: list[Server]) -> Iterator[Finding]:
    """The systems behind each server that has a catalogue of them: that they answer, with our credentials."""
    for server in servers:
        try:
            catalogue = server.load(settings).state.get("catalogue")
        except UsrlandError:
            continue  # what is wrong with the server itself, starting it tells
        if catalogue is None:
            continue
        problems: dict[str, str] = anyio.run(_problems, catalogue)
        for name, problem in sorted(problems.items()):
            fix = f"Correct its table in {settings.home / 'connectors.toml'}, or what it points to."
            yield Finding(check="systems", level="error", fact=f"{name}: {problem}", fix=fix)
        for system in catalogue.systems:
            if system.name not in problems:
                yield Finding(check="systems", level="ok", fact=f"{system.name} ({system.kind}) answers")


async def _problems(catalogue: Any) -> dict[str, str]:
    try:
        with anyio.fail_after(SYSTEMS_SECONDS):
            problems: dict[str, str] = await catalogue.check()
            return problems
    except TimeoutError:
        return {"connectors.toml": f"not all systems answered within {SYSTEMS_SECONDS:g} seconds"}
    finally:
        await catalogue.aclose()


def check_model() -> Iterator[Finding]:
    """The embedded model, by loading it: its files are compared with their hashes then."""
    from usrland.embedding import embedder

    model = embedder()
    if model is None:
        return
    try:
        model.load()
    except UsrlandError as error:
        yield Finding(check="model", level="error", fact=error.fact, fix=error.fix)
    else:
        yield Finding(check="model", level="ok", fact=f"{model.generation} is there and is the one we know")


def check_server(name: str, launch: Launch, start_seconds: float = START_SECONDS) -> Iterator[Finding]:
    """Start it twice, once for each way a client may begin, and look at all it says and does."""
    first = probe(launch, "2025-06-18", timeout_seconds=start_seconds)
    yield from _noise(name, first)
    if first.failure:
        fix = f"Its last lines say why. The command was: {launch}"
        yield _broken(name, first.failure.rstrip("."), fix, first)
        return
    if first.exit_code != 0:
        fact = (
            "it did not end when its host did" if first.exit_code is None else f"it ended with {first.exit_code}"
        )
        yield _broken(name, fact, "It must end when its standard input is closed; look at its last lines.", first)
        return
    second = probe(launch, "2026-07-28", timeout_seconds=start_seconds)
    if second.failure:
        yield _broken(name, second.failure.rstrip("."), "Update the package mcp.", second)
    if len(first.tools) > MAX_TOOLS:
        fix = f"Show at most {MAX_TOOLS}: each one is paid for in every conversation."
        yield Finding(check=name, level="warning", fact=f"{len(first.tools)} tools", fix=fix)
    yield _start(name, first, second)


def _broken(name: str, fact: str, fix: str, seen: Probe) -> Finding:
    return Finding(check=name, level="error", fact=fact, fix=fix, lines=seen.stderr[-SHOWN_LINES:])


def _start(name: str, *seen: Probe) -> Finding:
    wall = max(each.wall_seconds or 0.0 for each in seen)
    cpu = max(each.cpu_seconds or 0.0 for each in seen)
    eras = " and ".join(each.era for each in seen if not each.failure)
    spent = f" ({cpu:.1f} s of processor time)" if cpu else ""
    fact = f"{len(seen[0].tools)} tools in {wall:.1f} s{spent}, protocol {eras}"
    if wall > QUICK_SECONDS:
        fix = f"Some hosts give up after {QUICK_SECONDS:g} s; see whether the second start is quicker."
        return Finding(check=name, level="warning", fact=fact, fix=fix)
    return Finding(check=name, level="ok", fact=fact)


def _noise(name: str, seen: Probe) -> Iterator[Finding]:
    if seen.noise:
        yield Finding(
            check=name,
            level="error",
            fact=f"{len(seen.noise)} lines on standard output are no JSON-RPC: each one breaks some host",
            fix="Write them to standard error: print(..., file=sys.stderr).",
            lines=seen.noise[:SHOWN_LINES],
        )


def check_host(host: Host, places: Places, servers: list[Server]) -> tuple[list[Finding], Mapping[str, Launch]]:
    """What a host's own files start of ours, and the commands they start it with."""
    findings, launches = [], {}
    for scope in host.files:
        path = host.file(scope, places)
        try:
            entries = hostfile.read(path, host)
        except (InvalidInput, Unavailable) as error:
            findings.append(Finding(check=host.name, level="error", fact=error.fact.rstrip("."), fix=error.fix))
            continue
        for name in our_entries(host, entries, servers):
            address, launch = host.read_address(entries[name]), host.read_entry(entries[name])
            if address is not None:
                findings.append(Finding(check=host.name, level="ok", fact=f"{path} reaches {name} at {address}"))
            elif launch is not None:
                launches[name] = launch
                findings.append(Finding(check=host.name, level="ok", fact=f"{path} starts {name}"))
    return findings, launches
