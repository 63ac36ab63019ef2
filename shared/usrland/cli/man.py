"""`usrland man NAME`: the page of one operation, written from the operation itself."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from usrland.cli.console import say, say_table
from usrland.cli.syscalls import Syscall, all_syscalls
from usrland.connector import Operation
from usrland.errors import NotFound
from usrland.parameters import Parameters
from usrland.settings import Settings

__all__ = ["man"]


def man(name: Annotated[str, typer.Argument(help="As `usrland syscalls` shows it.")]) -> None:
    """Show the page of one operation: what it is for, its arguments, its risk, its failures."""
    known = {each.operation.name: each for each in all_syscalls(Settings.load(), [])}
    syscall = known.get(name)
    if syscall is None:
        near = difflib.get_close_matches(name, known, n=3)
        raise NotFound(
            f"there is no operation {name!r}.",
            fix=f"Did you mean {', '.join(near)}?" if near else "See them with: usrland syscalls.",
        )
    _print(syscall)


def _print(syscall: Syscall) -> None:
    operation = syscall.operation
    say(f"{operation.name} - {operation.title} ({syscall.server})", "bold")
    say(f"\n{operation.description}\n")
    schema = Parameters(operation).schema
    rows = list(_arguments(schema))
    if rows:
        say("Arguments", "bold")
        say_table(["name", "type", "required", "description"], rows)
    else:
        say("It takes no arguments.")
    say("\nRisk", "bold")
    say_table([], _risk(operation))
    say("\nFailures", "bold")
    say_table([], _failures(operation))


def _arguments(schema: Mapping[str, Any]) -> Iterator[list[str]]:
    required = schema.get("required", [])
    for name, argument in schema.get("properties", {}).items():
        text = argument.get("description", "")
        if "default" in argument:
            text = f"{text} Default: {json.dumps(argument['default'], ensure_ascii=False)}.".strip()
        yield [name, _type(argument), "yes" if name in required else "no", text]


def _type(argument: Mapping[str, Any]) -> str:
    if "enum" in argument:
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in argument["enum"])
    if argument.get("type") == "array":
        return f"list of {_type(argument.get('items', {}))}"
    return str(argument.get("type", "anything"))


def _risk(operation: Operation) -> list[list[str]]:
    if operation.delegate is not None:
        return [
            ["scopes", " ".join(sorted(operation.scopes))],
            ["all else", "of the operation that it passes the call on to: see the page of that one"],
        ]
    rows = [
        ["effect", operation.effect],
        ["scopes", " ".join(sorted(operation.scopes))],
        ["consent", "a person is asked first" if operation.consent else "not asked for"],
        ["dry run", "yes: dry_run = true says what would happen" if operation.preview else "none"],
        ["undo", f"with {operation.undo}" if operation.undo else "none"],
        ["deadline", f"{operation.timeout_seconds:g} seconds"],
        ["cost", operation.cost],
    ]
    return [row for row in rows if operation.effect != "read" or row[0] not in ("dry run", "undo")]


def _failures(operation: Operation) -> list[list[str]]:
    rows = [
        ["invalid_input", "an argument is unknown, mistyped or makes no sense"],
        ["denied", f"the caller lacks {' '.join(sorted(operation.scopes))}"],
        ["not_found", "there is no such thing, or none that the caller may see"],
        ["timeout", f"not done within {operation.timeout_seconds:g} seconds; the work was stopped"],
        ["unavailable", "a system behind it does not answer"],
    ]
    if operation.effect != "read":
        rows.append(["conflict", "the state has moved on; nothing was changed"])
    if operation.consent:
        rows.append(
            ["consent_needed", "the host cannot ask the person: call again with the confirm_token it names"]
        )
    return rows
