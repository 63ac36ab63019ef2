"""One run of a Pydantic AI agent, with the servers of an `mcpServers` file. Arguments: file, address."""

from __future__ import annotations

import asyncio
import sys

from pydantic_ai import Agent
from pydantic_ai.mcp import load_mcp_toolsets
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


async def main(file: str, url: str) -> None:
    model = OpenAIChatModel("scripted", provider=OpenAIProvider(base_url=f"{url}/v1", api_key="none"))
    agent = Agent(model, toolsets=load_mcp_toolsets(file))
    async with agent:
        result = await agent.run("go")
    sys.stdout.write(str(result.output))


asyncio.run(main(*sys.argv[1:]))
