"""Resources, completion, subscriptions and prompts of a memory, through a real client."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.types import ElicitRequestParams, ElicitResult, PromptReference, ResourceTemplateReference

from memory_snapshot import calibration
from memory_snapshot.resources import LOG, WORKING_SET, working_set
from memory_snapshot.server import service
from usrland.host import Host, running
from usrland.settings import Settings

SETTINGS = {"memory-snapshot": {"embedding": "none"}}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", tables=SETTINGS)


@pytest.fixture
async def host(settings: Settings) -> AsyncIterator[Host]:
    async with running(service(settings), settings) as host:
        yield host


async def call(client: Client, tool: str, /, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content or {}


async def remember(client: Client, *texts: str, **more: Any) -> list[str]:
    done = await call(client, "memory_remember", items=[{"text": text, **more} for text in texts])
    return [item["item_id"] for item in done["items"]]


async def read(client: Client, uri: str) -> str:
    return str((await client.read_resource(uri)).contents[0].text)  # type: ignore[union-attr]


async def prompt(client: Client, name: str, **blanks: str) -> str:
    got = await client.get_prompt(name, blanks)
    return str(got.messages[0].content.text)  # type: ignore[union-attr]


async def test_every_part_of_a_memory_has_an_address(host: Host) -> None:
    async with Client(host.server) as client:
        (item_id,) = await remember(client, "The release is on Friday", key="release")
        first = (await call(client, "memory_snapshot", message="planned"))["id"]
        await call(client, "memory_branch", action="create", name="idea/one")
        await remember(client, "The release is on Monday", key="release")
        second = (await call(client, "memory_snapshot", message="moved"))["id"]

        assert "Monday" in await read(client, WORKING_SET)
        assert "Friday" in await read(client, "memory://branches/idea%2Fone/working-set")
        assert "Friday" in await read(client, f"memory://snapshots/{first[:8]}")
        changed = await read(client, f"memory://diff/{first[:8]}/{second[:8]}")
        assert "Friday" in changed and "Monday" in changed
        versions = await read(client, f"memory://items/{item_id}")
        assert "Friday" in versions and "Monday" in versions
        assert "moved" in await read(client, LOG)
        assert "moved" not in await read(client, f"memory://log/{first[:8]}")
        with pytest.raises(MCPError, match="there is no snapshot"):
            await read(client, "memory://snapshots/deadbeef")


async def test_blanks_are_completed_with_what_there_is(host: Host) -> None:
    async def values(client: Client, uri: str, name: str, value: str) -> list[str]:
        reference = ResourceTemplateReference(uri=uri)
        return list((await client.complete(reference, {"name": name, "value": value})).completion.values)

    async with Client(host.server) as client:
        first, second = await remember(client, "tea", "coffee")
        keyed = (await remember(client, "Friday", key="release"))[0]
        taken = (await call(client, "memory_snapshot", message="x", pin=True))["id"][:8]
        await call(client, "memory_branch", action="create", name="idea")

        refs = await values(client, "memory://snapshots/{ref}", "ref", "")
        assert refs == ["HEAD", "main", "idea", f"pin/{taken}", taken]
        assert await values(client, "memory://diff/{a}/{b}", "b", taken[:3]) == [taken]
        assert await values(client, "memory://branches/{ref}/working-set", "ref", "i") == ["idea"]
        items = await values(client, "memory://items/{item_id}", "item_id", "")
        assert items[0] == keyed and sorted(items[1:]) == sorted([first, second])
        assert await values(client, "memory://items/{item_id}", "item_id", "rel") == [keyed]
        kernels = PromptReference(name="handoff")
        found = await client.complete(kernels, {"name": "kernel", "value": "qwen"})
        assert "qwen3-14b" in found.completion.values
        assert all(name.startswith("qwen") for name in found.completion.values)


async def test_who_subscribed_hears_of_a_change_whichever_process_made_it(host: Host, settings: Settings) -> None:
    async with Client(host.server) as client, running(service(settings), settings) as other:
        await remember(client, "tea")
        await call(client, "memory_branch", action="create", name="idea")
        idea, strange = working_set("idea"), working_set("strange")
        async with client.listen(resource_subscriptions=[WORKING_SET, LOG, idea, strange]) as stream:
            heard: list[str] = []

            async def until(uri: str) -> None:
                with anyio.fail_after(60):
                    async for event in stream:
                        heard.append(event.uri)
                        if event.uri == uri:
                            return

            await remember(client, "coffee")
            await until(WORKING_SET)
            async with Client(other.server) as elsewhere:
                result = await elsewhere.call_tool("memory_remember", {"items": [{"text": "x"}], "branch": "idea"})
                assert not result.is_error
                await until(idea)
                heard.clear()
                other_space = Settings(
                    home=settings.home, tables={**SETTINGS, "identity": {"namespace": "somewhere else"}}
                )
                async with running(service(other_space), other_space) as third, Client(third.server) as stranger:
                    await remember(stranger, "not yours")
                    await call(stranger, "memory_branch", action="create", name="strange")
                for text in ("milk", "cream"):  # both looks see what the stranger did, if it is to be seen
                    await remember(client, text)
                    await until(WORKING_SET)
    assert set(heard) <= {WORKING_SET, LOG, idea}  # of a change one may be told twice


async def test_prompts_bring_what_they_speak_of(host: Host) -> None:
    async with Client(host.server) as client:
        await remember(client, "The pump is a Grundfos", "Use SI units")
        taken = await call(client, "memory_snapshot", message="chose the pump")
        await remember(client, "The valve is open")
        named = [each.name for each in (await client.list_prompts()).prompts]
        resume = await prompt(client, "resume")
        checkpoint = await prompt(client, "checkpoint")
        handoff = await prompt(client, "handoff", kernel="qwen3-14b")

    assert named == ["resume", "checkpoint", "handoff", "reconcile", "calibrate"]
    assert "chose the pump" in resume and "Grundfos" in resume
    assert "1 changes since" in checkpoint and taken["id"] in checkpoint
    assert "qwen3-14b" in handoff and "The valve is open" in handoff


async def test_two_branches_are_reconciled_by_the_prompt_or_by_a_form(host: Host) -> None:
    asked: list[ElicitRequestParams] = []

    async def answer(context: Any, params: ElicitRequestParams) -> ElicitResult:
        asked.append(params)
        return ElicitResult(action="accept", content={"c1": "theirs"})

    async with Client(host.server) as client:
        await remember(client, "The release is on Friday", key="release")
        await call(client, "memory_branch", action="create", name="idea")
        await remember(client, "The release is on Monday", key="release")
        items = [{"text": "The release is on Sunday", "key": "release"}]
        await call(client, "memory_remember", items=items, branch="idea")
        told = await prompt(client, "reconcile", source="idea")
        refused = await client.call_tool("memory_merge", {"source": "idea"})
        with pytest.raises(MCPError, match="no branch"):
            await prompt(client, "reconcile", source="nowhere")
    async with Client(host.server, elicitation_callback=answer) as client:
        merged = await call(client, "memory_merge", source="idea")
        standing = await read(client, WORKING_SET)
        again = await prompt(client, "reconcile", source="idea")

    assert "theirs: The release is on Sunday" in told and "ours: The release is on Monday" in told
    assert refused.is_error and "changed on both sides" in str(refused.content)
    assert len(asked) == 1 and "Sunday" in str(asked[0].requested_schema)
    assert merged["snapshot"] and "Sunday" in standing and "Monday" not in standing
    assert "without a conflict" in again


async def test_who_declines_gets_the_conflicts_as_data(host: Host) -> None:
    async def decline(context: Any, params: ElicitRequestParams) -> ElicitResult:
        return ElicitResult(action="decline")

    async with Client(host.server, elicitation_callback=decline) as client:
        await remember(client, "Friday", key="release")
        await call(client, "memory_branch", action="create", name="idea")
        await remember(client, "Monday", key="release")
        await call(client, "memory_remember", items=[{"text": "Sunday", "key": "release"}], branch="idea")
        refused = await client.call_tool("memory_merge", {"source": "idea"})

    assert refused.is_error
    assert refused.structured_content["error"]["details"]["conflicts"][0]["theirs"] == "Sunday"  # type: ignore[index]


def answers(text: str) -> tuple[str, list[str]]:
    """What somebody who reads the text perfectly would send."""
    name = re.search(r'calibration="([^:]+): ANSWERS"', text)
    lines = re.findall(r"^\[([0-9a-f]{8})\] (.*)$", text, re.MULTILINE)
    ids = [item_id for item_id, _ in lines]
    found = []
    for fragment, before in re.findall(r'^\d+\. .*?(?:"(.+)"\?|after \[([0-9a-f]{8})\]\?)$', text, re.MULTILINE):
        if before:
            found.append(ids[ids.index(before) + 1])
        else:
            found.append(next(item_id for item_id, said in lines if fragment in said))
    assert name is not None
    return name[1], found


async def test_a_kernels_reading_is_measured_on_its_own_memory_and_scored_by_counting(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "A_PART", 1_500)  # so that a few hundred items come in several parts
    async with Client(host.server) as client:
        with pytest.raises(MCPError, match="no snapshot yet"):
            await prompt(client, "calibrate")
        for start in range(0, 360, 90):
            await remember(
                client, *(f"Meter {n} of building {n % 7} showed {n * n} units" for n in range(start, start + 90))
            )
        await call(client, "memory_snapshot", message="read the meters")
        text = await prompt(client, "calibrate", length="1000")
        long = await prompt(client, "calibrate", length="17000")
        name, right = answers(text)
        good = (await call(client, "memory_status", calibration=f"{name}: {' '.join(right)}"))["calibration"]
        wrong = [*right[:6], *["-"] * 6]
        bad = (await call(client, "memory_status", calibration=f"{name}: {' '.join(wrong)}"))["calibration"]
        refused = await client.call_tool("memory_status", {"calibration": f"{name}: {right[0]}"})
        await remember(client, "something new")
        later = (await call(client, "memory_status", calibration=f"{name}: {' '.join(right)}"))["calibration"]

    assert (good["right"], good["asked"], good["reliable"]) == (12, 12, True)
    assert 900 <= good["tokens"] <= 1_000 and "length=2000" in good["next"]
    assert (bad["right"], bad["right_lookup"] + bad["right_reasoning"], bad["reliable"]) == (6, 6, False)
    assert refused.is_error and "1 answers came for 12 questions" in str(refused.content)
    assert later == good  # it is the snapshot that counts
    assert len(answers(long)[1]) == 12 and long.count("\n[") > 5 * text.count("\n[")
