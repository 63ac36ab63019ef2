"""The page of a memory: what is in it, and that nothing a memory holds becomes part of the page itself."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from memory_snapshot.wire import Item
from usrland import NotFound, Principal

ANN = Principal(subject="ann")
NASTY = '</script><script>alert(1)</script> %DATA% %ROWS% "onload=" <b>& \u2028 \\u003c'


class Page(HTMLParser):
    """The page as a browser takes it apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.said: list[str] = []
        self.policy = ""
        self.names: set[str] = set()
        self._script = False
        self.feed(text)
        self.data = json.loads(self.scripts[0])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.names.update(name for name, _ in attrs)
        self._script = tag == "script"
        if dict(attrs).get("http-equiv"):
            self.policy = dict(attrs)["content"] or ""

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts.append(data)
            self._script = False
        else:
            self.said.append(data)

    def standing(self, place: int | None) -> dict[str, dict[str, Any]]:
        if place is None:
            return {}
        state = self.data["states"][place]
        items = {item: found for item, found in self.standing(state["base"]).items() if item not in state["drop"]}
        return items | {self.data["items"][n]["item"]: self.data["items"][n] for n in state["put"]}


async def page(desk: Any, limit: int = 100) -> Page:
    return Page(await (await desk.memory.store()).picture(ANN, limit))


async def filled(desk: Any) -> None:
    await desk.snapshot("first", Item(text="Friday", key="release"), "tea")
    await desk.branch("create", "idea")
    await desk.remember(Item(text="Sunday", key="release"), "milk", branch="idea")
    await desk.snapshot(NASTY, branch="idea")
    await desk.remember(NASTY)
    await desk.snapshot("second", pin=True)
    await desk.merge("idea")
    await desk.forget(containing="tea", mode="erase")
    await desk.remember("not saved yet")


async def test_every_state_in_the_page_is_what_the_memory_says(desk: Any) -> None:
    await filled(desk)
    seen = await page(desk)
    names = [state["name"] for state in seen.data["states"]]
    log = {entry.id[:8]: entry for entry in (await desk.history(limit=100)).items}

    assert names[:2] == ["idea, unsaved", "main, unsaved"]  # the erasure took tea from both
    assert len(names) == 2 + len(log) and set(names[2:]) == set(log)
    for a, name in enumerate(names):
        for b, other in enumerate(names):
            refs = [each.removesuffix(", unsaved") for each in (name, other)]
            told = {change.item_id: change for change in (await desk.diff(*refs)).items}
            before, after = seen.standing(a), seen.standing(b)
            found = {item[:8] for item in {*before, *after} if before.get(item) != after.get(item)}
            assert found == set(told), (name, other)
            for item in {*before, *after}:
                if item[:8] in told:
                    change = told[item[:8]]
                    assert before.get(item, {}).get("text") == change.before
                    assert after.get(item, {}).get("text") == change.after
    counts = [state["tokens"] for state in seen.data["states"][2:]]
    assert counts == [log[name].tokens for name in names[2:]]


async def test_nothing_that_is_remembered_becomes_part_of_the_page(desk: Any) -> None:
    await filled(desk)
    await desk.snapshot("by somebody", who=Principal(subject="<b>bob</b>"))
    seen = await page(desk)

    assert seen.tags.count("script") == 2 and "b" not in seen.tags
    assert not any(name.startswith("on") for name in seen.names)
    assert not seen.names & {"src", "href", "xlink:href"}
    assert any(NASTY in said for said in seen.said)
    assert NASTY in [item["text"] for item in seen.data["items"]]
    digest = base64.b64encode(hashlib.sha256(seen.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in seen.policy
    assert "default-src 'none'" in seen.policy


async def test_branches_merges_and_pins_are_drawn(desk: Any) -> None:
    await filled(desk)
    text = await (await desk.memory.store()).picture(ANN, 100)

    assert len(re.findall(r'<circle class="c0 merge"', text)) == 1
    assert re.findall(r'<circle class="(c. unsaved)"', text) == ["c1 unsaved", "c0 unsaved"]
    assert len(re.findall(r'<circle class="c1"', text)) == 1  # the snapshot on the other branch
    assert len(re.findall(r"<path ", text)) == 6
    for name in ("main", "idea", "pin/"):
        assert f'">{name}' in text


async def test_only_the_newest_are_shown_where_there_are_many_and_the_page_says_so(desk: Any) -> None:
    for number in range(6):
        await desk.snapshot(f"number {number}", f"item {number}")
    seen = await page(desk, limit=4)

    assert len(seen.data["states"]) == 4
    assert any("2 older ones are not shown" in said for said in seen.said)
    assert len(seen.standing(0)) == 6 and seen.data["states"][3]["base"] is None


async def test_an_empty_memory_has_no_picture(desk: Any) -> None:
    with pytest.raises(NotFound):
        await page(desk)
