"""One system's share of patience: how many calls at once, and none while it is down.

A system that does not answer makes every caller wait for its deadline, and the waiting callers keep it from coming
back. So after some failures in a row calls are refused at once; after a pause one call is let through, and what it
meets decides. Only what says that the system itself did not answer counts: a refusal, a conflict or a wrong
argument is an answer. The state is this process's; another one finds out for itself.
"""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from pydantic import BaseModel

from usrland.errors import Timeout, Unavailable

__all__ = ["Function", "Upstream"]

FAILURES = 5
"""In a row, before calls are refused."""
PAUSE_SECONDS = 20.0
WAIT_SECONDS = 10.0
"""For a turn; after that the caller hears that the system is busy."""

Function = Callable[..., Awaitable[BaseModel]]


class Upstream:
    """The state of one system, shared by all of its operations."""

    def __init__(self, name: str, *, at_once: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._turns = anyio.CapacityLimiter(at_once)
        self._failures = 0
        self._closed_until = 0.0
        self._probing = False

    def guarded(self, function: Function) -> Function:
        """The same function, taking turns and refused while the system is down."""

        @functools.wraps(function)
        async def call(**arguments: Any) -> BaseModel:
            probe = self._admit()
            try:
                async with self._turn():
                    try:
                        answer = await function(**arguments)
                    except (Unavailable, Timeout):
                        self._failed()
                        raise
            finally:
                if probe:
                    self._probing = False
            self._failures = 0
            return answer

        return call

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        whose = object()  # one task may make several calls
        try:
            with anyio.fail_after(WAIT_SECONDS):
                await self._turns.acquire_on_behalf_of(whose)
        except TimeoutError:
            raise Unavailable(f"{self._name} is busy with other calls.", unsent=True) from None
        try:
            yield
        finally:
            self._turns.release_on_behalf_of(whose)

    def _admit(self) -> bool:
        """Whether this call is the one that finds out; raises `Unavailable` where the system is down."""
        if self._failures < FAILURES:
            return False
        left = self._closed_until - self._clock()
        if left > 0 or self._probing:
            raise Unavailable(
                f"{self._name} did not answer {self._failures} times in a row and is left alone for now.",
                fix=f"Try again in {max(int(left) + 1, 1)} seconds.",
                unsent=True,
            )
        self._probing = True
        return True

    def _failed(self) -> None:
        self._failures += 1
        self._closed_until = self._clock() + PAUSE_SECONDS
