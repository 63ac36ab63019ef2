"""The doors of an HTTP server, for those who hold a token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from httpx2 import AsyncClient
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

__all__ = ["bearer", "opened"]


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@asynccontextmanager
async def opened(url: str, token: str, **options: Any) -> AsyncIterator[Client]:
    """A client at `…/mcp` or `…/sse`."""
    async with AsyncClient(headers=bearer(token), timeout=60) as http:
        target: AbstractAsyncContextManager[Any]
        if url.endswith("/sse"):
            target = sse_client(url, headers=bearer(token))
        else:
            target = streamable_http_client(url, http_client=http)
        async with Client(target, **options) as client:
            yield client
