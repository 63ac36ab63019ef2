"""`usrland token`: who may call over HTTP where there is no identity provider."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from usrland.cli.console import say, say_table
from usrland.identity import BY_GRANT, GrantFile, TokenFile
from usrland.settings import Settings

__all__ = ["token"]

token = typer.Typer(help="Hand out, list and revoke bearer tokens for HTTP.", no_args_is_help=True)

DEFAULT_DAYS = 90.0


@token.command()
def add(
    name: Annotated[str, typer.Argument(help="Who will hold it; the audit log shows this name.")],
    scopes: Annotated[
        list[str] | None,
        typer.Option(
            "--scopes",
            metavar="SCOPE",
            help="What it may do; may be repeated. fs:* is all of fs. Default: what grants.toml says of the name.",
        ),
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose data it reaches.")] = "local",
    namespace: Annotated[str, typer.Option(help="Which part of the tenant's data.")] = "main",
    days: Annotated[float, typer.Option(help="How long it is good; 0 is for ever.")] = DEFAULT_DAYS,
) -> None:
    """Make a token and print it: the only time it can be seen."""
    settings = Settings.load()
    wanted = [scope for given in scopes or [] for scope in given.replace(",", " ").split()]
    if not wanted and name in GrantFile.of(settings.home).subjects():
        wanted = [BY_GRANT]
    made = TokenFile.of(settings.home).add(name, wanted, tenant=tenant, namespace=namespace, days=days or None)
    print(made)


@token.command("list")
def show() -> None:
    """Show who holds a token, never the token."""
    tokens = _file().tokens()
    if not tokens:
        say("There are no tokens.")
        return
    now = time.time()
    say_table(
        ["name", "scopes", "tenant", "namespace", "expires"],
        [
            [each.name, " ".join(each.scopes), each.tenant, each.namespace, _expiry(each.expires_at, now)]
            for each in tokens
        ],
    )


@token.command()
def revoke(name: Annotated[str, typer.Argument(help="As `usrland token list` shows it.")]) -> None:
    """Refuse a token from now on."""
    _file().revoke(name)
    say(f"Revoked {name}: its next call is refused.", "green")


def _file() -> TokenFile:
    return TokenFile.of(Settings.load().home)


def _expiry(at: int | None, now: float) -> str:
    if at is None:
        return "never"
    day = time.strftime("%Y-%m-%d", time.gmtime(at))
    return f"{day} (expired)" if at <= now else day
