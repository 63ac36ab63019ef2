"""One run of a LangChain agent, with the servers of an `mcpServers` file. Arguments: file, address."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from entries import entries
from langchain.agents import create_agent
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_openai import ChatOpenAI


def connection(entry: dict[str, Any]) -> dict[str, Any]:
    if "url" in entry:
        return {"transport": "streamable_http", "url": entry["url"], "headers": entry.get("headers", {})}
    return {"transport": "stdio", **{key: entry[key] for key in ("command", "args", "env") if key in entry}}


async def main(file: str, url: str) -> None:
    client = MultiServerMCPClient({name: connection(entry) for name, entry in entries(file).items()})
    agent = create_agent(
        ChatOpenAI(model="scripted", base_url=f"{url}/v1", api_key="none"), await client.get_tools()
    )
    result = await agent.ainvoke({"messages": [{"role": "user", "content": "go"}]}, {"recursion_limit": 50})
    sys.stdout.write(str(result["messages"][-1].content))


asyncio.run(main(*sys.argv[1:]))
