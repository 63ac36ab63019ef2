"""The peer: the SDK's own server with a few tools and nothing else."""

from __future__ import annotations

from mcp.server import MCPServer
from pydantic import BaseModel

server = MCPServer("bare", log_level="WARNING")


class Number(BaseModel):
    value: int


class Line(BaseModel):
    number: int
    text: str


class Lines(BaseModel):
    items: list[Line]


@server.tool()
async def add(left: int, right: int = 2) -> Number:
    """Add two whole numbers."""
    return Number(value=left + right)


@server.tool()
async def lines(count: int) -> Lines:
    """List numbered lines."""
    return Lines(items=[Line(number=n, text=f"line {n} " + "abc " * (n % 17)) for n in range(count)])


@server.tool()
async def echo(text: str) -> str:
    """Give a text back."""
    return text


if __name__ == "__main__":
    server.run()
