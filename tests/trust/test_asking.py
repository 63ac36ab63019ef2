"""Consent is good for one call of one caller; an operator may have more asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import toy
from mcp import Client
from mcp.types import ElicitResult

from usrland import Operation, Principal
from usrland.call import CallPath
from usrland.errors import ConsentNeeded, Denied
from usrland.host import Host, running
from usrland.settings import Settings

OWNER = Principal(subject="owner", scopes=frozenset({"*"}))


def settings_with(settings: Settings, **consent: bool) -> Settings:
    return Settings(home=settings.home, tables={"consent": consent})


@asynccontextmanager
async def served(settings: Settings, **quotes: str) -> AsyncIterator[Host]:
    """The toy, where answers of these operations quote what others wrote."""
    service = toy.service(settings)
    operations: list[Operation] = [
        replace(each, quotes=quotes.get(each.name, each.quotes)) for each in service.operations
    ]
    async with running(replace(service, operations=operations), settings, principal=OWNER) as host:
        yield host


# -- what a confirmation is bound to


async def _token(path: CallPath, who: Principal, arguments: Mapping[str, Any], name: str = "drop") -> str:
    with pytest.raises(ConsentNeeded) as asked:
        await path.run(name, arguments, principal=who)
    return asked.value.token


CALL = {"name": "a"}


@pytest.mark.parametrize(
    ("who", "name", "arguments"),
    [
        (replace(OWNER, subject="eve"), "drop", CALL),
        (replace(OWNER, tenant="globex"), "drop", CALL),
        (replace(OWNER, namespace="other"), "drop", CALL),
        (OWNER, "drop", {"name": "b"}),
        (OWNER, "pass_on", {"name": "drop", "arguments": {"name": "b"}}),
        (OWNER, "put", {"name": "a", "text": "x"}),
    ],
    ids=["subject", "tenant", "namespace", "argument", "delegate", "operation"],
)
async def test_a_confirmation_of_one_call_confirms_no_other(
    settings: Settings, who: Principal, name: str, arguments: dict[str, Any]
) -> None:
    async with served(settings_with(settings, writes=True)) as host:
        path, notes = host.path, host.service.state["toy"]
        for note in ("a", "b"):
            given = {"name": note, "text": "kept"}
            token = await _token(path, OWNER, given, "put")
            await path.run("put", {**given, "confirm_token": token}, principal=OWNER)
        before = notes.notes()
        token = await _token(path, OWNER, CALL)

        with pytest.raises(Denied, match="not valid for this call"):
            await path.run(name, {**arguments, "confirm_token": token}, principal=who)
        for broken in (token[:-2], token[:-1] + ("A" if token[-1] != "A" else "B"), "", "x" * 60, token * 2):
            with pytest.raises(Denied, match="not valid for this call"):
                await path.run("drop", {**CALL, "confirm_token": broken}, principal=OWNER)
        assert notes.notes() == before

        await path.run("drop", {**CALL, "confirm_token": token}, principal=OWNER)  # unspent until now
        assert set(before) - set(notes.notes()) == {"a"}
        with pytest.raises(Denied, match="not valid for this call"):
            await path.run("drop", {**CALL, "confirm_token": token}, principal=OWNER)


async def test_a_confirmation_that_a_delegate_got_is_for_the_operation_meant(settings: Settings) -> None:
    """The same call by either door: it is the operation and its arguments that a person agreed to."""
    async with served(settings) as host:
        await host.path.run("put", {"name": "a", "text": "x"}, principal=OWNER)
        token = await _token(host.path, OWNER, {"name": "drop", "arguments": CALL}, "pass_on")

        await host.path.run("drop", {**CALL, "confirm_token": token}, principal=OWNER)

        assert "a" not in host.service.state["toy"].notes()


async def test_an_answer_of_the_new_era_cannot_be_replayed_or_moved(settings: Settings) -> None:
    """The question travels in the answer and back: neither another caller nor another call can use it."""
    seen: list[Any] = []

    async def agree(*asked: Any) -> ElicitResult:
        seen.append(asked)
        return ElicitResult(action="accept", content={"confirm": True})

    async with (
        served(settings) as host,
        Client(host.server, mode="auto", elicitation_callback=agree) as client,
    ):
        for name in ("a", "b"):
            await client.call_tool("put", {"name": name, "text": "x"})
        assert not (await client.call_tool("drop", {"name": "a"})).is_error
        assert len(seen) == 1
        assert set(host.service.state["toy"].notes()) == {"b", "writes"}


# -- asking for more


async def test_an_operator_may_have_every_write_asked_for(settings: Settings) -> None:
    async with served(settings_with(settings, writes=True)) as host:
        arguments = {"name": "a", "text": "x"}
        with pytest.raises(
            ConsentNeeded, match=r'Allow put with {"name":"a","text":"x"}\? .*it changes something'
        ):
            await host.path.run("put", arguments, principal=OWNER)
        assert (await host.path.run("add", {"left": 1}, principal=OWNER)).structured == {"value": 3}
        assert host.service.state["toy"].notes() == {}


async def test_after_foreign_text_what_changes_or_reaches_out_is_asked_for(settings: Settings) -> None:
    other = replace(OWNER, subject="other")
    async with served(settings_with(settings, after_content=True), long="files") as host:
        path = host.path
        await path.run("put", {"name": "a", "text": "x"}, principal=OWNER)
        await path.run("add", {"left": 1}, principal=OWNER)
        await path.run("put", {"name": "b", "text": "x"}, principal=OWNER)
        await path.run("long", {}, principal=OWNER)

        for name, arguments in (
            ("put", {"name": "c", "text": "x"}),
            ("flaky", {}),
            ("pass_on", {"name": "hidden.put", "arguments": {"name": "c", "text": "x"}}),
        ):
            with pytest.raises(ConsentNeeded, match="text that others wrote"):
                await path.run(name, arguments, principal=OWNER)
        assert "c" not in host.service.state["toy"].notes()
        assert (await path.run("add", {"left": 1}, principal=OWNER)).structured == {"value": 3}
        await path.run("put", {"name": "c", "text": "x"}, principal=other)  # who was not given it

        token = await _token(path, OWNER, {}, "flaky")
        assert (await path.run("flaky", {"confirm_token": token}, principal=OWNER)).structured["value"] == 3
    async with served(settings_with(settings, after_content=True)) as again:  # another process, or a replica
        with pytest.raises(ConsentNeeded, match="text that others wrote"):
            await again.path.run("put", {"name": "d", "text": "x"}, principal=OWNER)


async def test_taint_is_forgotten_after_an_hour(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(settings_with(settings, after_content=True), long="files") as host:
        monkeypatch.setattr("usrland.asking.TAINTED_SECONDS", -1)
        await host.path.run("long", {}, principal=OWNER)

        await host.path.run("put", {"name": "a", "text": "x"}, principal=OWNER)

        assert "a" in host.service.state["toy"].notes()


async def test_without_the_setting_nothing_more_is_asked_and_no_schema_changes(settings: Settings) -> None:
    async with served(settings, long="files") as host, Client(host.server) as client:
        await client.call_tool("long", {})
        assert not (await client.call_tool("put", {"name": "a", "text": "x"})).is_error
        tools = {tool.name: tool.input_schema["properties"] for tool in (await client.list_tools()).tools}
        assert "confirm_token" not in tools["put"] and "confirm_token" in tools["drop"]


async def test_beside_the_answer_stands_whose_words_it_carries(settings: Settings) -> None:
    async with served(settings, long="files") as host, Client(host.server) as client:
        assert (await client.call_tool("long", {})).meta["usrland/quotes"] == "files"
        assert "usrland/quotes" not in ((await client.call_tool("add", {"left": 1})).meta or {})
