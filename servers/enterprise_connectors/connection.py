"""One system's connector, made anew when a secret of its changes.

A rotated password has to take effect without a restart, and nothing of the old one may stay in use: not a pooled
connection, not a token that was fetched with it. So the secrets are read again every few seconds while the system
is used (where a program or the keyring gives them, every minute), and at once after a call that was refused or not
answered. Where one is another, a new connector with pools of its own takes the calls from then on; the old one
ends its running calls and is closed. A secret that cannot be read leaves what is there in use.

The operations stay those that were listed: one whose definition is another now is refused, since nobody has
reviewed it.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio
import anyio.to_thread
from pydantic import BaseModel

from enterprise_connectors.systems import System
from enterprise_connectors.upstream import Function
from usrland.connector import Connector, Operation
from usrland.errors import Conflict, Denied, Unavailable, UsrlandError
from usrland.pins import Pin

__all__ = ["Connection", "Opened"]

logger = logging.getLogger(__name__)

RENEW_SECONDS = 2.0
ASK_SECONDS = 60.0
"""For secrets that a program or the keyring gives."""
SUSPECT_SECONDS = 1.0
"""After a call that failed, at the soonest."""

Opened = tuple[Connector[Any], Callable[[], Any]]
"""A connector and how to close it with all that was handed to it."""


@dataclass(slots=True)
class _Generation:
    connector: Connector[Any]
    close: Callable[[], Any]
    operations: Mapping[str, Operation] = field(default_factory=dict)
    same: set[str] = field(default_factory=set)
    """Operations whose definition was compared."""
    running: int = 0
    replaced: anyio.Event = field(default_factory=anyio.Event)

    @contextmanager
    def used(self) -> Iterator[None]:
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    @property
    def is_drained(self) -> bool:
        return self.running == 0 and self.replaced.is_set()


class Connection:
    """The connector of the latest secrets."""

    def __init__(
        self,
        system: System,
        open: Callable[[System], Opened],
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`changed` is called once a new connector is in use. Raises what `open` raises."""
        self._system = system
        self._open = open
        self.on_change = changed
        self._clock = clock
        self._generation = _Generation(*open(system))
        self._looked = clock()
        self._suspect = False
        self._looking = anyio.Lock()

    @property
    def connector(self) -> Connector[Any]:
        return self._generation.connector

    def operations(self) -> Sequence[Operation]:
        """What the connector declares; from here on these are the operations that are called."""
        declared = list(self.connector.operations())
        self._generation.operations = {operation.name: operation for operation in declared}
        return declared

    def calling(self, operation: Operation, part: Literal["call", "preview"]) -> Function:
        """That function of the operation, of whichever connector is the latest."""
        first: Function = getattr(operation, part)

        @functools.wraps(first)
        async def call(**arguments: Any) -> BaseModel:
            await self.renew()
            generation = self._generation
            try:
                with generation.used():
                    return await getattr(self._same(operation, generation), part)(**arguments)  # type: ignore[no-any-return]
            except (Denied, Unavailable):
                self._suspect = True
                raise
            finally:
                if generation.is_drained:
                    with anyio.CancelScope(shield=True):
                        await generation.close()

        return call

    async def renew(self) -> None:
        """Look whether a secret has changed, where it is time to."""
        if not self._is_due() or self._looking.locked():
            return
        async with self._looking:
            self._looked, self._suspect = self._clock(), False
            try:
                latest = await anyio.to_thread.run_sync(self._system.again)
                if latest == self._system:
                    return
                generation = await anyio.to_thread.run_sync(self._next, latest)
            except UsrlandError as error:
                logger.warning("the secrets of %s cannot be read again: %s", self._system.name, error.fact)
                return
            except Exception:  # a connector is foreign code; the one that works goes on
                logger.exception("the connector of %s cannot be made again", self._system.name)
                return
            old, self._generation, self._system = self._generation, generation, latest
            old.replaced.set()
            self.on_change()
            logger.warning("a secret of %s has changed; its connections are made anew", latest.name)
            if old.is_drained:
                with anyio.CancelScope(shield=True):
                    await old.close()

    async def work(self) -> None:
        """What the connector does beside its calls, and of each that follows; runs until cancelled."""
        while True:
            generation = self._generation
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._work, generation)
                while not generation.replaced.is_set():
                    with anyio.move_on_after(ASK_SECONDS):
                        await generation.replaced.wait()
                    await self.renew()
                tasks.cancel_scope.cancel()

    async def _work(self, generation: _Generation) -> None:
        try:
            await generation.connector.work()
        except Exception:  # foreign code; the calls go on without it
            logger.exception("the background work of system %s stopped", self._system.name)

    async def aclose(self) -> None:
        await self._generation.close()

    def _is_due(self) -> bool:
        if not self._system.references:
            return False
        costly = any(reference.startswith(("command:", "keyring:")) for reference in self._system.references)
        wait = SUSPECT_SECONDS if self._suspect else ASK_SECONDS if costly else RENEW_SECONDS
        return self._clock() - self._looked >= wait

    def _next(self, system: System) -> _Generation:
        connector, close = self._open(system)
        return _Generation(connector, close, {operation.name: operation for operation in connector.operations()})

    def _same(self, operation: Operation, generation: _Generation) -> Operation:
        found = generation.operations.get(operation.name)
        if found is operation or (found is not None and operation.name in generation.same):
            return found
        if found is None or Pin.of(found) != Pin.of(operation):
            raise Conflict(
                f"{operation.name} is not what it was when this server started.",
                fix="The operator restarts the server, and reviews it with: usrland syscalls --diff.",
            )
        generation.same.add(operation.name)
        return found
