"""The three kinds of operation that our connectors declare, each said in one line.

Somebody else's connector needs none of this: an `Operation` states its effect and its scopes itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel

from usrland.connector import Operation

__all__ = ["DESTROY", "READ", "WRITE", "destroying", "reading", "writing"]

READ = frozenset({"sys:read"})
WRITE = frozenset({"sys:write"})
DESTROY = frozenset({"sys:destroy"})

Function = Callable[..., Awaitable[BaseModel]]


def reading(call: Function, **more: Any) -> Operation:
    """Changes nothing."""
    return Operation(call=call, effect="read", scopes=READ, **more)


def writing(call: Function, preview: Function | None = None, **more: Any) -> Operation:
    """Adds or changes; nobody is asked unless the operator says so."""
    return Operation(call=call, preview=preview, effect="write", scopes=WRITE, **more)


def destroying(call: Function, preview: Function, **more: Any) -> Operation:
    """Loses something; the person is asked."""
    return Operation(call=call, preview=preview, effect="destroy", scopes=DESTROY, **more)
