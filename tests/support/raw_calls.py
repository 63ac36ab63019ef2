"""Calls over HTTP as bytes on a socket: cheap, a connection for each, and cut wherever one likes."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

from doors import bearer

__all__ = ["Cut", "Lost", "called"]

META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
Cut = Literal["never", "at the reply"] | float
"""When the caller goes away: never, when the reply is there and unread, or so many seconds after asking."""


class Lost(Exception):
    """There was no answer."""


async def called(
    port: int,
    path: str,
    token: str,
    tool: str,
    arguments: dict[str, Any],
    *,
    host: str = "",
    cut: Cut = "never",
    seconds: float = 60.0,
) -> dict[str, Any]:
    """The result of `tools/call`. Raises `Lost` where there was none, and where it was cut."""
    params = {"name": tool, "arguments": arguments, "_meta": META}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    headers = {
        **bearer(token),
        "host": host or f"127.0.0.1:{port}",
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": tool,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.timeout(seconds):
                writer.write(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
                await writer.drain()
                if isinstance(cut, float):
                    await asyncio.sleep(cut)
                    raise Lost
                if cut == "at the reply":
                    await reader.read(1)
                    raise Lost
                answer = await reader.read(-1)
        finally:
            writer.transport.abort()
    except (OSError, TimeoutError) as error:
        raise Lost from error
    facts, found, content = answer.partition(b"\r\n\r\n")
    if not found or b"transfer-encoding: chunked" in facts.lower():
        raise Lost
    try:
        return dict(json.loads(content)["result"])
    except (ValueError, KeyError) as error:
        raise Lost from error
