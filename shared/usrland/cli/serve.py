"""`usrland serve`: one server over a pipe, or any number of them behind one port."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from usrland.cli.servers import installed_servers, pick_servers
from usrland.errors import InvalidInput
from usrland.settings import DEFAULT_PORT

__all__ = ["serve"]


def serve(
    server: Annotated[list[str] | None, typer.Argument(metavar="[SERVER]...", help="Which servers.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are installed, in one process.")] = False,
    transport: Annotated[
        Literal["stdio", "http", "sse"],
        typer.Option(help="stdio serves one server to the program that started it."),
    ] = "stdio",
    host: Annotated[str, typer.Option(help="Address to bind, for http and sse.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to bind, for http and sse; 0 takes a free one.")] = DEFAULT_PORT,
) -> None:
    """Run servers until they are stopped."""
    if not server and not everything:
        names = ", ".join(each.name for each in installed_servers())
        raise InvalidInput("which server?", fix=f"Name one, or say --all. Installed: {names}.")
    servers = installed_servers() if everything else pick_servers(server or [])
    if transport == "stdio" and len(servers) > 1:
        raise InvalidInput("stdio serves one server.", fix="Name one, or say --transport http.")

    from usrland.launch import start

    raise typer.Exit(start([each.where for each in servers], transport, host, port))
