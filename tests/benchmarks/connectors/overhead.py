"""What the call path costs a REST read, and what happens to a write whose reply is lost.

    python tests/benchmarks/connectors/overhead.py [--calls 2000] [--retries 1000]

A server in a process of its own answers a small JSON object. Reads: the bare httpx client and `sys_call` in
turn, in the same run, one at a time (p50, p95) and sixteen at a time (calls a second). Writes: the server does
what it is asked and closes the connection instead of answering; the caller repeats the call with the same
idempotency key, and once more. Counted are effects on the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from mcp import Client, StdioServerParameters

from enterprise_connectors.server import service
from usrland.errors import UsrlandError
from usrland.host import running
from usrland.schemas.principal import Principal
from usrland.settings import Settings

THING = {
    "type": "object",
    "required": ["id", "name"],
    "properties": {
        "id": {"type": "integer"},
        "name": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "note": {"type": "string"},
    },
}
SPEC = {
    "openapi": "3.0.3",
    "paths": {
        "/things/{id}": {
            "get": {
                "operationId": "getThing",
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
                "responses": {"200": {"content": {"application/json": {"schema": THING}}}},
            }
        },
        "/things": {
            "post": {
                "operationId": "addThing",
                "requestBody": {
                    "content": {"application/json": {"schema": {"type": "object", "properties": {"n": {}}}}}
                },
            }
        },
    },
}
BODY = json.dumps({"id": 7, "name": "a thing", "tags": ["a", "b"], "note": "x" * 300}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
AT_ONCE = 16


async def _serve(ready: Any, effects: Any) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                if head.startswith("get /effects"):
                    body = json.dumps(effects).encode()
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
                elif head.startswith("post"):
                    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
                    effects.append(json.loads(await reader.readexactly(length))["n"])
                    return  # it is done, and nobody is told
                else:
                    writer.write(ANSWER)
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    ready.put(server.sockets[0].getsockname()[1])
    async with server:
        await server.serve_forever()


BARE = """
import sys
import httpx
from mcp.server import MCPServer

server = MCPServer("bare", log_level="WARNING")
client = httpx.AsyncClient()

@server.tool()
async def get_thing(id: str) -> dict:
    response = await client.get(f"http://127.0.0.1:{PORT}/things/{id}")
    return response.json()
"""
"""A server that does the same and governs nothing."""


async def through_mcp(host: Any, home: Path, port: int, calls: int) -> None:
    code = BARE.replace("{PORT}", str(port))
    scope: dict[str, Any] = {}
    exec(code, scope)
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "enterprise_connectors"],
        env={"USRLAND_HOME": str(home), "USRLAND_ENTERPRISE_CONNECTORS_EMBEDDING": "none"},
    )
    plain = StdioServerParameters(command=sys.executable, args=["-c", f"{code}\nserver.run()"])
    for name, ours, theirs in (("in process", host.server, scope["server"]), ("stdio", server, plain)):
        async with Client(ours) as governed, Client(theirs) as bare:

            async def ask(client: Client, tool: str, arguments: dict[str, Any]) -> None:
                result = await client.call_tool(tool, arguments)
                assert not result.is_error, result

            mine = partial(ask, governed, "sys_call", {"name": "api_get_thing", "arguments": {"id": "7"}})
            other = partial(ask, bare, "get_thing", {"id": "7"})
            await timed(mine, 50)
            await timed(other, 50)
            wall: dict[str, list[float]] = {"governed": [], "bare": []}
            for _ in range(10):
                wall["bare"] += await timed(other, calls // 10)
                wall["governed"] += await timed(mine, calls // 10)
            report(f"MCP {name}, bare", wall["bare"])
            report(f"MCP {name}, sys_call", wall["governed"])
            ratio = statistics.median(wall["governed"]) / statistics.median(wall["bare"])
            slow, fast = await rate(other, calls), await rate(mine, calls)
            print(
                f"p50: {ratio:.2f} × bare; {AT_ONCE} together {slow:.0f}/s bare, {fast:.0f}/s: {fast / slow:.2f} ×"
            )


def serve(ready: Any) -> None:
    asyncio.run(_serve(ready, []))


async def timed(call: Any, count: int) -> list[float]:
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        await call()
        times.append((time.perf_counter() - begun) * 1000)
    return times


async def rate(call: Any, count: int) -> float:
    begun = time.perf_counter()
    await asyncio.gather(*(timed(call, count // AT_ONCE) for _ in range(AT_ONCE)))
    return count / (time.perf_counter() - begun)


async def measure(port: int, calls: int, retries: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / "spec.json").write_text(json.dumps(SPEC), encoding="utf-8")
        (home / "connectors.toml").write_text(
            f'[api]\nkind = "openapi"\nspec = "{home}/spec.json"\nbase_url = "http://127.0.0.1:{port}"\n'
            "allow_private = true\nwrite = true\n",
            encoding="utf-8",
        )
        settings = Settings(home=home, environment={"USRLAND_ENTERPRISE_CONNECTORS_EMBEDDING": "none"})
        caller = Principal(subject="b", scopes=frozenset({"*"}), source="bench")
        async with running(service(settings), settings, principal=caller) as host, httpx.AsyncClient() as client:
            host.first_contact.set()

            async def bare() -> None:
                response = await client.get(f"http://127.0.0.1:{port}/things/7")
                response.json()

            async def governed() -> None:
                await host.path.run(
                    "sys_call", {"name": "api_get_thing", "arguments": {"id": "7"}}, principal=caller
                )

            await timed(bare, 100)
            await timed(governed, 100)
            plain: list[float] = []
            ours: list[float] = []
            for _ in range(10):  # in turn, so that both meet the same machine
                plain += await timed(bare, calls // 10)
                ours += await timed(governed, calls // 10)
            report("bare httpx", plain)
            report("sys_call", ours)
            print(f"p50: {statistics.median(ours) / statistics.median(plain):.2f} × bare")
            fast, governed_rate = await rate(bare, calls), await rate(governed, calls)
            print(f"{AT_ONCE} at a time: {fast:.0f}/s bare, {governed_rate:.0f}/s governed", end=": ")
            print(f"{governed_rate / fast:.2f} ×")

            await through_mcp(host, home, port, calls)

            answers: Counter[str] = Counter()
            for number in range(retries):
                await governed()  # an answer now and then, or the system counts as down and is left alone
                for _ in range(3):
                    try:
                        await host.path.run(
                            "sys_call",
                            {
                                "name": "api_add_thing",
                                "arguments": {"body": {"n": number}},
                                "idempotency_key": f"k{number}",
                            },
                            principal=caller,
                        )
                        answers["ok"] += 1
                    except UsrlandError as error:
                        answers[error.code] += 1
            effects = Counter((await client.get(f"http://127.0.0.1:{port}/effects")).json())
            once = sum(count == 1 for count in effects.values())
            print(
                f"writes whose reply was lost, each tried three times: {retries}, with one effect: {once}", end=" "
            )
            print(dict(answers))


def report(name: str, times: list[float]) -> None:
    print(f"{name:24s} p50 {statistics.median(times):.2f} ms  p95 {sorted(times)[int(len(times) * 0.95)]:.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--retries", type=int, default=1_000)
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    process = context.Process(target=serve, args=(ready,), daemon=True)
    process.start()
    port = ready.get(timeout=30)
    with socket.create_connection(("127.0.0.1", port)):
        pass
    try:
        asyncio.run(measure(port, given.calls, given.retries))
    finally:
        process.terminate()


if __name__ == "__main__":
    main()
