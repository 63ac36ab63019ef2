"""`usrland grant`, `revoke`, `whoami`, `can`: who may do what here, said and asked."""

from __future__ import annotations

from typing import Annotated, Any

import tomlkit
import typer
from tomlkit.exceptions import TOMLKitError

from usrland.cli.console import say, say_table
from usrland.cli.syscalls import all_syscalls
from usrland.errors import InvalidInput, NotFound
from usrland.identity import BY_GRANT, GrantFile, TokenFile, local_principal
from usrland.schemas.principal import Principal
from usrland.settings import Settings

__all__ = ["can", "grant", "revoke", "whoami"]

Name = Annotated[str, typer.Argument(help="As the audit log shows it: a token's name, ada@login.example.org.")]
Group = Annotated[bool, typer.Option("--group", help="It names a group of the authorization server.")]


def grant(
    name: Name,
    what: Annotated[list[str], typer.Argument(help="Scopes (fs:read, memory:*) or roles of grants.toml.")],
    group: Group = False,
    tenant: Annotated[str, typer.Option(help="Whose data; default: what the credential says.")] = "",
    namespace: Annotated[str, typer.Option(help="Which part of the tenant's data.")] = "",
) -> None:
    """Let somebody do more. It holds from the next call on."""
    file = GrantFile.of(Settings.load().home)
    document = _document(file)
    row = document.setdefault(_table(group), tomlkit.table(is_super_table=True)).setdefault(name, tomlkit.table())
    row["may"] = sorted({*row.get("may", []), *what})
    for key, value in (("tenant", tenant), ("namespace", namespace)):
        if value:
            row[key] = value
    file.write(tomlkit.dumps(document))
    say(f"{name} may: {' '.join(row['may'])}", "green")


def revoke(
    name: Name,
    what: Annotated[list[str] | None, typer.Argument(help="These scopes or roles. Default: everything.")] = None,
    group: Group = False,
) -> None:
    """Let somebody do less. It holds from the next call on."""
    file = GrantFile.of(Settings.load().home)
    document = _document(file)
    row = document.get(_table(group), {}).get(name)
    if row is None:
        raise NotFound(f"grants.toml does not name {name!r}.", fix="See who it names: usrland whoami --all")
    missing = set(what or ()) - set(row.get("may", []))
    if missing:
        raise NotFound(f"{name!r} was not granted {sorted(missing)[0]!r}.", fix=f"See: usrland whoami {name}")
    row["may"] = [word for word in row.get("may", []) if what and word not in what]
    file.write(tomlkit.dumps(document))
    say(f"{name} may: {' '.join(row['may']) or 'nothing'}", "green")


def whoami(
    name: Annotated[str | None, typer.Argument(help="Somebody else. Default: you, over stdio.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Everybody this home knows by name.")] = False,
) -> None:
    """Show who somebody is here and which scopes that makes, from credential and grants together."""
    settings = Settings.load()
    if everybody:
        names = dict.fromkeys(
            [each.name for each in TokenFile.of(settings.home).tokens()]
            + list(GrantFile.of(settings.home).subjects())
        )
        people = [local_principal(settings), *(_principal(settings, each) for each in names)]
    else:
        people = [_principal(settings, name)]
    say_table(
        ["subject", "proven by", "tenant", "namespace", "scopes"],
        [
            [each.subject, each.source, each.tenant, each.namespace, " ".join(sorted(each.scopes)) or "none"]
            for each in map(GrantFile.of(settings.home).bounded, people)
        ],
    )


def can(
    operation: Annotated[str, typer.Argument(help="As `usrland syscalls` lists it.")],
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Who. Default: you, over stdio.")
    ] = None,
) -> None:
    """Say whether somebody may make a call, and if not, what is missing. Exit code 1 is no."""
    settings = Settings.load()
    found = [each.operation for each in all_syscalls(settings, []) if each.operation.name == operation]
    if not found:
        raise NotFound(f"there is no operation {operation!r}.", fix="See them with: usrland syscalls")
    who = GrantFile.of(settings.home).bounded(_principal(settings, name))
    missing = who.missing(found[0].scopes)
    if missing:
        say(f"no: {who.subject} lacks {' '.join(sorted(missing))}", "red")
        say(f"Grant it: usrland grant {who.subject} {' '.join(sorted(missing))}")
        raise typer.Exit(1)
    asks = ", after the person agreed" if found[0].consent else ""
    say(f"yes{asks}: {operation} needs {' '.join(sorted(found[0].scopes))}", "green")


def _principal(settings: Settings, name: str | None) -> Principal:
    """By name, as a credential would prove it; what only an authorization server knows is left to the file."""
    own = local_principal(settings)
    if name is None or name == own.subject:
        return own
    for token in TokenFile.of(settings.home).tokens():
        if token.name == name:
            return token.principal
    if name in GrantFile.of(settings.home).subjects():
        return Principal(subject=name, scopes=frozenset({BY_GRANT}), source="oauth")
    raise NotFound(f"nobody here is called {name!r}.", fix="See who is known: usrland whoami --all")


def _table(group: bool) -> str:
    return "groups" if group else "subjects"


def _document(file: GrantFile) -> Any:
    try:
        text = file.path.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = "# Who may do what; `usrland grant` and `usrland revoke` keep it, and so may you.\n"
    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:
        raise InvalidInput(
            f"grants.toml is not valid TOML: {error}.", fix="Correct it; nothing was changed."
        ) from error
