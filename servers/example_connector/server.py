"""The connector as a server of its own. Inside `enterprise-connectors` nothing of this is needed.

Composition root: settings, then parts, then operations. It must be cheap, since a host waits for it: what
is heavy is imported where it is used.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from example_connector.connector import ExampleConfig, ExampleConnector
from usrland import Service
from usrland.outgoing import outgoing
from usrland.settings import Settings

__all__ = ["service"]

NAME = "example-connector"


def service(settings: Settings) -> Service:
    """The server, from the table `[example-connector]` of `usrland.toml`."""
    config = settings.section(NAME, ExampleConfig, file=settings.home / NAME / "tasks.sqlite")
    connector = ExampleConnector(config, outgoing())

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await connector.aclose()

    return Service(
        name=NAME,
        title="Team tasks",
        description="Find, add and remove the tasks of a team.",
        instructions="The task list of the team. Find tasks before adding one; removing needs the user's consent.",
        operations=connector.operations(),
        lifespan=lifespan,
    )
