"""`usrland model`: one embedding model in memory, however many servers are started."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import anyio
import typer

from usrland.cli.console import say
from usrland.embedding import DEFAULT, embedder
from usrland.errors import InvalidInput
from usrland.settings import Settings

__all__ = ["model"]


def model(
    name: Annotated[str, typer.Argument(help="As `embedding` names it in usrland.toml.")] = DEFAULT,
) -> None:
    """Hold the embedding model for all servers of this home, until stopped.

    Servers that start while it runs ask it and load none of their own. Where it ends, they go on with their own.
    """
    own = embedder(name)
    if own is None:
        raise InvalidInput(f"{name!r} is no model.", fix="Name one, such as 'minilm'.")
    from usrland.embedding.sharing import share

    home = Settings.load().home
    told = partial(say, f"Every server of {home} that starts now asks here for {name}. Stop with Ctrl+C.")
    anyio.run(share, own, name, home, told)
