"""One run of a Strands agent, with the servers of an `mcpServers` file. Arguments: file, address."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

from entries import entries
from mcp import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from strands import Agent
from strands.models.openai import OpenAIModel
from strands.tools.mcp import MCPClient


def transport(entry: dict[str, Any]) -> Any:
    if "url" not in entry:
        return stdio_client(
            StdioServerParameters(**{key: entry[key] for key in ("command", "args", "env") if key in entry})
        )
    import httpx2

    return streamable_http_client(
        entry["url"], http_client=httpx2.AsyncClient(headers=entry.get("headers", {}), timeout=60)
    )


def main(file: str, url: str) -> None:
    with ExitStack() as stack:
        clients = [
            stack.enter_context(MCPClient(lambda entry=entry: transport(entry), startup_timeout=60))
            for entry in entries(file).values()
        ]
        model = OpenAIModel(client_args={"api_key": "none", "base_url": f"{url}/v1"}, model_id="scripted")
        tools = [tool for client in clients for tool in client.list_tools_sync()]
        sys.stdout.write(str(Agent(model=model, tools=tools)("go")))


main(*sys.argv[1:])
