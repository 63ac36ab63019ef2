"""Which sub-commands there are, ours and those of other distributions, and what each says of itself.

What a sub-command says is read from its source and not by importing it: the help of the whole command costs as
little as that of one, whatever stands behind the others.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from usrland.errors import Unavailable

__all__ = ["COMMANDS", "Command", "commands"]

COMMANDS = {
    "Begin": {
        "init": "usrland.cli.init:init",
        "connect": "usrland.cli.connect:connect",
        "disconnect": "usrland.cli.connect:disconnect",
        "doctor": "usrland.cli.doctor:doctor",
    },
    "Run and watch": {
        "serve": "usrland.cli.serve:serve",
        "model": "usrland.cli.model:model",
        "token": "usrland.cli.token:token",
        "grant": "usrland.cli.grants:grant",
        "revoke": "usrland.cli.grants:revoke",
        "whoami": "usrland.cli.grants:whoami",
        "can": "usrland.cli.grants:can",
        "syscalls": "usrland.cli.syscalls:syscalls",
        "man": "usrland.cli.man:man",
        "lock": "usrland.cli.lock:lock",
        "trace": "usrland.cli.trace:trace",
        "top": "usrland.cli.top:top",
        "audit": "usrland.cli.audit:audit",
        "check": "usrland.cli.keeping:check",
        "rebuild": "usrland.cli.keeping:rebuild",
        "backup": "usrland.cli.keeping:backup",
        "restore": "usrland.cli.keeping:restore",
    },
    "Write and ship": {
        "new": "usrland.cli.new:new",
        "route-test": "usrland.cli.route_test:route_test",
        "manifests": "usrland.cli.manifests:manifests",
    },
}
"""In the order of `usrland --help`: the order in which a newcomer needs them."""


@dataclass(frozen=True)
class Command:
    """One sub-command, which may not be importable: that costs only the one who asks for it."""

    name: str
    where: str
    """`module:object`, a function or a `typer.Typer`."""
    panel: str
    """Under which heading the help shows it."""

    def load(self) -> Any:
        """The object itself; raises `Unavailable` where somebody else's code is broken."""
        try:
            return resolve_name(self.where)
        except Exception as error:
            if self.where.startswith("usrland."):
                raise
            raise Unavailable(
                f"the sub-command {self.name!r} cannot be loaded: {error}.", fix="Reinstall what it is from."
            ) from error

    @cached_property
    def summary(self) -> str:
        """What it says of itself: the first paragraph of its docstring; raises `Unavailable` without a source."""
        module, _, attribute = self.where.partition(":")
        try:
            spec = find_spec(module)
            source = Path(spec.origin).read_bytes() if spec and spec.origin else b""
        except (ImportError, OSError, ValueError):
            source = b""
        if not source:
            raise Unavailable(
                f"the sub-command {self.name!r} cannot be loaded: there is no module {module!r}.",
                fix="Reinstall what it is from.",
            )
        return inspect.cleandoc(_said(ast.parse(source), attribute)).partition("\n\n")[0]


def commands() -> Iterator[Command]:
    """Ours first; another distribution's, found by entry point, never take the place of ours."""
    ours = {name for table in COMMANDS.values() for name in table}
    for panel, table in COMMANDS.items():
        for name, where in table.items():
            yield Command(name, where, panel)
    added = {entry.name: entry.value for entry in entry_points(group="usrland.commands")}
    for name, where in sorted(added.items(), key=lambda each: (each[1].partition(".")[0], each[0])):
        if name not in ours:
            package = where.partition(":")[0].partition(".")[0]
            yield Command(name, where, package.replace("_", "-"))


def _said(module: ast.Module, name: str) -> str:
    """A function's docstring; of a `typer.Typer(help=…)` that; else the module's docstring."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return ast.get_docstring(node) or ""
        if isinstance(node, ast.Assign) and [name] == [getattr(target, "id", "") for target in node.targets]:
            for keyword in getattr(node.value, "keywords", []):
                if keyword.arg == "help" and isinstance(keyword.value, ast.Constant):
                    return str(keyword.value.value)
    return ast.get_docstring(module) or ""
