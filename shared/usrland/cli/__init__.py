"""The `usrland` command: what a person does with the servers. The only package that prints.

One module per sub-command, named after it, and only the one that was asked for is imported, so that
`usrland connect` never waits for what `usrland doctor` needs. An installed distribution adds a sub-command
through the entry point group `usrland.commands`, naming a function or a `typer.Typer`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pkgutil import resolve_name
from typing import Annotated, Any

import typer

from usrland import __version__
from usrland.cli.console import fail
from usrland.errors import Unavailable, UsrlandError

__all__ = ["application", "main"]

COMMANDS = {
    "init": "usrland.cli.init:init",
    "serve": "usrland.cli.serve:serve",
    "connect": "usrland.cli.connect:connect",
    "disconnect": "usrland.cli.connect:disconnect",
    "doctor": "usrland.cli.doctor:doctor",
    "syscalls": "usrland.cli.syscalls:syscalls",
    "man": "usrland.cli.man:man",
    "trace": "usrland.cli.trace:trace",
    "audit": "usrland.cli.audit:audit",
    "token": "usrland.cli.token:token",
    "grant": "usrland.cli.grants:grant",
    "revoke": "usrland.cli.grants:revoke",
    "whoami": "usrland.cli.grants:whoami",
    "can": "usrland.cli.grants:can",
    "new": "usrland.cli.new:new",
    "manifests": "usrland.cli.manifests:manifests",
}
"""In the order of `usrland --help`: the order in which a newcomer needs them."""


def main() -> None:
    """The console script."""
    table = COMMANDS
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        table = {sys.argv[1]: COMMANDS[sys.argv[1]]}
    else:
        table = {entry.name: entry.value for entry in entry_points(group="usrland.commands")} | COMMANDS
    try:
        application(table.items())(prog_name="usrland")
    except UsrlandError as error:
        fail(error)
        raise SystemExit(1) from None


def application(commands: Iterable[tuple[str, str]]) -> typer.Typer:
    """The command line with these sub-commands, given as name and `module:object`."""
    app = typer.Typer(
        help="Any kernel. One usrland: file system, system calls and memory for any MCP host.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    # a callback makes typer keep the sub-command's name even where there is only one
    app.callback()(_options)
    for name, where in commands:
        try:
            command: Any = resolve_name(where)
        except Exception as error:
            if name in COMMANDS:
                raise
            # somebody else's code: a sub-command that is broken must not cost ours
            fail(
                Unavailable(
                    f"the sub-command {name!r} cannot be loaded: {error}.", fix="Reinstall what it is from."
                )
            )
            continue
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


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
