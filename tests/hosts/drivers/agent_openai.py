"""One run of an OpenAI Agents SDK agent, with the servers of an `mcpServers` file. Arguments: file, address."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import Any

from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from agents.mcp import MCPServerStdio, MCPServerStreamableHttp
from entries import entries
from openai import AsyncOpenAI

SECONDS = 60


def server(entry: dict[str, Any]) -> Any:
    if "url" in entry:
        where = {"url": entry["url"], "headers": entry.get("headers", {})}
        return MCPServerStreamableHttp(where, client_session_timeout_seconds=SECONDS)
    started = {key: entry[key] for key in ("command", "args", "env") if key in entry}
    return MCPServerStdio(started, client_session_timeout_seconds=SECONDS)


async def main(file: str, url: str) -> None:
    set_tracing_disabled(True)
    model = OpenAIChatCompletionsModel("scripted", AsyncOpenAI(base_url=f"{url}/v1", api_key="none"))
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(server(entry)) for entry in entries(file).values()]
        result = await Runner.run(Agent("tester", model=model, mcp_servers=servers), "go", max_turns=20)
        sys.stdout.write(str(result.final_output))


asyncio.run(main(*sys.argv[1:]))
