"""Two tenants at one server: neither sees, guesses or disturbs what is the other's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from hostile import BETA, CANARY, World, calling, world
from issuer import Signer, issuer
from mcp import Client
from tenants import concurrently

from usrland import Principal
from usrland.settings import Settings

ALPHA = Principal(subject="ann", tenant="alpha", scopes=frozenset({"*"}), source="test")


@asynccontextmanager
async def both(made: World, server: str) -> AsyncIterator[tuple[Client, Client]]:
    """A client of each tenant, at one kind of server and one home."""
    async with AsyncExitStack() as stack:
        alpha, beta = [await stack.enter_async_context(calling(made, server, who)) for who in (ALPHA, BETA)]
        yield alpha, beta


async def error_of(client: Client, tool: str, arguments: dict[str, Any], what: str) -> str:
    """The whole error with the id taken out of it; what is left must not tell a foreign one from none."""
    answer = await client.call_tool(tool, arguments)
    assert answer.is_error, (tool, arguments, answer.structured_content)
    said = json.dumps([answer.structured_content, [block.model_dump() for block in answer.content]])
    assert CANARY not in said
    return said.replace(what, "ID")


async def test_a_foreign_id_and_one_that_never_was_get_the_same_answer(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        async with both(made, "memory-snapshot") as (alpha, beta):
            given = (await beta.call_tool("memory_history", {})).structured_content
            (snapshot,) = {entry["id"] for entry in given["items"]}
            listed = (await beta.call_tool("memory_recall", {"query": "ferry", "limit": 1})).structured_content
            item = listed["items"][0]["id"]
            await beta.call_tool("memory_branch", {"name": "secret-plans"})
            for real, absent, tool, argument, more in (
                (snapshot, "f" * len(snapshot), "memory_restore", "at", {}),
                (snapshot, "f" * len(snapshot), "memory_diff", "source", {"target": "HEAD"}),
                (snapshot, "f" * len(snapshot), "memory_rollback", "to", {}),
                (item, "f" * len(item), "memory_history", "id", {}),
                ("secret-plans", "other-things", "memory_merge", "source", {}),
            ):
                foreign = await error_of(alpha, tool, {argument: real, **more}, real)
                assert foreign == await error_of(alpha, tool, {argument: absent, **more}, absent), tool
        async with both(made, "filesystem-retrieval") as (alpha, beta):
            assert not (await beta.call_tool("fs_read", {"path": "private/notes.md"})).is_error
            for real, absent, tool in (
                ("private/notes.md", "prevate/notes.md", "fs_read"),
                ("private/notes.md", "prevate/notes.md", "fs_history"),
                ("private/notes.md", "prevate/notes.md", "fs_outline"),
                ("private", "prevate", "fs_list"),
            ):
                foreign = await error_of(alpha, tool, {"path": real}, real)
                assert foreign == await error_of(alpha, tool, {"path": absent}, absent), tool
        async with both(made, "enterprise-connectors") as (alpha, beta):
            step = {"id": "a", "name": "shop_query", "arguments": {"sql": "SELECT 1"}}
            started = await beta.call_tool("sys_jobs", {"action": "start", "steps": [step]})
            job = started.structured_content["jobs"][0]["job"]
            for action in ("status", "cancel", "result"):
                foreign = await error_of(alpha, "sys_jobs", {"action": action, "job": job}, job)
                absent = "0" * len(job)
                assert foreign == await error_of(alpha, "sys_jobs", {"action": action, "job": absent}, absent)


async def test_answers_of_concurrent_calls_with_the_same_ids_go_to_who_asked(tmp_path: Path) -> None:
    """The program `tests/faults/tenants.py` does this with 500 calls of each tenant at once."""
    outcome = await concurrently(tmp_path, calls=60)

    assert outcome.crossed == [] and outcome.failed == []
    assert outcome.answered == 2 * 60


async def test_a_question_put_to_one_caller_is_answered_by_nobody_else(tmp_path: Path) -> None:
    """Its state travels through the client (2026-07-28), sealed for one caller and one call."""
    import httpx
    import toy

    from usrland.transport import application, bind

    signer = Signer.make("ES256")
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
    }
    with issuer() as made, bind("127.0.0.1", 0) as listener:
        made.keys = [signer.jwk()]
        settings = Settings(home=tmp_path, tables={"oauth": {"issuer": made.url}})
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        service = toy.service(settings)
        async with (
            application([service], settings, listener) as app,
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base) as http,
        ):

            async def call(who: str, tool: str, arguments: dict[str, Any], **reply: Any) -> dict[str, Any]:
                token = made.token(signer, f"{base}/mcp", sub=who, scope="toy:read toy:write")
                headers = {
                    "authorization": f"Bearer {token}",
                    "accept": "application/json, text/event-stream",
                    "mcp-protocol-version": "2026-07-28",
                    "mcp-method": "tools/call",
                    "mcp-name": tool,
                }
                params = {"name": tool, "arguments": arguments, "_meta": meta, **reply}
                body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
                return dict((await http.post("/mcp", headers=headers, json=body)).json())

            for name in ("a", "b"):
                await call("ann", "put", {"name": name, "text": "x"})
            asked = (await call("ann", "drop", {"name": "a"}))["result"]
            yes = {
                "requestState": asked["requestState"],
                "inputResponses": {"consent": {"action": "accept", "content": {"confirm": True}}},
            }
            before = service.state["toy"].notes()
            flipped = asked["requestState"][:-3] + ("AAA" if asked["requestState"][-3:] != "AAA" else "BBB")
            for who, arguments, reply in (
                ("mallory", {"name": "a"}, yes),
                ("ann", {"name": "b"}, yes),
                ("ann", {"name": "a"}, {**yes, "requestState": flipped}),
                ("ann", {"name": "a"}, {**yes, "requestState": ""}),
            ):
                answer = await call(who, "drop", arguments, **reply)
                refused = "error" in answer or answer["result"].get("isError")
                again = answer.get("result", {}).get("resultType") == "input_required"
                assert refused or again, (who, arguments)
                assert service.state["toy"].notes() == before
            assert "error" not in await call("ann", "drop", {"name": "a"}, **yes)
            assert set(before) - set(service.state["toy"].notes()) == {"a"}
            replayed = await call("ann", "drop", {"name": "a"}, **yes)
            assert "error" in replayed or replayed["result"]["isError"]


def test_ten_thousand_confirmations_and_call_ids_repeat_nothing_and_follow_no_order() -> None:
    from usrland.ledger import Binding, Ledger

    ledger = Ledger.open("sqlite://", chain="toy", key=b"k" * 32)
    binding = Binding(principal=ALPHA, operation="drop", arguments={"name": "a"})
    tokens = [ledger.confirmation(binding, now=1_000_000) for _ in range(10_000)]

    assert len(set(tokens)) == len(tokens)
    assert tokens != sorted(tokens) and tokens != sorted(tokens, reverse=True)
