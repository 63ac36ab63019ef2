"""Requests that are no calls, and what the answers to lists say of themselves: at every server, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from doors import bearer
from processes import Served, serving

SERVERS = {
    "filesystem-retrieval": "filesystem_retrieval.server:service",
    "enterprise-connectors": "enterprise_connectors.server:service",
    "memory-snapshot": "memory_snapshot.server:service",
}
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(Path(tmp_path_factory.mktemp("home")), *SERVERS.values()) as made:
        yield made


def ask(served: Served, server: str, method: str, *, meta: Any = META, **headers: str) -> httpx.Response:
    sent = {
        **bearer(served.token),
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": method,
        **headers,
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": meta} if meta else {}}
    return httpx.post(served.urls[f"{server}/mcp"], headers=sent, json=body, timeout=30)


@pytest.mark.parametrize("server", SERVERS)
def test_what_is_no_call_is_refused_as_the_specification_says(served: Served, server: str) -> None:
    url, headers = served.urls[f"{server}/mcp"], {**bearer(served.token), "mcp-protocol-version": "2026-07-28"}
    unknown = ask(served, server, "tools/fly")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, -32601)
    for method in ("GET", "DELETE", "PUT", "PATCH"):
        assert httpx.request(method, url, headers=headers, timeout=30).status_code == 405, method
    mismatch = ask(served, server, "tools/list", **{"mcp-method": "tools/call"})
    assert (mismatch.status_code, mismatch.json()["error"]["code"]) == (400, -32020)
    bare = ask(served, server, "tools/list", meta=None)
    assert bare.status_code == 400
    assert ask(served, server, "tools/list", **{"mcp-session-id": "somebody-elses"}).status_code == 200


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("method", ["tools/list", "resources/list", "resources/templates/list", "prompts/list"])
def test_no_list_may_be_shared_between_callers(served: Served, server: str, method: str) -> None:
    assert ask(served, server, method).json()["result"]["cacheScope"] == "private"


@pytest.mark.parametrize("server", SERVERS)
def test_no_argument_asks_to_be_sent_as_a_header(served: Served, server: str) -> None:
    assert "x-mcp-header" not in json.dumps(ask(served, server, "tools/list").json())
