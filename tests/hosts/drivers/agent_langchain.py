"""One run of a LangChain agent, with the servers of an `mcpServers` file. Arguments: file, address."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_openai import ChatOpenAI


async def main(entries: dict[str, dict[str, Any]], url: str) -> None:
    client = MultiServerMCPClient({name: {**entry, "transport": "stdio"} for name, entry in entries.items()})
    agent = create_agent(
        ChatOpenAI(model="scripted", base_url=f"{url}/v1", api_key="none"), await client.get_tools()
    )
    result = await agent.ainvoke({"messages": [{"role": "user", "content": "go"}]}, {"recursion_limit": 50})
    sys.stdout.write(str(result["messages"][-1].content))


asyncio.run(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["mcpServers"], sys.argv[2]))
