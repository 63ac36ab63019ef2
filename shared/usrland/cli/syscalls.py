"""`usrland syscalls`: every operation that a kernel can call here, with its risk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, get_args

import anyio
import typer

from usrland.audit.entry import canonical
from usrland.cli.console import fail, say, say_json, say_table
from usrland.cli.servers import pick_servers
from usrland.connector import Effect, Operation, Service
from usrland.errors import InvalidInput, UsrlandError
from usrland.manual import operations_of
from usrland.parameters import Parameters
from usrland.pins import Pin, changes, read_pins, write_pins
from usrland.settings import Settings

__all__ = ["Syscall", "all_syscalls", "syscalls"]

COLUMNS = ("name", "effect", "scopes", "hints", "timeout", "cost", "server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Syscall:
    """One operation and the server that has it."""

    server: str
    operation: Operation
    system: str
    """Whose operation it is, where the server stands before several systems."""
    listed: bool
    """A tool of its own. Others are reached through a delegate such as `sys_call`."""

    def facts(self) -> dict[str, Any]:
        operation = self.operation
        return {
            "name": operation.name,
            "server": self.server,
            "system": self.system or None,
            "effect": operation.effect,
            "scopes": sorted(operation.scopes),
            "hints": self.hints,
            "consent": bool(operation.consent),
            "dry_run": operation.preview is not None,
            "undo": operation.undo or None,
            "timeout_seconds": operation.timeout_seconds,
            "cost": operation.cost,
            "listed": self.listed,
        }

    @property
    def hints(self) -> list[str]:
        """Which of the protocol's four hints are true."""
        operation = self.operation
        stated = {
            "read-only": operation.effect == "read",
            "destructive": operation.effect == "destroy",
            "idempotent": operation.idempotent,
            "open-world": operation.open_world,
        }
        return [hint for hint, holds in stated.items() if holds]


def syscalls(
    server: Annotated[
        list[str] | None, typer.Option("--server", metavar="NAME", help="Only this server; may be repeated.")
    ] = None,
    system: Annotated[
        list[str] | None,
        typer.Option("--system", metavar="NAME", help="Only this table of connectors.toml; may be repeated."),
    ] = None,
    effect: Annotated[
        list[str] | None,
        typer.Option("--effect", metavar="EFFECT", help="Only read, write or destroy; may be repeated."),
    ] = None,
    scope: Annotated[
        str, typer.Option(metavar="SCOPE", help="Only what needs this scope; `fs:*` means all of a kind.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For another program.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="For a document.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="What is different from the last review.")] = False,
    accept: Annotated[bool, typer.Option("--accept", help="Take what there is now as reviewed.")] = False,
) -> None:
    """List every operation: its effect, the scopes it needs, its hints, its deadline and its cost."""
    settings = Settings.load()
    if diff or accept:
        _review(settings, accept=accept)
        return
    found = [
        each
        for each in all_syscalls(settings, server or [])
        if (not system or each.system in system)
        and (not effect or each.operation.effect in _effects(effect))
        and (not scope or any(fnmatchcase(needed, scope) for needed in each.operation.scopes))
    ]
    if as_json:
        say_json([each.facts() for each in found])
    elif as_markdown:
        say(_markdown(found))
    else:
        say_table(list(COLUMNS), map(_row, found))
        say("\nOne of them: usrland man NAME")


def _effects(asked: Sequence[str]) -> Sequence[str]:
    unknown = [each for each in asked if each not in get_args(Effect)]
    if unknown:
        raise InvalidInput(f"there is no effect {unknown[0]!r}.", fix=f"Known: {', '.join(get_args(Effect))}.")
    return asked


def _row(each: Syscall) -> list[str]:
    through = "" if each.listed else " (sys_call)" if each.system else " (no tool)"
    return [
        each.operation.name,
        each.operation.effect,
        " ".join(sorted(each.operation.scopes)),
        " ".join(each.hints),
        f"{each.operation.timeout_seconds:g} s",
        each.operation.cost,
        each.server + through,
    ]


def _markdown(found: Sequence[Syscall]) -> str:
    """A table with what each is for, in its first line."""
    rows = [[*_row(each), each.operation.description.partition("\n")[0]] for each in found]
    lines = [[*COLUMNS, "for"], ["---"] * (len(COLUMNS) + 1), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _review(settings: Settings, *, accept: bool) -> None:
    """Show what is not as it was reviewed; with `accept`, write it down as reviewed."""
    catalogues = [server.load(settings).state.get("catalogue") for server in pick_servers([])]
    behind: list[Operation] = []
    for catalogue in filter(None, catalogues):
        for system, problem in anyio.run(_refreshed, catalogue).items():
            say(f"{system}: {problem}")
        behind += catalogue.reviewable()
    reviewed = read_pins(settings.home) or {}
    found = changes(reviewed, behind)
    say_table(
        ["change", "name", "effect", "scopes"],
        [
            [
                change.kind,
                change.name,
                _step(change.before.effect if change.before else "", change.after.effect if change.after else ""),
                _step(
                    " ".join(change.before.scopes) if change.before else "",
                    " ".join(change.after.scopes) if change.after else "",
                ),
            ]
            for change in found
        ],
    )
    for operation in behind:
        if operation.origin and (reviewed.get(operation.name) != Pin.of(operation)):
            say(f"\n{operation.name}, in the words of that server:\n{operation.description}")
            say(canonical(Parameters(operation).own).decode())
    if accept:
        say(f"\n{write_pins(settings.home, behind)} operations are reviewed; others are withheld from now on.")
    else:
        say(f"\n{len(found)} differences. Take them as reviewed: usrland syscalls --accept")


async def _refreshed(catalogue: Any) -> dict[str, str]:
    """Ask the systems what they offer now; the problems by system."""
    try:
        problems: dict[str, str] = await catalogue.refresh()
        return problems
    finally:
        await catalogue.aclose()


def _step(before: str, after: str) -> str:
    return " → ".join(dict.fromkeys(text for text in (before, after) if text))


def all_syscalls(settings: Settings, servers: Sequence[str]) -> list[Syscall]:
    """By server, then in the order each server declares. What is wrong with a server is told and skipped."""
    found: list[Syscall] = []
    for server in pick_servers(servers):
        try:
            found += _of(server.load(settings))
        except UsrlandError as error:
            fail(error)
    return found


def _of(service: Service) -> list[Syscall]:
    return [
        Syscall(server=service.name, operation=operation, system=system, listed=listed)
        for operation, system, listed in operations_of(service)
    ]
