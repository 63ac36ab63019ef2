"""The `usrland` command: what a person does with the servers. The only package that prints.

One module per sub-command, named after it, and only the one that was asked for is imported, so that
`usrland connect` never waits for what `usrland doctor` needs. An installed distribution adds a sub-command
through the entry point group `usrland.commands`, naming a function or a `typer.Typer`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from usrland import __version__
from usrland.cli.commands import Command, commands
from usrland.cli.console import fail
from usrland.errors import Unavailable, UsrlandError

__all__ = ["application", "main"]


def main() -> None:
    """The console script."""
    try:
        application(sys.argv[1:2])(prog_name="usrland")
    except UsrlandError as error:
        fail(error)
        raise SystemExit(1) from None


def application(asked: Sequence[str]) -> typer.Typer:
    """The command line with the sub-command that was asked for; without one, the names and summaries of all."""
    app = typer.Typer(
        help="Any kernel. One usrland: file system, system calls and memory for any MCP host.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    # a callback makes typer keep the sub-command's name even where there is only one
    app.callback()(_options)
    known = list(commands())
    chosen = next((command for command in known if command.name in asked), None)
    if chosen is None:
        _add_summaries(app, known)
        return app
    loaded = chosen.load()
    if isinstance(loaded, typer.Typer):
        app.add_typer(loaded, name=chosen.name)
    else:
        app.command(chosen.name)(loaded)
    return app


def _add_summaries(app: typer.Typer, known: Sequence[Command]) -> None:
    for command in known:
        try:
            app.command(command.name, help=command.summary, rich_help_panel=command.panel)(_nothing)
        except Unavailable as error:  # somebody else's code: a sub-command that is broken must not cost ours
            fail(error)


def _nothing() -> None:
    """Stands for a sub-command in the help, where none is called."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"usrland {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Say the version and stop.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass
