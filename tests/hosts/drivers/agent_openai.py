"""One run of an OpenAI Agents SDK agent, with the servers of an `mcpServers` file. Arguments: file, address."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from agents.mcp import MCPServerStdio
from openai import AsyncOpenAI


async def main(entries: dict[str, dict[str, Any]], url: str) -> None:
    set_tracing_disabled(True)
    model = OpenAIChatCompletionsModel("scripted", AsyncOpenAI(base_url=f"{url}/v1", api_key="none"))
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                MCPServerStdio(
                    {key: entry[key] for key in ("command", "args", "env")}, client_session_timeout_seconds=60
                )
            )
            for entry in entries.values()
        ]
        result = await Runner.run(Agent("tester", model=model, mcp_servers=servers), "go", max_turns=20)
        sys.stdout.write(str(result.final_output))


asyncio.run(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["mcpServers"], sys.argv[2]))
