"""`usrland new NAME`: a connector of one's own, whole and tested from the first minute.

The template is the installed package `example_connector`, which our own suite tests and types; it is copied
and its name replaced, word by word. No template language: such files can be neither run nor checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from importlib.metadata import entry_points
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

from usrland.cli.console import say
from usrland.cli.described import from_openapi, from_sql
from usrland.errors import Conflict, InvalidInput

__all__ = ["new"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
MAX_NAME = 30
FOLDERS = {"test_contract.py": "tests/", "check.yml": ".github/workflows/", "source.toml": "manifests/"}
"""Where a file of a project belongs, if not at its top."""


def new(
    name: Annotated[
        str, typer.Argument(help="Of the system: lower case letters, digits and dashes, like acme-crm.")
    ],
    directory: Annotated[
        Path | None, typer.Option(help="Where to put it. Default: NAME-connector in the current folder.")
    ] = None,
    openapi: Annotated[
        str | None, typer.Option("--from-openapi", metavar="FILE|URL", help="A REST API, by its description.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Where its requests go, if the description does not say.")
    ] = None,
    sql: Annotated[
        str | None, typer.Option("--from-sql", metavar="URL", help="A database. The URL is not written anywhere.")
    ] = None,
) -> None:
    """Make a connector to a system of your own, which passes its contract suite before you change it."""
    check_name(name)
    if openapi and sql:
        raise InvalidInput("a connector leads to one system.", fix="Say --from-openapi or --from-sql.")
    files = dict(project(name))
    if openapi or sql:
        described = from_openapi(name, openapi, base_url) if openapi else from_sql(name, sql or "")
        files = _described(name, files, described)
    target = directory or Path(f"{name}-connector")
    if target.exists() and any(target.iterdir()):
        raise Conflict(f"{str(target)!r} is not empty.", fix="Name another folder with --directory.")
    for path, text in files.items():
        file = target / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="\n")
    say(f"Made {target}, a connector of kind {name!r}.", "green")
    say(f"Next:\n  cd {target}\n  pip install -e '.[test]'\n  pytest")


def check_name(name: str) -> None:
    """Raises `InvalidInput` where a name cannot become a package, a class and a kind."""
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise InvalidInput(
            f"{name!r} cannot name a connector.",
            fix=f"Use lower case letters, digits and single dashes, at most {MAX_NAME} characters: acme-crm.",
        )
    if name.endswith("-connector") or name == "connector":
        raise InvalidInput(
            f"{name!r} would become {name}-connector.",
            fix="Name the system alone: acme-crm, not acme-crm-connector.",
        )
    taken = {entry.name: entry.value for entry in entry_points(group="usrland.connectors")}
    if name in taken:
        raise InvalidInput(f"the kind {name!r} is taken by {taken[name]}.", fix="Choose another name.")


def project(name: str) -> Iterator[tuple[str, str]]:
    """Every file of the new project: its path and its text."""
    template = resources.files("example_connector")
    for file in _files(template / "project"):  # what stands around the package in a project of its own
        yield FOLDERS.get(file.name, "") + file.name, rename(file.read_text(encoding="utf-8"), name)
    for file in _files(template):
        yield (
            f"{rename('example_connector', name)}/{file.name}",
            rename(file.read_text(encoding="utf-8"), name),
        )


def _described(name: str, files: dict[str, str], described: dict[str, str]) -> dict[str, str]:
    """The template's project, with what was made from a description in the place of its task list."""
    package = rename("example_connector", name)
    kept = {path: text for path, text in files.items() if path not in (f"{package}/store.py", "README.md")}
    kept["README.md"] = README.format(name=name, package=package)
    kept[f"{package}/__init__.py"] = (
        f'"""The connector to {name}: `connector` says what it is, `server` serves it alone."""\n'
    )
    for file, text in described.items():
        kept[f"{package}/{file}" if file not in FOLDERS else FOLDERS[file] + file] = text
    return kept


README = """\
# {name}-connector

```
pip install -e '.[test]'
pytest
usrland connect claude-desktop --server {name}-connector
usrland doctor
```

Settings are the table `[{name}-connector]` of `usrland.toml`; `{package}/connector.py` says which there are.
Secrets are written there as `env:NAME` or `file:/path`. Without `write = true` only what reads is offered.

Beside your other systems, in `connectors.toml`, its kind is `{name}`.
"""


def rename(text: str, name: str) -> str:
    """`example` in each of its spellings: a module, a class, and the word itself."""
    words = name.split("-")
    text = re.sub(r"\bexample_(?=[a-z])", "_".join(words) + "_", text)
    text = re.sub(r"\bExample(?=[A-Z])", "".join(word.capitalize() for word in words), text)
    return re.sub(r"\bexample\b", name, text)


def _files(folder: Traversable) -> Iterator[Traversable]:
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.is_file() and not file.name.endswith(".pyc"):
            yield file
