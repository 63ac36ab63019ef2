"""Two tenants who call the three servers at the same time, with the same JSON-RPC ids, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import anyio
import httpx
from doors import bearer
from processes import serving

from usrland.identity import TokenFile

__all__ = ["SERVERS", "TENANTS", "Outcome", "asked", "concurrently", "mixed", "prepared"]

SERVERS = (
    "filesystem_retrieval.server:service",
    "enterprise_connectors.server:service",
    "memory_snapshot.server:service",
)
TENANTS = ("alpha", "beta")
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


@dataclass
class Outcome:
    answered: int = 0
    crossed: list[str] = field(default_factory=list)
    """Answers that held the other's canary, or not the caller's own."""
    failed: list[str] = field(default_factory=list)


async def concurrently(top: Path, *, calls: int) -> Outcome:
    """So many calls of each tenant, all of them under way at once."""
    home = prepared(top)
    tokens = {tenant: TokenFile.of(home).add(tenant, ["*"], tenant=tenant, namespace=tenant) for tenant in TENANTS}
    outcome = Outcome()
    with serving(home, *SERVERS, USRLAND_QUOTAS_IN_FLIGHT="1000", USRLAND_SERVER_MAX_REQUESTS="1000") as served:
        # no connection is used twice: one that was left alone for five seconds may be closed just then
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(timeout=300, limits=limits) as http:

            async def call(tenant: str, number: int, name: str, tool: str, arguments: dict[str, Any]) -> None:
                url = served.urls[f"{name}/mcp"]
                answer = await asked(http, url, tokens[tenant], number, tool, arguments)
                if answer.status_code != 200 or '"isError":true' in answer.text:
                    outcome.failed.append(f"{tenant} {tool}: {answer.status_code} {answer.text[:300]}")
                    return
                other = TENANTS[1 - TENANTS.index(tenant)]
                if f"canary of {other}" in answer.text or f"canary of {tenant}" not in answer.text:
                    outcome.crossed.append(f"{tenant} {tool}: {answer.text[:300]}")
                outcome.answered += 1

            for tenant in TENANTS:  # something to find in memory
                items = [{"text": f"The ferry: canary of {tenant}"}]
                await call(tenant, 0, "memory-snapshot", "memory_remember", {"items": items})
            outcome = Outcome()
            async with anyio.create_task_group() as tasks:
                for tenant in TENANTS:
                    for number, (name, tool, arguments) in enumerate(islice(mixed(tenant), calls)):
                        tasks.start_soon(call, tenant, number, name, tool, arguments)
    return outcome


async def asked(
    http: httpx.AsyncClient, url: str, token: str, number: int, tool: str, arguments: dict[str, Any]
) -> httpx.Response:
    """One call of a tool, with this number as its JSON-RPC id."""
    headers = {
        **bearer(token),
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": tool,
    }
    params = {"name": tool, "arguments": arguments, "_meta": META}
    body = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
    return await http.post(url, headers=headers, json=body)


def mixed(tenant: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Calls that each answer with the tenant's canary, without end."""
    return cycle(
        [
            ("filesystem-retrieval", "fs_read", {"path": "notes.md"}),
            ("filesystem-retrieval", "fs_grep", {"pattern": "canary"}),
            ("memory-snapshot", "memory_recall", {"query": "ferry"}),
            ("memory-snapshot", "memory_restore", {"mode": "full"}),
            (
                "enterprise-connectors",
                "sys_call",
                {"name": f"{tenant}_query", "arguments": {"sql": "SELECT name FROM ships"}},
            ),
        ]
    )


def prepared(top: Path) -> Path:
    """A home with a folder and a database of each tenant."""
    import sqlite3
    from contextlib import closing

    home = top / "home"
    home.mkdir()
    roots, systems = "", ""
    for tenant in TENANTS:
        folder = top / tenant
        folder.mkdir()
        (folder / "notes.md").write_text(f"# Notes\n\nThe ferry: canary of {tenant}.\n", encoding="utf-8")
        with closing(sqlite3.connect(top / f"{tenant}.sqlite")) as connection:
            connection.execute("CREATE TABLE ships (name TEXT)")
            connection.execute("INSERT INTO ships VALUES (?)", [f"canary of {tenant}"])
            connection.commit()
        roots += f"{tenant} = {{ folder = {json.dumps(str(folder))}, tenant = {json.dumps(tenant)} }}\n"
        systems += f'[{tenant}]\nkind = "sql"\nurl = "sqlite:///{top / tenant}.sqlite"\n'
    (home / "usrland.toml").write_text(
        f'[filesystem-retrieval]\nembedding = "none"\n[filesystem-retrieval.roots]\n{roots}'
        '[memory-snapshot]\nembedding = "none"\n',
        encoding="utf-8",
    )
    (home / "connectors.toml").write_text(systems, encoding="utf-8")
    return home
