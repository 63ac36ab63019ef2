"""The toy server through a real client, in both eras of the protocol."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import toy
from mcp import Client, MCPError
from mcp.types import ElicitRequestParams, ElicitResult

from usrland import Operation, Principal, Service
from usrland.host import Host, running
from usrland.settings import Settings

Connect = Callable[..., Any]


async def call(client: Client, tool: str, /, **arguments: Any) -> tuple[bool, dict[str, Any], str]:
    """Is it an error, the structured content, the text."""
    result = await client.call_tool(tool, arguments)
    (content,) = result.content
    assert content.type == "text"
    return bool(result.is_error), result.structured_content, content.text


async def test_tools_carry_all_four_hints_and_the_portable_schema(host: Host, connect: Connect) -> None:
    async with connect(host) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}

    assert list(tools) == [
        "add", "lines", "put", "drop", "wait", "slow_put", "crash", "reject", "long", "flaky", "pass_on",
    ]  # fmt: skip
    for tool in tools.values():
        hints = tool.annotations
        assert hints is not None
        assert None not in (
            hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint,
        )  # fmt: skip
    assert tools["drop"].annotations.destructive_hint
    assert tools["add"].annotations.read_only_hint
    assert {"dry_run", "confirm_token", "idempotency_key"} <= tools["drop"].input_schema["properties"].keys()


async def test_text_and_structure_carry_the_same_facts(host: Host, connect: Connect) -> None:
    async with connect(host) as client:
        is_error, structured, text = await call(client, "add", left=1)

    assert not is_error
    assert json.loads(text) == structured == {"value": 3}


async def test_a_foreseen_failure_says_what_is_wrong_and_what_to_do(host: Host, connect: Connect) -> None:
    async with connect(host) as client:
        is_error, structured, text = await call(client, "add", lft=1)

    assert is_error
    assert text == "[invalid_input] unknown argument 'lft' for add. Did you mean 'left'?"
    assert structured["error"] == {
        "code": "invalid_input",
        "message": "unknown argument 'lft' for add.",
        "fix": "Did you mean 'left'?",
    }


async def test_an_unforeseen_failure_is_masked(
    host: Host, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(host) as client:
        is_error, structured, text = await call(client, "crash")

    assert is_error
    assert toy.CANARY not in text + json.dumps(structured)
    assert "crash failed inside" in text
    assert "RuntimeError" in caplog.text


async def test_the_list_shows_only_what_the_caller_may_use(
    settings: Settings, connect: Connect, someone: Callable[..., Principal]
) -> None:
    reader = someone("toy:read")
    async with running(toy.service(settings), settings, principal=reader) as host, connect(host) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        is_error, structured, _ = await call(client, "put", name="a", text="b")

    assert "put" not in names
    assert is_error
    assert structured["error"]["missing_scopes"] == ["toy:write"]


@asynccontextmanager
async def person(
    connect: Connect, host: Host, action: str, confirm: bool
) -> AsyncIterator[tuple[Client, list[str]]]:
    asked: list[str] = []

    async def answer(context: Any, params: ElicitRequestParams) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action=action, content={"confirm": confirm} if action == "accept" else None)  # type: ignore[arg-type]  # the parameter lists the three

    async with connect(host, elicitation_callback=answer) as client:
        yield client, asked


@pytest.mark.parametrize(
    ("action", "confirm", "done"), [("accept", True, True), ("accept", False, False), ("decline", False, False)]
)
async def test_what_destroys_asks_the_person_in_both_eras(
    host: Host, connect: Connect, action: str, confirm: bool, done: bool
) -> None:
    async with person(connect, host, action, confirm) as (client, asked):
        await call(client, "put", name="a", text="b")
        is_error, _, text = await call(client, "drop", name="a")

    assert asked == ["drop: forget 'a'"]
    assert is_error is not done
    assert ("a" in host.service.state["toy"].notes()) is not done
    assert done or "the user declined" in text


async def test_a_host_that_cannot_ask_gets_the_two_step_token(host: Host, connect: Connect) -> None:
    async with connect(host) as client:
        await call(client, "put", name="a", text="b")
        is_error, _, text = await call(client, "drop", name="a")
        assert is_error
        token = text.rsplit("confirm_token='", 1)[1].split("'")[0]
        is_error, structured, _ = await call(client, "drop", name="a", confirm_token=token)

    assert (is_error, structured) == (False, {"value": 1})


async def test_resources_are_calls_and_are_gated_like_them(
    settings: Settings, connect: Connect, someone: Callable[..., Principal]
) -> None:
    async with running(toy.service(settings), settings) as host, connect(host) as client:
        listed = [str(resource.uri) for resource in (await client.list_resources()).resources]
        (sum_,) = (await client.read_resource("toy://sum")).contents
        (long,) = (await client.read_resource("toy://long")).contents
        with pytest.raises(MCPError, match="there is no resource 'toy://other'"):
            await client.read_resource("toy://other")
        await host.path.ledger.flush()
        recorded = [entry["operation"] for entry in await host.path.ledger.audit.last(5)]
    stranger = someone("none:read")
    async with running(toy.service(settings), settings, principal=stranger) as host, connect(host) as client:
        hidden = (await client.list_resources()).resources
        with pytest.raises(MCPError, match="there is no resource 'toy://sum'"):
            await client.read_resource("toy://sum")

    assert listed == ["toy://sum", "toy://long"]
    assert sum_.text == '{"value":3}'
    assert hidden == []
    assert recorded == ["add", "long"]
    assert len(long.text) < 60_000  # cut to the operation's budget like the call


async def test_progress_reaches_the_host(host: Host, connect: Connect) -> None:
    heard: list[str | None] = []

    async def listen(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message)

    async with connect(host) as client:
        await client.call_tool("wait", {"seconds": 0.0}, progress_callback=listen)

    assert heard == ["waiting"]


async def test_the_background_of_a_service_begins_after_the_first_listing_and_ends(
    settings: Settings, connect: Connect
) -> None:
    happened: list[str] = []
    begun = anyio.Event()

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        happened.append("begun")
        begun.set()
        yield
        happened.append("ended")

    made = toy.service(settings)
    service = Service(
        name=made.name, title="t", description="d", instructions="i", operations=made.operations, lifespan=lifespan
    )
    async with running(service, settings) as host:
        await anyio.wait_all_tasks_blocked()
        assert happened == []
        async with connect(host) as client:
            await client.list_tools()
        with anyio.fail_after(60):
            await begun.wait()
    assert happened == ["begun", "ended"]


async def test_a_background_that_fails_does_not_take_the_calls_with_it(
    settings: Settings, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        raise RuntimeError("no index today")
        yield

    made = toy.service(settings)
    service = Service(
        name=made.name, title="t", description="d", instructions="i", operations=made.operations, lifespan=lifespan
    )
    async with running(service, settings) as host, connect(host) as client:
        await client.list_tools()
        await anyio.wait_all_tasks_blocked()
        assert (await call(client, "add", left=1))[1] == {"value": 3}
    assert "the background work of toy stopped" in caplog.text


async def test_a_server_that_is_leaving_takes_no_more_calls(host: Host, connect: Connect) -> None:
    host.draining = True
    async with connect(host) as client:
        _, structured, _ = await call(client, "add", left=1)

    assert structured["error"]["code"] == "unavailable"


async def test_two_operations_of_one_name_are_refused(settings: Settings) -> None:
    made = toy.service(settings)
    twice: list[Operation] = [made.operations[0], made.operations[0]]
    service = Service(name="twice", title="t", description="d", instructions="i", operations=twice)

    with pytest.raises(ValueError, match="two operations are named 'add'"):
        async with running(service, settings):
            pass


async def test_empty_lists_and_unknown_prompts_are_answered(host: Host, connect: Connect) -> None:
    async with connect(host) as client:
        assert (await client.list_prompts()).prompts == []
        (manual,) = (await client.list_resource_templates()).resource_templates
        assert manual.uri_template == "usrland://man/{name}"
        with pytest.raises(MCPError, match="there is no prompt 'x'"):
            await client.get_prompt("x")
