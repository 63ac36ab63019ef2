"""The tests that every server and connector inherits. They speak to the real host through a real client.

What is checked of a call, is checked on the wire: in the listing, in the answer, in the error. The author's
operations are only called for their effect where `samples` says which calls may be made.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest
from mcp import Client
from mcp.types import CallToolResult

from usrland import tokens
from usrland.connector import Operation, Service
from usrland.host import running
from usrland.schemas.principal import Principal
from usrland.schemas.wire import Answer
from usrland.settings import FILE_NAME, Settings
from usrland.testing.arguments import fitting, mistyped
from usrland.testing.listing import cost, problems_of_text, problems_of_tool
from usrland.testing.start import StartContract

__all__ = ["ServerContract"]

EVERYBODY = Principal(subject="contract", scopes=frozenset({"*"}), source="test")
NOBODY = Principal(subject="stranger", scopes=frozenset({"nothing:at-all"}), source="test")
ERAS = ("auto", "legacy")
CANARY = "canary-7f3b9c1e5d"
"""Passed where it does not belong: it must not come back."""

MAX_PAGES = 200
"""A sample should make an answer that is read to its end in fewer."""

Json = dict[str, Any]


@pytest.mark.anyio
class ServerContract(StartContract):
    """Inherit and set `service`. Everything else has a default."""

    service: Callable[[Settings], Service]
    """The function that the entry point names, as `staticmethod(service)`."""
    usrland_toml: ClassVar[str] = ""
    """The settings file, where the server needs it to say something."""
    samples: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Calls that may really be made, in this order: an operation's name and its arguments."""

    max_tools: ClassVar[int] = 13
    max_listing_tokens: ClassVar[int] = 2_500

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        """A home of its own for each test, and an empty environment."""
        home = tmp_path / "home"
        home.mkdir(mode=0o700)
        if self.usrland_toml:
            (home / FILE_NAME).write_text(self.usrland_toml, encoding="utf-8")
        return Settings.load(home, environment={})

    @asynccontextmanager
    async def connected(
        self,
        settings: Settings,
        *,
        principal: Principal = EVERYBODY,
        mode: Any = "auto",
        extra: Sequence[Operation] = (),
    ) -> AsyncIterator[Client]:
        """A client of the real host, in memory. `extra` operations are served beside the author's."""
        service = type(self).service(settings)
        service = replace(service, operations=[*service.operations, *extra])
        failure: Exception | None = None
        with anyio.fail_after(30):
            async with (
                running(service, settings, principal=principal) as host,
                Client(host.server, mode=mode) as client,
            ):
                try:
                    yield client
                except Exception as error:  # raised below: here a task group would wrap it, and hide the assertion
                    failure = error
        if failure is not None:
            raise failure

    # -- the listing

    def test_what_the_server_says_of_itself_can_be_read_alone(self, settings: Settings) -> None:
        service = type(self).service(settings)
        assert service.title and service.description and service.instructions.strip()
        assert not list(problems_of_text("instructions", service.instructions))

    @pytest.mark.parametrize("mode", ERAS)
    async def test_every_tool_can_be_used_by_every_host(self, settings: Settings, mode: str) -> None:
        async with self.connected(settings, mode=mode) as client:
            problems = [problem for tool in await _tools(client) for problem in problems_of_tool(tool)]
        assert not problems, "\n".join(problems)

    async def test_the_listing_fits_into_a_conversation(self, settings: Settings) -> None:
        async with self.connected(settings) as client:
            tools = await _tools(client)
        assert 0 < len(tools) <= self.max_tools
        assert cost(tools) <= self.max_listing_tokens

    async def test_the_listing_is_the_same_each_time_and_in_both_eras(self, settings: Settings) -> None:
        listings = []
        for mode in ERAS:
            async with self.connected(settings, mode=mode) as client:
                listings += [await _tools(client), await _tools(client)]
        assert all(listing == listings[0] for listing in listings)

    async def test_the_hints_say_what_the_effect_says(self, settings: Settings) -> None:
        effects = {each.name: each.effect for each in type(self).service(settings).operations}
        async with self.connected(settings) as client:
            for tool in await _tools(client):
                effect = effects[tool["name"]]
                assert tool["annotations"]["readOnlyHint"] == (effect == "read"), tool["name"]
                assert tool["annotations"]["destructiveHint"] == (effect == "destroy"), tool["name"]

    async def test_what_destroys_has_a_dry_run_and_asks_first(self, settings: Settings) -> None:
        destroying = {each.name for each in type(self).service(settings).operations if each.effect == "destroy"}
        async with self.connected(settings) as client:
            for tool in await _tools(client):
                if tool["name"] in destroying:
                    assert {"dry_run", "confirm_token"} <= tool["inputSchema"]["properties"].keys(), tool["name"]

    # -- refusals

    async def test_an_unknown_argument_is_refused_by_name(self, settings: Settings) -> None:
        async with self.connected(settings) as client:
            for tool in await _tools(client):
                arguments = {**fitting(tool["inputSchema"]), "no_such_argument": CANARY}
                error = _error(await client.call_tool(tool["name"], arguments))
                assert error["code"] == "invalid_input", tool["name"]
                assert "no_such_argument" in error["message"], tool["name"]

    async def test_a_mistyped_argument_is_refused_by_name(self, settings: Settings) -> None:
        async with self.connected(settings) as client:
            for tool in await _tools(client):
                for name, value in mistyped(tool["inputSchema"]):
                    arguments = {**fitting(tool["inputSchema"]), name: value}
                    error = _error(await client.call_tool(tool["name"], arguments))
                    assert error["code"] == "invalid_input", f"{tool['name']}({name}={value!r})"
                    assert name in error["message"], f"{tool['name']}({name}={value!r})"

    async def test_a_missing_argument_is_refused_by_name(self, settings: Settings) -> None:
        async with self.connected(settings) as client:
            for tool in await _tools(client):
                for name in tool["inputSchema"]["required"]:
                    arguments = fitting(tool["inputSchema"])
                    del arguments[name]
                    error = _error(await client.call_tool(tool["name"], arguments))
                    assert error["code"] == "invalid_input" and name in error["message"], f"{tool['name']}({name})"

    async def test_an_unknown_operation_is_refused(self, settings: Settings) -> None:
        async with self.connected(settings) as client:
            assert _error(await client.call_tool("no_such_operation", {}))["code"] == "invalid_input"

    async def test_a_caller_without_scopes_sees_nothing_and_is_told_which_are_missing(
        self, settings: Settings
    ) -> None:
        async with self.connected(settings) as client:
            tools = await _tools(client)
        scopes = {each.name: each.scopes for each in type(self).service(settings).operations}
        async with self.connected(settings, principal=NOBODY) as client:
            assert await _tools(client) == []
            for tool in tools:
                error = _error(await client.call_tool(tool["name"], fitting(tool["inputSchema"])))
                assert error["code"] == "denied", tool["name"]
                assert all(scope in error["message"] for scope in scopes[tool["name"]]), tool["name"]

    # -- around the author's code

    async def test_a_failure_inside_is_masked(self, settings: Settings) -> None:
        async def contract_breaks() -> Answer:
            """Fail in a way that nobody foresaw."""
            raise RuntimeError(f"password={CANARY}")

        async with self.connected(settings, extra=[_extra(contract_breaks)]) as client:
            result = await client.call_tool("contract_breaks", {})
        assert result.is_error
        _assert_clean(result)

    async def test_the_deadline_ends_the_work(self, settings: Settings) -> None:
        ended = anyio.Event()

        async def contract_sleeps() -> Answer:
            """Never answer."""
            try:
                await anyio.sleep_forever()
            finally:
                ended.set()
            raise AssertionError("unreachable")

        slow = _extra(contract_sleeps, timeout_seconds=0.05)
        async with self.connected(settings, extra=[slow]) as client:
            assert _error(await client.call_tool("contract_sleeps", {}))["code"] == "timeout"
        assert ended.is_set()

    async def test_a_caller_that_goes_away_ends_the_work(self, settings: Settings) -> None:
        begun, ended = anyio.Event(), anyio.Event()

        async def contract_waits() -> Answer:
            """Never answer."""
            begun.set()
            try:
                await anyio.sleep_forever()
            finally:
                ended.set()
            raise AssertionError("unreachable")

        async with self.connected(settings, extra=[_extra(contract_waits)]) as client:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.call_tool, "contract_waits", {})
                await begun.wait()
                tasks.cancel_scope.cancel()
            await ended.wait()

    # -- the author's own calls

    @pytest.mark.parametrize("mode", ERAS)
    async def test_text_and_structure_of_an_answer_say_the_same(self, settings: Settings, mode: str) -> None:
        async with self.connected(settings, mode=mode) as client:
            for name, arguments in self.samples.items():
                result = await client.call_tool(name, dict(arguments))
                assert not result.is_error, f"{name}: {_text(result)}"
                assert json.loads(_text(result)) == result.structured_content, name

    async def test_a_long_answer_is_cut_to_its_budget_and_its_pages_join(self, settings: Settings) -> None:
        async with self.connected(settings) as client:
            for name, arguments in self.samples.items():
                await client.call_tool(name, dict(arguments))
            for tool in await _tools(client):
                if tool["name"] in self.samples and "cursor" in tool["inputSchema"]["properties"]:
                    await _read_to_the_end(client, tool["name"], self.samples[tool["name"]])

    async def test_a_repeated_key_has_one_effect(self, settings: Settings) -> None:
        async with self.connected(settings) as client:
            for tool in await _tools(client):
                if tool["name"] not in self.samples or "idempotency_key" not in tool["inputSchema"]["properties"]:
                    continue
                arguments = {**self.samples[tool["name"]], "idempotency_key": "contract-1"}
                first = await client.call_tool(tool["name"], arguments)
                again = await client.call_tool(tool["name"], arguments)
                assert _text(first) == _text(again), tool["name"]


def _extra(call: Callable[[], Any], timeout_seconds: float = 30.0) -> Operation:
    return Operation(
        call=call, effect="read", scopes=frozenset({"contract:read"}), timeout_seconds=timeout_seconds
    )


async def _tools(client: Client) -> list[Json]:
    listing = await client.list_tools()
    return [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listing.tools]


def _text(result: CallToolResult) -> str:
    return "".join(getattr(block, "text", "") for block in result.content)


def _error(result: CallToolResult) -> Json:
    """The error of a refused call, which must be one: code, fact and way out, and nothing that is not theirs."""
    assert result.is_error, _text(result)
    _assert_clean(result)
    error: Json = (result.structured_content or {})["error"]
    assert error["code"] and error["message"] and error.get("fix"), error
    assert error["code"] in _text(result) and error["message"] in _text(result)
    return error


def _assert_clean(result: CallToolResult) -> None:
    said = result.model_dump_json()
    for leak in ("Traceback", 'File \\"', CANARY):
        assert leak not in said, said


async def _read_to_the_end(client: Client, name: str, arguments: Mapping[str, Any]) -> None:
    whole = (await client.call_tool(name, {**arguments, "max_tokens": 25_000})).structured_content or {}
    pages: list[Json] = []
    cursor: Json = {}
    while not pages or cursor:
        assert len(pages) < MAX_PAGES, f"{name}: the cursor does not lead to an end"
        result = await client.call_tool(name, {**arguments, **cursor, "max_tokens": 200})
        assert not result.is_error, f"{name}: {_text(result)}"
        assert tokens.count(_text(result)) <= 200, name
        page = result.structured_content or {}
        pages.append(page)
        cursor = {"cursor": page["cursor"]} if "cursor" in page else {}
    if "cursor" not in whole and all(isinstance(page.get("items"), list) for page in pages):
        assert [item for page in pages for item in page["items"]] == whole["items"], name
