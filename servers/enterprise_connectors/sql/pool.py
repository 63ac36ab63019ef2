"""Connections that wait for the next call, so that a call does not pay for a new one.

A connection is given back only after everything a session can keep was forgotten (`reset`), and only where that
worked: nothing of one caller's session reaches the next. One system has one role, so a pool needs no keys; a
changed password makes a new system and a new pool.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Pool"]

MAX_IDLE = 4
IDLE_SECONDS = 60.0

ConnectionT = TypeVar("ConnectionT")


class Pool(Generic[ConnectionT]):
    """Idle connections, the latest first. Safe to use from threads."""

    def __init__(self, reset: Callable[[ConnectionT], bool], close: Callable[[ConnectionT], None]) -> None:
        """`reset` makes a used connection like a new one and says whether it could."""
        self._reset = reset
        self._close = close
        self._guard = threading.Lock()
        self._idle: list[tuple[float, ConnectionT]] = []
        self._closed = False

    def take(self) -> ConnectionT | None:
        """A connection that was used before; None where a new one has to be made."""
        stale: list[ConnectionT] = []
        try:
            with self._guard:
                while self._idle:
                    since, connection = self._idle.pop()
                    if time.monotonic() - since < IDLE_SECONDS:
                        return connection
                    stale.append(connection)
            return None
        finally:
            for connection in stale:
                self._close(connection)

    def give(self, connection: ConnectionT) -> None:
        """Take a connection back, or close it."""
        if self._reset(connection):
            with self._guard:
                if not self._closed and len(self._idle) < MAX_IDLE:
                    self._idle.append((time.monotonic(), connection))
                    return
        self._close(connection)

    def close(self) -> None:
        """Close what waits, and from now on whatever is given back."""
        with self._guard:
            self._closed, idle, self._idle = True, self._idle, []
        for _, connection in idle:
            self._close(connection)
