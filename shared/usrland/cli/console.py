"""What the command says to a person: one voice for all sub-commands.

Text is printed as it is: a path with brackets in it is no markup, and a line is never folded when the
output goes into a file or another program.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from usrland.errors import UsrlandError

__all__ = ["fail", "progress", "say", "say_json", "say_table"]

WIDE = 240
"""Columns where nobody looks: the output is a file or a pipe."""


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(
        file=stream, highlight=False, markup=False, emoji=False, width=None if stream.isatty() else WIDE
    )


def say(text: str = "", style: str = "") -> None:
    """One or more lines."""
    _console().print(text, style=style or None, soft_wrap=True)


def say_json(value: Any) -> None:
    """For another program: JSON and nothing else."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def say_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows under their headings, if any, without lines that a terminal's copy would drag along."""
    from rich.table import Table

    table = Table(*columns, box=None, pad_edge=False, header_style="bold", show_header=bool(columns))
    for row in rows:
        table.add_row(*row)
    _console().print(table)


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], Awaitable[None]]]:
    """Bars on standard error, one for each kind of work that is told of; nothing where nobody looks."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=_console(stderr=True), disable=not sys.stderr.isatty()) as bars:
        known = {}

        async def tell(what: str, done: int, total: int) -> None:
            if what not in known:
                known[what] = bars.add_task(what)
            bars.update(known[what], completed=done, total=total)

        yield tell


def fail(error: UsrlandError) -> None:
    """A failure that was foreseen: the fact, then the way out."""
    console = _console(stderr=True)
    console.print(f"{error.fact}", style="red", soft_wrap=True)
    if error.fix:
        console.print(error.fix, soft_wrap=True)
