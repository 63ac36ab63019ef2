"""Python `mcp` 2.x: make the calls of a plan (JSON on standard input), write what came back to standard output."""

import json
import sys
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from mcp.client.sse import sse_client


def connection(plan: dict[str, Any]) -> Any:
    match plan["transport"]:
        case "stdio":
            command, *args = plan["command"]
            return StdioServerParameters(command=command, args=args)
        case "sse":
            return sse_client(plan["url"])
        case _:
            return plan["url"]


def wire(value: Any) -> Any:
    return value.model_dump(mode="json", by_alias=True, exclude_none=True)


async def call(client: Client, plan: dict[str, Any], name: str, arguments: dict[str, Any]) -> Any:
    for _ in range(plan["tries"]):
        answer = wire(await client.call_tool(name, arguments))
        if not answer.get("structuredContent", {}).get(plan["unsettled"]):
            break
        await anyio.sleep(0.5)
    return answer


async def run(plan: dict[str, Any]) -> dict[str, Any]:
    async with Client(connection(plan), mode=plan["era"]) as client:
        resources = wire(await client.list_resources())["resources"]
        return {
            "negotiated": client.protocol_version,
            "instructions": client.instructions,
            "tools": wire(await client.list_tools())["tools"],
            "resources": resources,
            "read": [wire(await client.read_resource(resource["uri"])) for resource in resources],
            "calls": [await call(client, plan, name, arguments) for name, arguments in plan["calls"]],
        }


sys.stdout.write(json.dumps(anyio.run(run, json.load(sys.stdin))))
