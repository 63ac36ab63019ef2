from __future__ import annotations

from typing import Any

import pytest

from memory_snapshot.wire import Item, Source
from usrland import InvalidInput, NotFound


async def test_the_log_is_newest_first_and_says_who_why_and_how_much(desk: Any) -> None:
    first = await desk.snapshot("first", "tea")
    second = await desk.snapshot("second", "coffee", reason="handoff")
    page = await desk.history()

    assert [(entry.id, entry.parents, entry.text) for entry in page.items] == [
        (second.id, [first.id], "second"),
        (first.id, [], "first"),
    ]
    newest = page.items[0]
    assert (newest.actor, newest.reason, newest.items, newest.tokens) == ("ann", "handoff", 2, 2)


async def test_the_log_begins_where_it_is_told_to(desk: Any) -> None:
    first = await desk.snapshot("first")
    await desk.snapshot("second")

    assert [entry.text for entry in (await desk.history(ref=first.id)).items] == ["first"]


async def test_the_log_is_read_in_pages(desk: Any) -> None:
    for number in range(5):
        await desk.snapshot(str(number))
    page = await desk.history(limit=2, offset=2)

    assert [entry.text for entry in page.items] == ["2", "1"]
    assert (page.total, page.more) == (5, True)
    assert not (await desk.history(limit=2, offset=4)).more


async def test_a_store_without_a_snapshot_says_so(desk: Any) -> None:
    await desk.remember("tea")

    assert (await desk.history()).note == "There is no snapshot yet."


async def test_versions_of_an_item_say_what_they_superseded_and_which_stands(desk: Any) -> None:
    done = await desk.remember(Item(text="Paris", key="home"))
    await desk.remember(Item(text="Rome", key="home"))
    page = await desk.history(item_id=done.items[0].item_id)

    assert [(entry.text, entry.current) for entry in page.items] == [("Rome", True), ("Paris", False)]
    assert page.items[0].supersedes == [page.items[1].id]
    assert page.items == (await desk.history(key="home")).items


async def test_a_version_says_all_that_was_said_of_it(desk: Any) -> None:
    said = Item(
        text="Rome",
        kind="decision",
        keep_until="2999-01-01",
        pin=True,
        speaker="Bob",
        tags=["b", "a"],
        source=Source(origin="direct_user", uri="x://y", span="1"),
        valid_from="2020-01-01",
        valid_to="2030-01-01",
    )
    entry = (await desk.history(item_id=(await desk.remember(said)).items[0].item_id)).items[0]

    assert (entry.kind, entry.pin, entry.speaker, entry.tags) == ("decision", True, "Bob", ["a", "b"])
    assert (entry.keep_until or "")[:10] == "2999-01-01"
    assert ((entry.valid_from or "")[:4], (entry.valid_to or "")[:4]) == ("2020", "2030")
    assert (entry.source, entry.trust) == (said.source, "direct_user")


async def test_the_lineage_goes_on_through_other_items(desk: Any) -> None:
    done = await desk.remember("one", "two")
    merged = await desk.remember(Item(text="both", supersedes=[item.item_id for item in done.items]))
    page = await desk.history(item_id=merged.items[0].item_id)

    assert page.items[0].text == "both"
    assert sorted(entry.text for entry in page.items[1:]) == ["one", "two"]


async def test_the_lineage_goes_all_the_way_back(desk: Any) -> None:
    parts = await desk.remember("a", "b", "d")
    a, b, d = (item.item_id for item in parts.items)
    await desk.remember(Item(text="a and b", supersedes=[a, b]))
    await desk.remember(Item(text="all", supersedes=[d, a]))

    found = [entry.text for entry in (await desk.history(item_id=d)).items]
    assert found[:2] == ["all", "a and b"]
    assert sorted(found[2:]) == ["a", "b", "d"]


@pytest.mark.parametrize("arguments", [{"item_id": "0123456789"}, {"key": "unheard of"}])
async def test_what_was_never_remembered_is_not_found(desk: Any, arguments: dict[str, str]) -> None:
    with pytest.raises(NotFound, match="nothing was ever remembered"):
        await desk.history(**arguments)
    await desk.remember("tea")
    with pytest.raises(NotFound, match="nothing was ever remembered"):
        await desk.history(**arguments)


async def test_too_short_an_id_is_refused(desk: Any) -> None:
    await desk.remember("tea")
    with pytest.raises(InvalidInput, match="too short"):
        await desk.history(item_id="abc")
