"""The HTTP client that connectors are handed. The one module that imports httpx.

`outgoing` gives a client that is made at its first use: importing httpx and reading the system's
certificates costs a fifth of a second, which a host that only asks for the list of tools must not wait for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import httpx

__all__ = ["outgoing"]

TIMEOUT_SECONDS = 30.0


def outgoing() -> httpx.AsyncClient:
    """A client for calls to systems outside. `aclose` it; closing one that was never used costs nothing."""
    return cast("httpx.AsyncClient", _AtFirstUse())


class _AtFirstUse:
    """Stands for an `httpx.AsyncClient` until something is asked of it."""

    _client: httpx.AsyncClient | None = None

    def __getattr__(self, name: str) -> Any:
        if self._client is None:
            import httpx

            self._client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, follow_redirects=False)
        return getattr(self._client, name)

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()
