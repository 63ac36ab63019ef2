"""`usrland lock`: what every operation promises, in a file that is kept, and what has changed since."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from usrland.cli.console import say, say_json, say_table
from usrland.cli.syscalls import all_syscalls
from usrland.contracts import Change, compare, contract_of, read_contracts, write_contracts
from usrland.settings import Settings

__all__ = ["lock"]


def lock(
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing: show what changed. Exit code 1 where it breaks callers."),
    ] = False,
    server: Annotated[
        list[str] | None, typer.Option("--server", metavar="NAME", help="Only this server; may be repeated.")
    ] = None,
    file: Annotated[Path, typer.Option(help="Where it is kept; put it under version control.")] = Path(
        "usrland.lock.json"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="With --check, for another program.")] = False,
) -> None:
    """Write down what every operation promises; later say what changed, whether it breaks anybody, and why."""
    now = {
        f"{each.server}/{each.operation.name}": contract_of(each.operation, listed=each.listed)
        for each in all_syscalls(Settings.load(), server or [])
    }
    if not check:
        write_contracts(file, now)
        say(f"wrote {file}: {len(now)} operations. Later: usrland lock --check", "green")
        return
    before = read_contracts(file)
    if server:
        before = {name: contract for name, contract in before.items() if name.partition("/")[0] in server}
    changes = compare(before, now)
    if as_json:
        say_json([{name: getattr(each, name) for name in Change.__slots__} for each in changes])
    else:
        _show(changes, len(now))
    if any(each.breaking for each in changes):
        raise typer.Exit(1)


def _show(changes: Sequence[Change], operations: int) -> None:
    if not changes:
        say(f"{operations} operations, all as they were.", "green")
        return
    rows = [
        ["breaking" if each.breaking else "compatible", each.operation, each.what, each.why] for each in changes
    ]
    say_table(["class", "operation", "change", "why"], rows)
    breaking = sum(each.breaking for each in changes)
    say(f"\n{breaking} breaking, {len(changes) - breaking} compatible. Take them as they are: usrland lock")
