"""What goes over the wire: the listing, the refusals, the answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import anyio
import pytest

from usrland import tokens
from usrland.connector import Operation
from usrland.schemas.wire import Answer
from usrland.settings import Settings
from usrland.testing.arguments import fitting, mistyped
from usrland.testing.client import CANARY, NOBODY, Connected, Json, Served, assert_clean, error_of, text_of
from usrland.testing.declared import problems_of_operations
from usrland.testing.listing import cost, problems_of_text, problems_of_tool

__all__ = ["CallContract"]

ERAS = ("auto", "legacy")

MAX_PAGES = 200
"""A sample should make an answer that is read to its end in fewer."""


@pytest.mark.anyio
class CallContract(Served):
    """Part of `ServerContract`."""

    max_tools: ClassVar[int] = 13
    max_listing_tokens: ClassVar[int] = 2_500

    # -- the listing

    def test_what_the_server_says_of_itself_can_be_read_alone(self, settings: Settings) -> None:
        service = type(self).service(settings)
        assert service.title and service.description and service.instructions.strip()
        assert not list(problems_of_text("instructions", service.instructions))

    def test_the_risk_of_each_operation_fits_what_it_says_of_itself(self, settings: Settings) -> None:
        problems = list(problems_of_operations(list(self.operations(settings).values())))
        assert not problems, "\n".join(problems)

    def test_the_samples_are_calls_of_this_server(self, settings: Settings) -> None:
        unknown = self.samples.keys() - self.operations(settings).keys()
        assert not unknown, f"no operation is named {', '.join(sorted(unknown))}"

    @pytest.mark.parametrize("mode", ERAS)
    async def test_every_tool_can_be_used_by_every_host(self, settings: Settings, mode: str) -> None:
        async with self.connected(settings, mode=mode) as server:
            problems = [problem for tool in await server.tools() for problem in problems_of_tool(tool)]
        assert not problems, "\n".join(problems)

    async def test_the_listing_fits_into_a_conversation(self, settings: Settings) -> None:
        async with self.connected(settings) as server:
            tools = await server.tools()
        assert 0 < len(tools) <= self.max_tools
        assert cost(tools) <= self.max_listing_tokens

    async def test_the_listing_is_the_same_each_time_and_in_both_eras(self, settings: Settings) -> None:
        listings = []
        for mode in ERAS:
            async with self.connected(settings, mode=mode) as server:
                listings += [await server.tools(), await server.tools()]
        assert all(listing == listings[0] for listing in listings)

    async def test_the_hints_say_what_the_effect_says(self, settings: Settings) -> None:
        effects = {name: each.effect for name, each in self.operations(settings).items()}
        async with self.connected(settings) as server:
            for tool in await server.tools():
                effect = effects[tool["name"]]
                assert tool["annotations"]["readOnlyHint"] == (effect == "read"), tool["name"]
                assert tool["annotations"]["destructiveHint"] == (effect == "destroy"), tool["name"]

    async def test_what_destroys_has_a_dry_run_and_asks_first(self, settings: Settings) -> None:
        destroying = {name for name, each in self.operations(settings).items() if each.effect == "destroy"}
        async with self.connected(settings) as server:
            for tool in await server.tools():
                if tool["name"] in destroying:
                    assert {"dry_run", "confirm_token"} <= tool["inputSchema"]["properties"].keys(), tool["name"]

    # -- refusals

    async def test_an_unknown_argument_is_refused_by_name(self, settings: Settings) -> None:
        async with self.connected(settings) as server:
            for tool in await server.tools():
                arguments = {**fitting(tool["inputSchema"]), "no_such_argument": CANARY}
                error = error_of(await server.call(tool["name"], arguments))
                assert error["code"] == "invalid_input", tool["name"]
                assert "no_such_argument" in error["message"], tool["name"]

    async def test_a_mistyped_argument_is_refused_by_name(self, settings: Settings) -> None:
        async with self.connected(settings) as server:
            for tool in await server.tools():
                for name, value in mistyped(tool["inputSchema"]):
                    arguments = {**fitting(tool["inputSchema"]), name: value}
                    error = error_of(await server.call(tool["name"], arguments))
                    assert error["code"] == "invalid_input", f"{tool['name']}({name}={value!r})"
                    assert name in error["message"], f"{tool['name']}({name}={value!r})"

    async def test_a_missing_argument_is_refused_by_name(self, settings: Settings) -> None:
        async with self.connected(settings) as server:
            for tool in await server.tools():
                for name in tool["inputSchema"]["required"]:
                    arguments = fitting(tool["inputSchema"])
                    del arguments[name]
                    error = error_of(await server.call(tool["name"], arguments))
                    assert error["code"] == "invalid_input" and name in error["message"], f"{tool['name']}({name})"

    async def test_an_unknown_operation_is_refused(self, settings: Settings) -> None:
        async with self.connected(settings) as server:
            assert error_of(await server.call("no_such_operation", {}))["code"] == "invalid_input"

    async def test_a_caller_without_scopes_sees_nothing_and_is_told_which_are_missing(
        self, settings: Settings
    ) -> None:
        async with self.connected(settings) as server:
            tools = await server.tools()
        scopes = {name: each.scopes for name, each in self.operations(settings).items()}
        async with self.connected(settings, principal=NOBODY) as server:
            assert await server.tools() == []
            for tool in tools:
                error = error_of(await server.call(tool["name"], fitting(tool["inputSchema"])))
                assert error["code"] == "denied", tool["name"]
                assert all(scope in error["message"] for scope in scopes[tool["name"]]), tool["name"]

    # -- around the author's code

    async def test_a_failure_inside_is_masked(self, settings: Settings) -> None:
        async def contract_breaks() -> Answer:
            """Fail in a way that nobody foresaw."""
            raise RuntimeError(f"password={CANARY}")

        async with self.connected(settings, extra=[_extra(contract_breaks)]) as server:
            result = await server.call("contract_breaks", {})
        assert result.is_error
        assert_clean(result)

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
        async with self.connected(settings, extra=[slow]) as server:
            assert error_of(await server.call("contract_sleeps", {}))["code"] == "timeout"
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

        async with self.connected(settings, extra=[_extra(contract_waits)]) as server:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.call, "contract_waits", {})
                await begun.wait()
                tasks.cancel_scope.cancel()
            await ended.wait()

    # -- the author's own answers

    @pytest.mark.parametrize("mode", ERAS)
    async def test_text_and_structure_of_an_answer_say_the_same(self, settings: Settings, mode: str) -> None:
        async with self.connected(settings, mode=mode) as server:
            for name, arguments in self.samples.items():
                result = await server.call(name, arguments)
                assert not result.is_error, f"{name}: {text_of(result)}"
                assert json.loads(text_of(result)) == result.structured_content, name

    async def test_an_answer_stays_within_its_budget(self, settings: Settings) -> None:
        operations = self.operations(settings)
        async with self.connected(settings) as server:
            for name, arguments in self.samples.items():
                text = text_of(await server.call(name, arguments))
                assert tokens.count(text) <= operations[name].max_tokens, name
                whole = json.loads(text)
                assert "partial" not in whole, f"{name}: too long to be shown whole; answer with a Page of items"

    async def test_a_long_answer_is_cut_to_its_budget_and_its_pages_join(self, settings: Settings) -> None:
        async with self.connected(settings) as server:
            await self.make(server, times=24)
            for tool in await server.tools():
                if tool["name"] in self.samples and "cursor" in tool["inputSchema"]["properties"]:
                    await _read_to_the_end(server, tool["name"], self.samples[tool["name"]])


def _extra(call: Callable[[], Any], timeout_seconds: float = 30.0) -> Operation:
    return Operation(
        call=call, effect="read", scopes=frozenset({"contract:read"}), timeout_seconds=timeout_seconds
    )


async def _read_to_the_end(server: Connected, name: str, arguments: Mapping[str, Any]) -> None:
    whole = (await server.call(name, {**arguments, "max_tokens": 25_000})).structured_content or {}
    pages: list[Json] = []
    cursor: Json = {}
    while not pages or cursor:
        assert len(pages) < MAX_PAGES, f"{name}: the cursor does not lead to an end"
        result = await server.call(name, {**arguments, **cursor, "max_tokens": 200})
        assert not result.is_error, f"{name}: {text_of(result)}"
        assert tokens.count(text_of(result)) <= 200, name
        page = result.structured_content or {}
        pages.append(page)
        cursor = {"cursor": page["cursor"]} if "cursor" in page else {}
    if "cursor" not in whole and all(isinstance(page.get("items"), list) for page in pages):
        items = [item for page in pages for item in page["items"]]
        assert items == whole["items"], name
        assert whole.get("total") in (None, len(items)), f"{name}: it says {whole['total']} and has {len(items)}"
