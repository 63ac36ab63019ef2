"""`usrland audit`: prove that nobody edited the log, and that one call is in it."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import anyio
import typer

from usrland.audit import Checkpoint, Proof, Signer, Verdict, VerifyingKey, opened, verified_file
from usrland.cli.calls import audit_logs, ledgers
from usrland.cli.console import say
from usrland.errors import InvalidInput, NotFound
from usrland.identity import local_principal
from usrland.settings import Settings

__all__ = ["audit"]

audit = typer.Typer(help="Prove that nobody edited the log of calls.", no_args_is_help=True)

ServerNames = Annotated[
    list[str] | None, typer.Option("--server", metavar="NAME", help="Only this server; may be repeated.")
]


@audit.command()
def head(server: ServerNames = None) -> None:
    """Print a signed checkpoint of each log. Keep it where whoever could edit the log cannot write."""
    for note in anyio.run(_notes, Settings.load(), server or []):
        print(note)


@audit.command()
def key() -> None:
    """Print the key that checkpoints of this home are verified with. Give it to whoever keeps them."""
    print(_signer(Settings.load()).key)


@audit.command()
def verify(
    server: ServerNames = None,
    heads: Annotated[
        Path | None, typer.Option("--head", metavar="FILE", help="Checkpoints kept from before.")
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="Keys they may be signed with, a line each. Default: ours."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What `usrland audit export` printed, instead of our logs.")
    ] = None,
) -> None:
    """Recompute every hash. With checkpoints kept from before, also notice a log that was cut off or replaced."""
    settings = Settings.load()
    known = opened(_read(heads), _keys(settings, keys)) if heads else []
    if file is not None:
        verdicts = [_verified(_read(file), known)]
        known = []
    else:
        verdicts = anyio.run(_verdicts, settings, server or [], known)
    if not verdicts:
        say("Nothing was recorded yet.")
    for verdict in verdicts:
        say(f"{verdict.chain}: {verdict.entries} entries, {'unbroken' if verdict.ok else 'NOT what was written'}")
        for problem in verdict.problems:
            say(f"  {problem}", "red")
    missing = {head.chain for head in known} - {verdict.chain for verdict in verdicts} if not server else set()
    for chain in sorted(missing):
        say(f"{chain}: a checkpoint was kept, but there is no log", "red")
    if missing or not all(verdict.ok for verdict in verdicts):
        raise typer.Exit(1)


@audit.command()
def prove(
    server: Annotated[str, typer.Argument(help="Whose log.")],
    entry: Annotated[int, typer.Argument(help="Its number: `seq` in `usrland trace --json`.")],
) -> None:
    """Print one entry with the proof that it is in the log, for somebody who has the key and not the log."""
    settings = Settings.load()
    proof = anyio.run(_proof, settings, server, entry)
    note = _signer(settings).note(server, proof.size, proof.root)
    print(
        json.dumps(
            {
                "entry": proof.body.decode(),
                "index": proof.index,
                "path": [base64.b64encode(each).decode() for each in proof.path],
                "checkpoint": note,
            },
            ensure_ascii=False,
            indent=2,
        )
    )


@audit.command()
def export(
    server: Annotated[str, typer.Argument(help="Whose log.")],
    since: Annotated[int, typer.Option(min=1, help="From this entry on.")] = 1,
) -> None:
    """Print a log, an entry a line, as it was hashed: `usrland audit verify --file` verifies it anywhere."""
    for line in anyio.run(_exported, Settings.load(), server, since):
        print(json.dumps(line, ensure_ascii=False))


@audit.command()
def redact(
    server: Annotated[str, typer.Argument(help="Whose log.")],
    call: Annotated[str, typer.Argument(help="Its id: `call` in `usrland trace --json`.")],
    reason: Annotated[str, typer.Option(help="Why; it is on record with your name.")],
) -> None:
    """Erase what one call was given and answered. That it was made stays on record, and the log verifies."""
    erased = anyio.run(_redact, Settings.load(), server, call, reason)
    say(f"Erased {erased} value{'' if erased == 1 else 's'} of call {call}. usrland audit verify", "green")


async def _exported(settings: Settings, server: str, since: int) -> list[dict[str, object]]:
    with audit_logs(settings, [server]) as logs:
        return await logs[server].exported(since) if server in logs else []


async def _redact(settings: Settings, server: str, call: str, reason: str) -> int:
    with ledgers(settings, [server]) as found:
        if server not in found:
            raise NotFound(f"nothing was recorded for {server!r} yet.", fix="Look at: usrland trace.")
        return await found[server].redact(call, reason, local_principal(settings))


async def _notes(settings: Settings, servers: list[str]) -> list[str]:
    signer = _signer(settings)
    with audit_logs(settings, servers) as logs:
        states = [(name, *await log.state()) for name, log in logs.items()]
    return [signer.note(name, size, root) for name, size, root in states if size]


async def _verdicts(settings: Settings, servers: list[str], known: Sequence[Checkpoint]) -> list[Verdict]:
    with audit_logs(settings, servers) as logs:
        return [await log.verify(known) for log in logs.values()]


async def _proof(settings: Settings, server: str, entry: int) -> Proof:
    with audit_logs(settings, [server]) as logs:
        if server not in logs:
            raise NotFound(f"nothing was recorded for {server!r} yet.", fix="Look at: usrland trace.")
        return await logs[server].prove(entry)


def _verified(text: str, known: Sequence[Checkpoint]) -> Verdict:
    try:
        return verified_file([json.loads(line) for line in text.splitlines() if line.strip()], known)
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput("this is not an exported log.", fix="Make one with: usrland audit export.") from error


def _signer(settings: Settings) -> Signer:
    return Signer(settings.key("audit"))


def _keys(settings: Settings, file: Path | None) -> list[VerifyingKey]:
    if file is None:
        return [_signer(settings).key]
    return [VerifyingKey.parse(line) for line in _read(file).splitlines() if line.strip()]


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{str(file)!r} cannot be read: {error.strerror}.") from error
