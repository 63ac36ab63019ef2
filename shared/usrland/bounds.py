"""What one caller may hold open over HTTP: requests, streams, and the time a body may take to arrive.

A body is read here, whole, before the protocol sees it: half of one keeps nothing but its own connection waiting,
and not for long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from usrland.errors import InvalidInput, QuotaExceeded, Timeout

if TYPE_CHECKING:
    from starlette.types import Message, Receive

__all__ = ["Bounds", "arrived"]

MAX_BODY_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class Bounds:
    """Counts of one process, by caller."""

    max_requests: int
    max_streams: int
    body_seconds: float
    _open: Counter[tuple[str, str]] = field(default_factory=Counter)

    @contextmanager
    def held(self, caller: str, *, stream: bool) -> Iterator[None]:
        """Hold a request, or a stream, open. Raises `QuotaExceeded`."""
        kind, most = ("streams", self.max_streams) if stream else ("requests", self.max_requests)
        if self._open[kind, caller] >= most:
            raise QuotaExceeded(f"{most} {kind} of yours are open already.", retry_after_seconds=1)
        self._open[kind, caller] += 1
        try:
            yield
        finally:
            self._open[kind, caller] -= 1
            if not self._open[kind, caller]:
                del self._open[kind, caller]


async def arrived(receive: Receive, *, seconds: float, max_bytes: int = MAX_BODY_BYTES) -> Receive:
    """The same request with its body here already. Raises `Timeout` or `InvalidInput` where it is too slow or
    too large."""
    parts: list[bytes] = []
    length, last = 0, False
    try:
        with anyio.fail_after(seconds):
            while not last:
                message = await receive()
                if message["type"] != "http.request":
                    return _replay(message, receive)  # the caller has gone
                parts.append(message.get("body", b""))
                length += len(parts[-1])
                last = not message.get("more_body", False)
                if length > max_bytes:
                    raise InvalidInput(f"the body is longer than {max_bytes} bytes.")
    except TimeoutError:
        raise Timeout(f"the body did not arrive within {seconds:g} seconds.") from None
    return _replay({"type": "http.request", "body": b"".join(parts), "more_body": False}, receive)


def _replay(first: Message, receive: Receive) -> Receive:
    waiting = [first]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message
