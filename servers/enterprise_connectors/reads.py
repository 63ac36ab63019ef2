"""Answers of reads that may be given again, for as long as the operation says.

What one caller was answered is never given to another: the key is who asks, with which scopes, and exactly what.
Whatever changes something in the system forgets all of its answers, for everybody, whether it succeeded or not:
nobody here knows which read it touches. The answers are this process's; another one asks for itself.
"""

from __future__ import annotations

import functools
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel

from usrland.audit.entry import canonical
from usrland.connector import Call, Operation
from usrland.parameters import call_parameter

__all__ = ["Reads"]

MAX_BYTES = 32 * 1024 * 1024
MAX_ANSWER_BYTES = 1024 * 1024

Function = Callable[..., Awaitable[BaseModel]]


class Reads:
    """The kept answers of one system."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[tuple[Any, ...], tuple[float, int, BaseModel]] = OrderedDict()
        self._bytes = 0

    def around(self, operation: Operation, function: Function) -> Function:
        """The same function, answering from memory where it may, or forgetting where it changes something."""
        if operation.effect != "read":
            return self._forgetting(function)
        return self._remembering(operation, function) if operation.cache_seconds > 0 else function

    def forget(self) -> None:
        """Let go of all answers."""
        self._kept.clear()
        self._bytes = 0

    def _forgetting(self, function: Function) -> Function:
        @functools.wraps(function)
        async def call(**arguments: Any) -> BaseModel:
            try:
                return await function(**arguments)
            finally:
                self.forget()

        return call

    def _remembering(self, operation: Operation, function: Function) -> Function:
        wanted = call_parameter(function)

        @functools.wraps(function)
        async def call(**arguments: Any) -> BaseModel:
            caller: Call = arguments[wanted] if wanted else arguments.pop("caller_")
            own = {name: value for name, value in arguments.items() if name != wanted}
            who = caller.principal
            key = (
                operation.name,
                (who.tenant, who.namespace, who.subject, who.client, who.scopes),
                (caller.offset, caller.max_tokens, canonical(_plain(own))),
            )
            kept = self._kept.get(key)
            if kept is not None and self._clock() < kept[0]:
                return kept[2]
            answer = await function(**arguments)
            self._keep(key, self._clock() + operation.cache_seconds, answer)
            return answer

        if wanted is None:
            call.__annotations__ = {**function.__annotations__, "caller_": Call}
        return call

    def _keep(self, key: tuple[Any, ...], until: float, answer: BaseModel) -> None:
        size = len(answer.model_dump_json())
        if size > MAX_ANSWER_BYTES:
            return
        before = self._kept.pop(key, None)
        self._kept[key] = (until, size, answer)
        self._bytes += size - (before[1] if before else 0)
        while self._bytes > MAX_BYTES:
            _, (_, freed, _) = self._kept.popitem(last=False)
            self._bytes -= freed


def _plain(value: Any) -> Any:
    """Arguments as JSON values: those of hand-written operations may be models, dates, enumerations."""
    match value:
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case BaseModel():
            return value.model_dump(mode="json")
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)
