"""`usrland audit`: prove that nobody edited the log."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import anyio
import typer

from usrland.audit import Head, Verdict
from usrland.cli.calls import audit_logs
from usrland.cli.console import say
from usrland.errors import InvalidInput
from usrland.settings import Settings

__all__ = ["audit"]

audit = typer.Typer(help="Prove that nobody edited the log of calls.", no_args_is_help=True)

ServerNames = Annotated[
    list[str] | None, typer.Option("--server", metavar="NAME", help="Only this server; may be repeated.")
]


@audit.command()
def head(server: ServerNames = None) -> None:
    """Print the newest entry of each log. Keep it where whoever could edit the log cannot write."""
    for found in anyio.run(_heads, Settings.load(), server or []):
        print(found.to_json())


@audit.command()
def verify(
    server: ServerNames = None,
    heads: Annotated[
        Path | None, typer.Option("--head", metavar="FILE", help="Heads kept from before, one on each line.")
    ] = None,
) -> None:
    """Recompute every hash. With heads kept from before, also notice a log that was cut off or replaced."""
    known = _read(heads) if heads else []
    verdicts = anyio.run(_verdicts, Settings.load(), server or [], known)
    if not verdicts:
        say("Nothing was recorded yet.")
    for verdict in verdicts:
        say(f"{verdict.chain}: {verdict.entries} entries, {'unbroken' if verdict.ok else 'NOT what was written'}")
        for problem in verdict.problems:
            say(f"  {problem}", "red")
    missing = {head.chain for head in known} - {verdict.chain for verdict in verdicts} if not server else set()
    for chain in sorted(missing):
        say(f"{chain}: a head was kept, but there is no log", "red")
    if missing or not all(verdict.ok for verdict in verdicts):
        raise typer.Exit(1)


async def _heads(settings: Settings, servers: list[str]) -> list[Head]:
    with audit_logs(settings, servers) as logs:
        found = [await log.head() for log in logs.values()]
    return [head for head in found if head is not None]


async def _verdicts(settings: Settings, servers: list[str], heads: list[Head]) -> list[Verdict]:
    with audit_logs(settings, servers) as logs:
        return [await log.verify(heads) for log in logs.values()]


def _read(file: Path) -> list[Head]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{str(file)!r} cannot be read: {error.strerror}.") from error
    return [Head.from_json(line) for line in text.splitlines() if line.strip()]
