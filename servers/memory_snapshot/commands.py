"""`usrland memory`: hooks that hosts run, the picture of a memory, its head and the proof of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer

from memory_snapshot.hooks import run, said_to_host
from usrland.cli.console import say
from usrland.errors import Denied, InvalidInput
from usrland.identity import local_principal
from usrland.settings import Settings

__all__ = ["memory"]

memory = typer.Typer(help="See, prove and rebuild the memory of this home.", no_args_is_help=True)


@memory.command()
def hook(
    event: Annotated[str, typer.Argument(help="restore or snapshot.")],
    host: Annotated[str, typer.Option(help="Who runs it: the form of the answer goes by that.")] = "",
    home: Annotated[Path | None, typer.Option(help="The usrland home.")] = None,
) -> None:
    """What a host runs by itself (`usrland connect --hooks`): reads its JSON, answers in its words."""
    if event not in ("restore", "snapshot"):
        raise InvalidInput(f"there is no hook {event!r}.", fix="Known: restore, snapshot.")
    text, notice = anyio.run(run, event, _told(), Settings.load(home))
    sys.stdout.write(said_to_host(host, event, text, notice) + "\n")


def _told() -> Mapping[str, Any]:
    """What the host says of the session; a person who tries the hook by hand says nothing."""
    if sys.stdin.isatty():
        return {}
    try:
        told = json.loads(sys.stdin.buffer.read() or b"{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


@memory.command()
def graph(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the page is written.")] = Path(
        "memory.html"
    ),
    limit: Annotated[int, typer.Option(min=1, max=5_000, help="The newest so many snapshots.")] = 500,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Write one HTML page with every snapshot, branch and merge, and what differs between any two. It holds what
    is remembered in plain text: keep it as you keep the memory."""
    settings = Settings.load()
    who = local_principal(settings)
    if missing := who.missing(frozenset({"memory:read"})):
        raise Denied("the profile of this home may not read the memory.", missing_scopes=missing)

    async def work() -> str:
        store = await _service(settings).state["memory"].store()
        return str(await store.picture(who, limit))

    text = anyio.run(work)
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if overwrite else os.O_EXCL), 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise InvalidInput(
            f"{str(out)!r} is there already.", fix="Give --out another name, or --overwrite."
        ) from None
    except OSError as error:
        raise InvalidInput(f"{str(out)!r} cannot be written: {error.strerror}.") from error
    say(f"wrote {out}: open it in a browser.", "green")


@memory.command()
def head() -> None:
    """Print the signed head of this memory's journal. Keep it where whoever could edit the memory cannot write."""

    async def work() -> str:
        from memory_snapshot.anchors import signed_head

        settings = Settings.load()
        store = await _service(settings).state["memory"].store()
        found = await store.head(local_principal(settings))
        return "" if found is None else signed_head(settings.key("audit"), *found)

    note = anyio.run(work)
    if not note:
        say("Nothing is remembered yet.")
    else:
        sys.stdout.write(note)


@memory.command()
def check(
    heads: Annotated[
        Path | None, typer.Option("--head", metavar="FILE", help="Heads that were kept from before.")
    ] = None,
) -> None:
    """Recompute every hash of this memory. With heads kept from before, also notice that it was cut off or put
    back."""
    from usrland.audit import Signer, opened

    settings = Settings.load()
    kept = opened(_read(heads), [Signer(settings.key("audit")).key]) if heads else []
    verify = _service(settings).state["verify"]
    found = anyio.run(verify, local_principal(settings), kept)
    say(f"{found.events} events, {found.versions} versions ({found.erased} erased), {found.snapshots} snapshots")
    for problem in found.problems:
        say(f"  {problem}", "red")
    if found.problems:
        raise typer.Exit(1)
    say("All of it is as it was written.", "green")


@memory.command()
def reindex() -> None:
    """Throw the search index away and make it anew from the journal."""
    anyio.run(_service(Settings.load()).state["rebuild_index"])
    say("The search index is new.", "green")


def _service(settings: Settings) -> Any:
    from memory_snapshot.server import service

    return service(settings)


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{str(file)!r} cannot be read: {error.strerror}.") from error
