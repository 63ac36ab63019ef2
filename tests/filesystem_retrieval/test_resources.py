"""Files as resources, prompts, completion and subscriptions, through a real client in both eras."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from mcp import Client, MCPError
from mcp.types import PromptReference, ResourceTemplateReference, ResourceUpdatedNotification

from filesystem_retrieval.resources import TEMPLATE
from filesystem_retrieval.server import service
from usrland import Principal
from usrland.host import Host, running
from usrland.settings import Settings

Connect = Callable[..., Any]
REFERENCE = ResourceTemplateReference(uri=TEMPLATE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "a b").mkdir(parents=True)
    (folder / "finance").mkdir()
    (folder / "a b" / "plän.md").write_text("# Plan\n\none\ntwo\nthree\n", encoding="utf-8")
    (folder / "apple.md").write_text("The walrus eats an apple.\n", encoding="utf-8")
    (folder / "finance" / "pay.md").write_text("QUETZAL walrus\n", encoding="utf-8")
    return folder


@asynccontextmanager
async def served(folder: Path, *labels: str, **table: Any) -> AsyncIterator[Host]:
    root = {"folder": str(folder), "labels": {"finance": ["/finance/"]}}
    tables = {"filesystem-retrieval": {"roots": {"docs": root}, "embedding": "none", **table}}
    settings = Settings(home=folder.parent / "home", tables=tables)
    scopes = frozenset({"fs:read", *(f"fs:label:{label}" for label in labels)})
    someone = Principal(subject="someone", scopes=scopes, source="test")
    async with running(service(settings), settings, principal=someone) as host:
        yield host


async def text_at(client: Any, uri: str) -> str:
    return str((await client.read_resource(uri)).contents[0].text)


async def test_a_file_is_read_at_its_address_and_a_folder_lists_addresses(folder: Path, connect: Connect) -> None:
    async with served(folder) as host, connect(host) as client:
        templates = [each.uri_template for each in (await client.list_resource_templates()).resource_templates]
        assert templates[0] == TEMPLATE
        assert await text_at(client, "usrfs://docs/apple.md") == "The walrus eats an apple."
        assert await text_at(client, "usrfs://docs/a%20b/pl%C3%A4n.md?lines=3-4") == "one\ntwo"
        listed = (await text_at(client, "usrfs://docs/")).split("\n")
        assert listed == ["usrfs://docs/a%20b/", "usrfs://docs/apple.md"]
        assert await text_at(client, "usrfs://docs/a%20b/") == "usrfs://docs/a%20b/pl%C3%A4n.md"
        for uri in (
            "usrfs://docs/finance/pay.md",
            "usrfs://docs/nothing/pay.md",
            "usrfs://docs/../home/usrland.toml",
            "usrfs://docs/%2e%2e/home/usrland.toml",
            "usrfs://docs//etc/passwd",
            "usrfs://other/apple.md",
            "usrfs://docs/apple.md?lines=x",
            "usrfs://docs/apple.md?version=x",
        ):
            with pytest.raises(MCPError) as error:
                await text_at(client, uri)
            assert "QUETZAL" not in str(error.value)


async def test_blanks_are_completed_with_what_the_caller_may_see(folder: Path, connect: Connect) -> None:
    async def completed(client: Any, name: str, value: str, **known: str) -> list[str]:
        answer = await client.complete(REFERENCE, {"name": name, "value": value}, context_arguments=known)
        return list(answer.completion.values)

    async with served(folder) as host, connect(host) as client:
        assert await completed(client, "root", "d") == ["docs"]
        assert await completed(client, "root", "x") == []
        assert await completed(client, "path", "a", root="docs") == ["a b/", "apple.md"]
        assert await completed(client, "path", "a b/", root="docs") == ["a b/plän.md"]
        assert await completed(client, "path", "f", root="docs") == []
        for root, path in (("docs", "finance/"), ("docs", "nothing/"), ("other", ""), ("docs", "../")):
            assert await completed(client, "path", path, root=root) == []
        await client.call_tool("fs_history", {"path": "apple.md"})
        versions = await completed(client, "version", "", root="docs", path="apple.md")
        assert await text_at(client, f"usrfs://docs/apple.md?version={versions[0]}") == "The walrus eats an apple."
        assert await completed(client, "version", "", root="docs", path="finance/pay.md") == []
        prompt = PromptReference(name="map_folder")
        assert (await client.complete(prompt, {"name": "root", "value": ""})).completion.values == ["docs"]
    async with served(folder, "finance") as host, connect(host) as client:
        assert await completed(client, "path", "f", root="docs") == ["finance/"]


async def test_prompts_bring_passages_to_cite_and_what_is_in_a_folder(folder: Path, connect: Connect) -> None:
    async with served(folder) as host, connect(host) as client:
        assert {each.name for each in (await client.list_prompts()).prompts} == {
            "answer_with_citations",
            "map_folder",
        }
        answer = await client.get_prompt("answer_with_citations", {"question": "What does the walrus eat?"})
        mapped = await client.get_prompt("map_folder", {})

    text = answer.messages[0].content.text
    assert "docs/apple.md lines 1-1 sha256 " in text and "> The walrus eats an apple." in text
    assert "fs_verify" in text and "QUETZAL" not in text
    assert (
        "docs/a b/plän.md" in mapped.messages[0].content.text and "pay.md" not in mapped.messages[0].content.text
    )


async def test_who_subscribed_hears_of_a_change_on_the_disk(folder: Path) -> None:
    async with served(folder) as host, Client(host.server) as client:
        await client.list_tools()
        uris = ["usrfs://docs/apple.md", "usrfs://docs/finance/pay.md"]
        async with client.listen(resource_subscriptions=uris) as stream:
            await _watched(host)
            scans = await _scans(host)
            (folder / "finance" / "pay.md").write_text("changed\n", encoding="utf-8")
            with anyio.fail_after(60):
                while await _scans(host) == scans:
                    await anyio.lowlevel.checkpoint()
            (folder / "apple.md").write_text("changed\n", encoding="utf-8")
            with anyio.fail_after(60):
                async for event in stream:
                    heard = event.uri
                    break
        assert heard == "usrfs://docs/apple.md"


@pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")
@pytest.mark.parametrize("watch", [True, False])
async def test_a_connection_of_the_older_eras_hears_of_it_with_and_without_a_watch(
    folder: Path, watch: bool
) -> None:
    told: list[str] = []
    enough = anyio.Event()

    async def hear(message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            told.append(str(message.params.uri))
            enough.set()

    async with (
        served(folder, "finance", watch=watch) as host,
        Client(host.server, mode="legacy", message_handler=hear) as client,
    ):
        await client.subscribe_resource("usrfs://docs/finance/pay.md")
        await client.call_tool("fs_status", {})
        if watch:
            await _watched(host)
        (folder / "finance" / "pay.md").write_text("changed\n", encoding="utf-8")
        os.utime(folder / "apple.md")
        with anyio.fail_after(60):
            await enough.wait()
    assert set(told) == {"usrfs://docs/finance/pay.md"}


async def _scans(host: Host) -> float:
    return float((await host.service.state["library"]()).indexer.scanned_from)


async def _watched(host: Host) -> None:
    library = await host.service.state["library"]()
    with anyio.fail_after(60):
        while True:
            if library.watch.is_live and library._is_current():
                return
            await anyio.sleep(0.02)


async def test_chatgpt_is_offered_the_two_tools_it_asks_for(folder: Path, connect: Connect) -> None:
    (folder / "long.md").write_text(
        "\n".join(f"line {number} otter" for number in range(20_000)), encoding="utf-8"
    )
    async with served(folder, chatgpt=True) as host, connect(host) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["search", "fetch"]
        await (await host.service.state["library"]()).index_once()
        found = (await client.call_tool("search", {"query": "walrus apple"})).structured_content
        first = found["results"][0]
        assert (first["id"], first["url"]) == ("docs/apple.md", "usrfs://docs/apple.md")
        document = (await client.call_tool("fetch", {"id": first["id"]})).structured_content
        assert document["text"] == "The walrus eats an apple." and document["title"] == "apple.md"
        assert document.keys() == {"id", "title", "text", "url", "metadata"}
        lines, part = 0, {"id": "docs/long.md"}
        while part:
            answer = (await client.call_tool("fetch", part)).structured_content
            lines += answer["text"].count("\n") + 1
            part = {"id": answer["metadata"]["next"]} if "next" in answer["metadata"] else {}
        assert lines == 20_000
        for path in ("docs/finance/pay.md", "docs/nothing/pay.md"):
            assert (await client.call_tool("fetch", {"id": path})).is_error
