"""Calls that a person makes from the command line: the same path as a kernel's, admitted and recorded alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from usrland.call import CallPath
from usrland.cli.servers import pick_servers
from usrland.connector import Service
from usrland.identity import GrantFile, local_principal
from usrland.ledger import Ledger
from usrland.schemas.principal import Principal
from usrland.settings import Settings

__all__ = ["Caller", "calling"]

MOST_TOKENS = 25_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One server, and the person who calls it."""

    service: Service
    principal: Principal
    path: CallPath

    async def call(self, operation: str, **arguments: Any) -> Mapping[str, Any]:
        """The answer's facts; an argument that is `None` is left out. Raises what the operation raises."""
        given = {name: value for name, value in arguments.items() if value is not None}
        if "max_tokens" in self.path.parameters(self.service.operation(operation)).added:
            given.setdefault("max_tokens", MOST_TOKENS)
        return (await self.path.run(operation, given, principal=self.principal)).structured


@asynccontextmanager
async def calling(server: str, settings: Settings) -> AsyncIterator[Caller]:
    """A server's operations for the owner of this home, without a process of its own."""
    (found,) = pick_servers([server])
    service = found.load(settings)
    ledger = Ledger.of(settings, server)
    async with ledger.writing():
        principal = GrantFile.of(settings.home).bounded(local_principal(settings))
        yield Caller(service=service, principal=principal, path=CallPath.of(service, settings, ledger))
