"""`usrland syscalls`: every operation that a kernel can call here, with its risk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import anyio
import typer

from usrland.audit.entry import canonical
from usrland.cli.console import fail, say, say_json, say_table
from usrland.cli.servers import pick_servers
from usrland.connector import Operation, Service
from usrland.errors import UsrlandError
from usrland.parameters import Parameters
from usrland.pins import Pin, changes, read_pins, write_pins
from usrland.settings import Settings

__all__ = ["Syscall", "all_syscalls", "syscalls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Syscall:
    """One operation and the server that has it."""

    server: str
    operation: Operation
    listed: bool
    """A tool of its own. Others are reached through a delegate such as `sys_call`."""

    def facts(self) -> dict[str, Any]:
        operation = self.operation
        return {
            "name": operation.name,
            "server": self.server,
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
    as_json: Annotated[bool, typer.Option("--json", help="For another program.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="What is different from the last review.")] = False,
    accept: Annotated[bool, typer.Option("--accept", help="Take what there is now as reviewed.")] = False,
) -> None:
    """List every operation: its effect, the scopes it needs, its hints, its deadline and its cost."""
    settings = Settings.load()
    if diff or accept:
        _review(settings, accept=accept)
        return
    found = all_syscalls(settings, server or [])
    if as_json:
        say_json([each.facts() for each in found])
        return
    say_table(
        ["name", "effect", "scopes", "hints", "timeout", "cost", "server"],
        [
            [
                each.operation.name,
                each.operation.effect,
                " ".join(sorted(each.operation.scopes)),
                " ".join(each.hints),
                f"{each.operation.timeout_seconds:g} s",
                each.operation.cost,
                each.server if each.listed else f"{each.server} (sys_call)",
            ]
            for each in found
        ],
    )
    say("\nOne of them: usrland man NAME")


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
    tools = [Syscall(server=service.name, operation=each, listed=each.visible) for each in service.operations]
    names = {each.operation.name for each in tools}
    # what stands behind a delegate: a server with a catalogue shows it under this name
    catalogue = service.state.get("catalogue")
    behind = [entry.operation for entry in catalogue.entries().values()] if catalogue is not None else []
    return tools + [
        Syscall(server=service.name, operation=each, listed=False) for each in behind if each.name not in names
    ]
