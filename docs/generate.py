"""Write the pages of reference that are read from the code: commands, operations, settings.

    python docs/generate.py [--check]

With `--check` nothing is written, and it ends with 1 where a page is not what the code says.
"""

from __future__ import annotations

import ast
import inspect
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from usrland.cli.commands import Command, commands
from usrland.manual import operations_of
from usrland.settings import Settings

REFERENCE = Path(__file__).parent / "reference"
NOTE = "Written by `python docs/generate.py`; do not edit."
SERVERS = {
    "filesystem-retrieval": "filesystem_retrieval.server:service",
    "enterprise-connectors": "enterprise_connectors.server:service",
    "memory-snapshot": "memory_snapshot.server:service",
}
TABLES = {
    "server": "usrland.settings:ServerTable",
    "identity": "usrland.identity.profile:Profile",
    "audit": "usrland.audit.exporting:AuditTable",
    "oauth": "usrland.identity:OAuth",
    "filesystem-retrieval": "filesystem_retrieval.config:Table",
    "enterprise-connectors": "enterprise_connectors.server:Table",
    "memory-snapshot": "memory_snapshot.server:MemorySettings",
}
"""The tables of `usrland.toml`, and the models that read them."""


def pages() -> dict[str, str]:
    """Each page by its file name."""
    return {
        "commands.md": "\n".join(_commands()),
        "operations.md": "\n".join(_operations()),
        "settings.md": "\n".join(_settings()),
    }


# -- commands


def _commands() -> Iterator[str]:
    yield from ("# Commands", "", f"{NOTE} The same, with more room: `usrland COMMAND --help`.", "")
    panel = ""
    for command in commands():
        if command.panel != panel:
            panel = command.panel
            yield from (f"## {panel}", "")
        yield from _command(f"usrland {command.name}", _made(command))


def _made(command: Command) -> Any:
    loaded = command.load()
    if isinstance(loaded, typer.Typer):
        return typer.main.get_command(loaded)
    app = typer.Typer(add_completion=False)
    app.command()(loaded)
    return typer.main.get_command(app)


def _command(name: str, made: Any) -> Iterator[str]:
    yield from (f"### {name}", "", " ".join(inspect.cleandoc(made.help or "").split()), "")
    for parameter in made.params:
        if parameter.name != "help":
            yield _parameter(parameter)
    if made.params and any(parameter.name != "help" for parameter in made.params):
        yield ""
    for inner, command in sorted(getattr(made, "commands", {}).items()):
        yield from _command(f"{name} {inner}", command)


def _parameter(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in parameter.opts)
    if parameter.param_type_name == "argument":
        names = f"`{(parameter.metavar or parameter.name).upper()}`"
    text = " ".join((getattr(parameter, "help", "") or "").split())
    default = parameter.default
    if default not in (None, False, "", ()) and not callable(default) and parameter.param_type_name == "option":
        text = f"{text} Default: `{default}`.".strip()
    return f"- {names}{': ' + text if text else ''}"


# -- operations


def _operations() -> Iterator[str]:
    yield from ("# Operations", "", f"{NOTE} The page of one: `usrland man NAME`.", "")
    with tempfile.TemporaryDirectory() as home:
        root = {"folder": home, "writable": True}
        settings = Settings(home=Path(home), tables={"filesystem-retrieval": {"roots": {"files": root}}})
        for name, place in SERVERS.items():
            yield from (f"## {name}", "", "| operation | effect | scopes | undo | for |", "|---|---|---|---|---|")
            for operation, _, listed in operations_of(resolve_name(place)(settings)):
                if listed:
                    scopes = " ".join(f"`{scope}`" for scope in sorted(operation.scopes))
                    text = " ".join(operation.description.split()).replace("|", "/")
                    undo = f"`{operation.undo}`" if operation.undo else ""
                    effect = "as what it calls" if operation.delegate else operation.effect
                    yield f"| `{operation.name}` | {effect} | {scopes} | {undo} | {text} |"
            yield ""


# -- settings


def _settings() -> Iterator[str]:
    yield from (
        "# Settings",
        "",
        f"{NOTE} They stand in `usrland.toml` in the usrland home; every key has a default, an unknown one is an",
        "error, and `USRLAND_<TABLE>_<KEY>` in the environment comes first. The systems of your company stand in",
        "`connectors.toml`: see [connectors](connectors.md).",
        "",
    )
    for table, place in TABLES.items():
        model = resolve_name(place)
        yield from (f"## [{table}]", "", "| key | default | for |", "|---|---|---|")
        said = _said(model)
        for name, field in model.model_fields.items():
            default = "" if field.default in (PydanticUndefined, None, "") else f"`{_shown(field.default)}`"
            text = " ".join((field.description or said.get(name, "")).split()).replace("|", "/")
            yield f"| `{name}` | {default} | {text} |"
        yield ""


def _shown(value: Any) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _said(model: type[BaseModel]) -> Mapping[str, str]:
    """The text under each field of a model."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)
    found, field = {}, ""
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            field = node.target.id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and field:
            found[field] = str(node.value.value)
    return found


def main() -> int:
    stale = []
    for name, text in pages().items():
        file = REFERENCE / name
        if "--check" not in sys.argv[1:]:
            file.write_text(text, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(name)
    if stale:
        sys.stderr.write(f"{', '.join(stale)}: not what the code says. Run: python docs/generate.py\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
