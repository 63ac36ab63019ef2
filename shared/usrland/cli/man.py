"""`usrland man NAME`: the page of one operation."""

from __future__ import annotations

import difflib
from typing import Annotated

import typer

from usrland.cli.console import say
from usrland.cli.syscalls import all_syscalls
from usrland.errors import NotFound
from usrland.manual import page
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
    say(page(syscall.server, syscall.operation))
