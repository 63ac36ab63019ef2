"""Python `mcp` 1.x: make the calls of a plan (JSON on standard input), write what came back to standard output."""

import json
import sys
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import mcp.types
from mcp import ClientSession, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client


def connection(plan: dict[str, Any]) -> AbstractAsyncContextManager[Any]:
    match plan["transport"]:
        case "stdio":
            command, *args = plan["command"]
            return stdio_client(StdioServerParameters(command=command, args=args))
        case "sse":
            return sse_client(plan["url"])
        case _:
            return streamablehttp_client(plan["url"])


def wire(value: Any) -> Any:
    return value.model_dump(mode="json", by_alias=True, exclude_none=True)


async def call(session: ClientSession, plan: dict[str, Any], name: str, arguments: dict[str, Any]) -> Any:
    for _ in range(plan["tries"]):
        answer = wire(await session.call_tool(name, arguments))
        if not answer.get("structuredContent", {}).get(plan["unsettled"]):
            break
        await anyio.sleep(0.5)
    return answer


async def run(plan: dict[str, Any]) -> dict[str, Any]:
    # the client offers this version and no other; the older ones are spoken by hosts that are still around
    mcp.types.LATEST_PROTOCOL_VERSION = plan["era"]
    async with connection(plan) as streams, ClientSession(streams[0], streams[1]) as session:
        greeting = await session.initialize()
        resources = wire(await session.list_resources())["resources"]
        return {
            "negotiated": greeting.protocolVersion,
            "instructions": greeting.instructions,
            "tools": wire(await session.list_tools())["tools"],
            "resources": resources,
            "read": [wire(await session.read_resource(resource["uri"])) for resource in resources],
            "calls": [await call(session, plan, name, arguments) for name, arguments in plan["calls"]],
        }


sys.stdout.write(json.dumps(anyio.run(run, json.load(sys.stdin))))
