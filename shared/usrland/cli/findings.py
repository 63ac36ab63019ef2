"""What `usrland doctor` looks at. Each check answers with findings; each finding that is bad has a way out."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
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
    "Started",
    "check_databases",
    "check_host",
    "check_indexes",
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
BUSY = 2
"""Programs that want to run, for each processor."""
MAX_TOOLS = 13
SHOWN_LINES = 8
LOG_BYTES = 4_096
LIBRARY_TABLES = frozenset({"audit", "consent", "identity", "oauth", "quotas", "server", "telemetry"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    check: str
    level: Level
    fact: str
    fix: str = ""
    lines: tuple[str, ...] = ()
    """What the process said, word for word."""
    repair: Callable[[], None] | None = None
    """Does what `fix` says, where that is safe: nothing is lost, and it can be taken back."""

    def __post_init__(self) -> None:
        if self.level != "ok" and not self.fix:
            raise ValueError(f"a finding that is bad has a way out: {self.check}: {self.fact}")

    def facts(self) -> dict[str, Any]:
        """For another program."""
        return {
            "check": self.check,
            "level": self.level,
            "fact": self.fact,
            "fix": self.fix,
            "fixable": self.repair is not None,
            "lines": list(self.lines),
        }


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
    if sys.platform != "win32" and settings.home.is_dir() and settings.home.stat().st_mode & 0o077:
        yield Finding(
            check="home",
            level="warning",
            fact=f"{settings.home} can be read by other people of this computer",
            fix=f"chmod 700 {settings.home}",
            repair=lambda: settings.home.chmod(0o700),
        )


def _home(home: Path) -> Finding:
    if not home.is_dir():
        return Finding(
            check="home",
            level="warning",
            fact=f"{home} is not there yet",
            fix="usrland init",
            repair=lambda: home.mkdir(mode=0o700, parents=True),
        )
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
        fact = f"no {settings.file}: everything is at its default"
        yield Finding(check="settings", level="warning", fact=fact, fix="usrland init")
        return
    known = LIBRARY_TABLES | {server.name for server in installed_servers()}
    unknown = sorted(settings.tables.keys() - known)
    if unknown:
        fix = f"Known tables: {', '.join(sorted(known))}."
        fact = f"{settings.file}: nobody reads [{'], ['.join(unknown)}]"
        yield Finding(check="settings", level="warning", fact=fact, fix=fix)
    else:
        yield Finding(check="settings", level="ok", fact=f"{settings.file} is valid")


def check_databases(settings: Settings) -> Iterator[Finding]:
    """Every SQLite file of the home, by SQLite's own check. Servers may use them meanwhile."""
    for file in sorted(settings.home.glob("*/*.sqlite")):
        place = file.relative_to(settings.home).as_posix()
        try:
            with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
                (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            said = str(error)
        if said == "ok":
            yield Finding(check="database", level="ok", fact=f"{place} is whole")
        else:
            fix = f"Stop the servers, keep a copy of {file}, and restore it from a backup."
            yield Finding(check="database", level="error", fact=f"{place}: {said}", fix=fix)


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


def check_indexes(settings: Settings, servers: list[Server]) -> Iterator[Finding]:
    """Whether what servers made of other people's files still fits those, of each server that can tell."""
    for server in servers:
        try:
            health = server.load(settings).state.get("health")
            said = anyio.run(health) if health is not None else ()
        except UsrlandError:
            continue  # what is wrong with the server itself, starting it tells
        for level, fact, fix in said:
            yield Finding(check="index", level=level, fact=fact, fix=fix)


def check_model() -> Iterator[Finding]:
    """The embedded model, by loading it: its files are compared with their hashes then."""
    from usrland.embedding import embedder

    model = embedder()
    if model is None:
        return
    try:
        model.load()
    except UsrlandError as error:
        fix = error.fix or "Install it again: pip install --force-reinstall usrland"
        yield Finding(check="model", level="error", fact=error.fact, fix=fix)
    else:
        yield Finding(check="model", level="ok", fact=f"{model.generation} is there and is the one we know")


def check_server(name: str, launch: Launch, start_seconds: float = START_SECONDS) -> Iterator[Finding]:
    """Start it twice, once for each way a client may begin, and look at all it says and does."""
    first = probe(launch, "2025-06-18", timeout_seconds=start_seconds)
    yield from _noise(name, first)
    if first.failure:
        fix = f"Its last lines say why. Try it yourself: {launch}"
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
    return Finding(check=name, level="error", fact=fact, fix=fix + _busy(), lines=seen.stderr[-SHOWN_LINES:])


def _busy() -> str:
    """What to add where the computer may be what is slow, and not the server."""
    try:
        waiting, processors = os.getloadavg()[0], os.cpu_count() or 1
    except (AttributeError, OSError):  # Windows counts nothing like it
        return ""
    if waiting <= BUSY * processors:
        return ""
    return (
        f" This computer is busy ({waiting:.0f} programs for {processors} processors): look again when it is not."
    )


def _start(name: str, *seen: Probe) -> Finding:
    wall = max(each.wall_seconds or 0.0 for each in seen)
    cpu = max(each.cpu_seconds or 0.0 for each in seen)
    eras = " and ".join(each.era for each in seen if not each.failure)
    spent = f" ({cpu:.1f} s of processor time)" if cpu else ""
    fact = f"{len(seen[0].tools)} tools in {wall:.1f} s{spent}, protocol {eras}"
    if wall > QUICK_SECONDS:
        fix = f"Some hosts give up after {QUICK_SECONDS:g} s; see whether the second start is quicker." + _busy()
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A server as one host starts it."""

    host: Host
    name: str
    launch: Launch


def check_host(
    host: Host, places: Places, servers: list[Server], settings: Settings
) -> tuple[list[Finding], list[Started]]:
    """What a host's own files say of our servers, and the commands they start them with."""
    findings: list[Finding] = []
    started: list[Started] = []
    for scope in host.files:
        path = host.file(scope, places)
        try:
            entries = hostfile.read(path, host)
        except (InvalidInput, Unavailable) as error:
            fix = error.fix or f"Look at {path}."
            findings.append(Finding(check=host.name, level="error", fact=error.fact.rstrip("."), fix=fix))
            continue
        for name in our_entries(host, entries, servers):
            address, launch = host.read_address(entries[name]), host.read_entry(entries[name])
            if address is not None:
                findings.append(Finding(check=host.name, level="ok", fact=f"{path} reaches {name} at {address}"))
            elif launch is not None and Path(launch.command).is_absolute() and not Path(launch.command).is_file():
                findings.append(_gone(host, path, name, launch, servers, settings))
            elif launch is not None:
                started.append(Started(host=host, name=name, launch=launch))
                findings.append(Finding(check=host.name, level="ok", fact=f"{path} starts {name}"))
                findings += _last_said(host, places, name)
    return findings, started


def _gone(host: Host, path: Path, name: str, launch: Launch, servers: list[Server], settings: Settings) -> Finding:
    server = next(server for server in servers if server.module in launch.arguments or server.name == name)

    def repair() -> None:
        entry = host.write_entry(name, server.launch(settings))
        hostfile.write(hostfile.plan(path, host, {name: entry}))

    return Finding(
        check=host.name,
        level="error",
        fact=f"{path} starts {name} with {launch.command!r}, which is not there",
        fix=f"usrland connect {host.name} --server {server.name}",
        repair=repair,
    )


def _last_said(host: Host, places: Places, name: str) -> Iterator[Finding]:
    """The end of what the host wrote down of this server, where it keeps a file for each."""
    folder = host.log_folder(places)
    logs = [log for log in folder.rglob(f"*{name}*") if log.is_file()] if folder.is_dir() else []
    if logs:
        newest = max(logs, key=lambda log: log.stat().st_mtime)
        with newest.open("rb") as file:
            file.seek(max(0, newest.stat().st_size - LOG_BYTES))
            lines = file.read().decode(errors="replace").splitlines()[-SHOWN_LINES:]
        yield Finding(check=host.name, level="ok", fact=f"the last lines of {newest}", lines=tuple(lines))
