from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from memory_snapshot.wire import Item, Source, Summary
from usrland import Conflict, InvalidInput, NotFound, Principal


async def test_what_is_remembered_can_be_restored_by_another_process(sit: Callable[..., Any]) -> None:
    await sit().remember("The build runs on Fridays")

    assert "The build runs on Fridays" in (await sit().restore()).text


async def test_the_same_words_are_stored_once(desk: Any) -> None:
    first = await desk.remember("tea", "coffee")
    again = await desk.remember("coffee", "milk", "milk")

    assert again.duplicates == 2
    assert [item.new for item in again.items] == [False, True, False]
    assert again.items[0].item_id == first.items[1].item_id
    assert (await desk.restore()).items == 3


async def test_the_same_words_of_another_kind_or_key_are_another_item(desk: Any) -> None:
    done = await desk.remember(
        Item(text="yes", key="a"),
        Item(text="yes", key="b"),
        Item(text="yes", kind="decision"),
        Item(text="yes", key="a"),
    )

    assert [item.new for item in done.items] == [True, True, True, False]


async def test_the_same_key_supersedes_and_keeps_the_id(desk: Any) -> None:
    first = await desk.remember(Item(text="Paris", key="home"))
    second = await desk.remember(Item(text="Rome", key="home"))

    assert second.items[0].item_id == first.items[0].item_id
    assert second.items[0].oid != first.items[0].oid
    assert "Rome" in (text := (await desk.restore()).text)
    assert "Paris" not in text


async def test_what_was_superseded_and_comes_back_is_no_duplicate(desk: Any) -> None:
    for city in ("Paris", "Rome", "Paris"):
        done = await desk.remember(Item(text=city, key="home"))

    assert done.items[0].new
    assert "Paris" in (await desk.restore()).text


async def test_a_pin_can_be_added_to_what_is_known(desk: Any) -> None:
    await desk.remember("The database is called blue")
    done = await desk.remember(Item(text="The database is called blue", pin=True))

    assert done.items[0].new
    assert "## Always" in (restored := await desk.restore()).text
    assert restored.items == 1


async def test_a_correction_by_id_takes_over_id_and_key(desk: Any) -> None:
    first = await desk.remember(Item(text="Paris", key="home"))
    done = await desk.remember(Item(text="Rome", supersedes=[first.items[0].item_id]))

    assert done.items[0].item_id == first.items[0].item_id
    assert [entry.text for entry in (await desk.history(key="home")).items] == ["Rome", "Paris"]


async def test_several_can_be_superseded_by_one(desk: Any) -> None:
    done = await desk.remember("one", "two", "three")
    await desk.remember(Item(text="all of them", kind="summary", supersedes=[item.item_id for item in done.items]))

    restored = await desk.restore()

    assert restored.items == 1
    assert "all of them" in restored.text


async def test_to_supersede_what_is_not_there_writes_nothing(desk: Any) -> None:
    with pytest.raises(NotFound):
        await desk.remember("kept out", Item(text="too", supersedes=["0123456789"]))

    assert (await desk.restore()).items == 0


async def test_one_item_after_another_in_one_call_supersedes_within_it(desk: Any) -> None:
    await desk.remember(Item(text="v1", key="k"), Item(text="v2", key="k"), Item(text="v3", key="k"))

    assert [entry.text for entry in (await desk.history(key="k")).items if entry.current] == ["v3"]
    assert len((await desk.history(key="k")).items) == 3
    assert (await desk.verify()).problems == []


async def test_words_that_were_superseded_in_the_same_call_are_new_again(desk: Any) -> None:
    done = await desk.remember(Item(text="tea", key="drink"), Item(text="coffee", key="drink"), "tea")

    assert [item.new for item in done.items] == [True, True, True]
    assert (await desk.restore()).items == 2


async def test_another_tenant_or_namespace_sees_nothing(desk: Any) -> None:
    await desk.remember("a secret plan about zebras")
    for other in (
        Principal(subject="ann", tenant="other"),
        Principal(subject="ann", namespace="other"),
        Principal(subject="ann", tenant="local/main", namespace=""),
    ):
        assert (await desk.restore(who=other)).items == 0
        assert (await desk.recall("zebras", who=other)).items == []
        await desk.remember("another plan", who=other)
        assert (await desk.recall("zebras", who=other)).items == []
        assert (await desk.history(who=other)).items == []


async def test_the_actor_is_who_called_and_the_source_is_kept(desk: Any) -> None:
    source = Source(origin="tool_external", uri="https://example.org/a", span="line 3")
    await desk.remember(Item(text="zebras have stripes", source=source), who=Principal(subject="bob"))

    hit = (await desk.recall("zebras")).items[0]

    assert (hit.actor, hit.trust, hit.source) == ("bob", "tool_external", source)


async def test_a_wrong_expected_head_writes_nothing_and_names_the_head(desk: Any) -> None:
    with pytest.raises(Conflict, match="no snapshot yet"):
        await desk.remember("x", expected_head="0123456789abcdef")
    taken = await desk.snapshot("first")
    with pytest.raises(Conflict, match=taken.id):
        await desk.remember("x", expected_head="0123456789abcdef")

    assert (await desk.restore()).items == 0
    assert (await desk.remember("x", expected_head=taken.id[:8])).head == taken.id


async def test_every_write_can_be_bound_to_a_head(desk: Any) -> None:
    stale = (await desk.snapshot("first", Item(text="Paris", key="home"))).id
    await desk.branch("create", "idea")
    head = (await desk.snapshot("second", "tea")).id
    await desk.transfer("export", "file", format="jsonl")
    before = (await desk.status()).events

    def writes(expected: str) -> list[Any]:
        return [
            desk.remember("x", expected_head=expected),
            desk.snapshot("x", expected_head=expected),
            desk.merge("idea", expected_head=expected),
            desk.rollback(stale, expected_head=expected),
            desk.forget(containing="tea", expected_head=expected),
            desk.compact(summaries=[Summary(text="x", derived_from=[])], expected_head=expected),
            desk.branch("create", "other", expected_head=expected),
            desk.transfer("import", "file", expected_head=expected),
            desk.transfer("export", "again", format="jsonl", expected_head=expected),
        ]

    for write in writes(stale):
        with pytest.raises(Conflict) as refused:
            await write
        assert refused.value.details == {"branch": "main", "head": head}
    for name in ("switch", "delete"):
        with pytest.raises(Conflict):
            await desk.branch(name, "idea", expected_head=head)
    assert (await desk.status()).events == before
    bound, *rest = writes(head)
    await bound
    for write in rest:
        write.close()


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (Item(text="  "), "text is empty"),
        (Item(text="x" * 20_001), "at most 20000"),
        (Item(text="a\0b"), "cannot be stored"),
        (Item(text="\ud800"), "cannot be stored"),
        (Item(text="x", key="k" * 201), "at most 200"),
        (Item(text="x", tags=[str(number) for number in range(17)]), "17 tags"),
        (Item(text="x", valid_from="soon"), "not an ISO date"),
        (Item(text="x", valid_from="2026-02-01", valid_to="2026-01-01"), "not after"),
        (Item(text="x", supersedes=["abc"]), "too short"),
    ],
)
async def test_what_cannot_be_kept_is_refused_by_its_place(desk: Any, item: Item, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        await desk.remember("fine", item)


async def test_too_many_items_are_refused(desk: Any) -> None:
    with pytest.raises(InvalidInput, match="101 items"):
        await desk.remember(*[str(number) for number in range(101)])
