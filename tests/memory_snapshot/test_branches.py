from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from memory_snapshot.wire import Item, Resolution
from usrland import Conflict, InvalidInput, NotFound, Principal

BOB = Principal(subject="bob")


async def test_a_branch_goes_on_apart(desk: Any) -> None:
    await desk.snapshot("first", "tea")
    await desk.branch("create", "idea")
    await desk.remember("coffee", branch="idea")
    await desk.remember("milk")

    assert await desk.texts("idea") == ["tea", "coffee"]
    assert await desk.texts() == ["tea", "milk"]
    assert (await desk.verify()).problems == []


async def test_what_is_in_no_snapshot_yet_comes_along_and_moves_no_other_head(desk: Any) -> None:
    first = await desk.snapshot("first", "tea")
    await desk.remember("coffee")
    (made,) = (await desk.branch("create", "idea")).branches

    heads = {branch.name: (branch.head, branch.newer) for branch in (await desk.branch("list")).branches}
    assert heads["idea"] == (made.head, 0)
    assert heads["main"] == (first.id, 1)
    assert heads["idea"][0] != first.id and heads["idea"][1] == 0
    assert await desk.texts("idea") == ["tea", "coffee"]


async def test_a_branch_can_begin_anywhere_and_where_nothing_is(desk: Any) -> None:
    await desk.branch("create", "empty")
    then = await desk.snapshot("then", "tea")
    await desk.snapshot("now", "coffee")
    await desk.branch("create", "old", source=then.id[:8])

    assert await desk.texts("empty") == []
    assert await desk.texts("old") == ["tea"]
    assert (await desk.verify()).problems == []


async def test_each_subject_works_on_its_own_branch_in_every_process(sit: Callable[..., Any]) -> None:
    desk = sit()
    await desk.snapshot("first", "tea")
    await desk.branch("create", "idea")
    await desk.branch("switch", "idea")
    await sit().remember("coffee")

    assert await desk.texts() == ["tea", "coffee"]
    assert await desk.recalled("coffee") == ["coffee"]
    assert await desk.texts(who=BOB) == ["tea"]
    assert (await desk.recall("coffee", who=BOB)).items == []
    assert (await desk.branch("list")).current == "idea"
    assert (await desk.branch("list", who=BOB)).current == "main"


async def test_a_deleted_branch_leaves_its_snapshots_and_can_be_made_anew(desk: Any) -> None:
    await desk.snapshot("first", "tea")
    await desk.branch("create", "idea")
    await desk.branch("switch", "idea")
    taken = await desk.snapshot("second", "coffee")
    left = await desk.branch("delete", "idea")
    assert (left.current, [branch.name for branch in left.branches]) == ("main", ["main"])
    assert await desk.texts(taken.id) == ["tea", "coffee"]
    await desk.branch("create", "idea")

    assert await desk.texts("idea") == ["tea"]
    assert (await desk.verify()).problems == []


@pytest.mark.parametrize("name", ["main", "idea"])
async def test_a_name_is_given_once(desk: Any, name: str) -> None:
    await desk.branch("create", "idea")
    with pytest.raises(Conflict, match="there already"):
        await desk.branch("create", name)


@pytest.mark.parametrize("name", ["HEAD", "deadbeef", "2026-01-01", "pin/x", "a b", "x" * 101, "", "-x"])
async def test_what_reads_as_something_else_names_no_branch(desk: Any, name: str) -> None:
    with pytest.raises(InvalidInput):
        await desk.branch("create", name)


async def test_a_branch_that_is_not_there_is_not_found(desk: Any) -> None:
    for attempt in (desk.branch("switch", "idea"), desk.remember("x", branch="idea"), desk.merge("idea")):
        with pytest.raises(NotFound):
            await attempt


async def test_a_list_of_branches_takes_nothing_that_only_a_change_needs(desk: Any) -> None:
    await desk.snapshot("first")

    for wrong in ({"name": "idea"}, {"source": "main"}, {"expected_head": "0" * 64}):
        with pytest.raises(InvalidInput, match="Say create, switch or delete"):
            await desk.branch("list", **wrong)
    assert [branch.name for branch in (await desk.branch("list")).branches] == ["main"]


async def test_a_stale_head_on_a_branch_is_told_with_the_head_there_is(desk: Any) -> None:
    first = await desk.snapshot("first")
    await desk.branch("create", "idea")
    second = await desk.snapshot("second", branch="idea")

    with pytest.raises(Conflict) as refused:
        await desk.remember("x", branch="idea", expected_head=first.id)
    assert refused.value.details == {"branch": "idea", "head": second.id}
    assert (await desk.remember("x", expected_head=first.id)).head == first.id


async def test_a_version_that_is_superseded_elsewhere_is_still_recalled(desk: Any) -> None:
    await desk.snapshot("first", Item(text="The user lives in Paris", key="home"))
    await desk.branch("create", "idea")
    await desk.remember(Item(text="The user lives in Rome", key="home"), branch="idea")

    assert await desk.recalled("where does the user live") == ["The user lives in Paris"]


async def test_a_difference_is_told_by_item_and_as_text(desk: Any) -> None:
    then = await desk.snapshot("then", Item(text="Paris", key="home"), "tea", "milk")
    gone = (await desk.remember("milk")).items[0].item_id
    await desk.forget(gone)
    await desk.remember(Item(text="Rome", key="home"), "coffee")
    found = await desk.diff(then.id)

    assert (found.added, found.changed, found.removed) == (1, 1, 1)
    assert {(change.change, change.before, change.after) for change in found.items} == {
        ("added", None, "coffee"),
        ("changed", "Paris", "Rome"),
        ("removed", "milk", None),
    }
    text = (await desk.diff(then.id, as_text=True)).text
    assert "fact: coffee" in text and "home: Paris\n  → Rome" in text and f"- [{gone}] fact: milk" in text
    assert (await desk.diff("HEAD", then.id)).removed == 1
    assert (await desk.diff(then.id, offset=2)).items == found.items[2:]


async def forked(desk: Any, here: Item | str, there: Item | str, base: Item | str = "tea") -> None:
    await desk.snapshot("base", base)
    await desk.branch("create", "idea")
    await desk.remember(there, branch="idea")
    await desk.remember(here)


async def test_what_only_one_side_changed_is_taken(desk: Any) -> None:
    await forked(desk, "here", "there")
    dry = await desk.memory.preview_merge("idea", desk.call())
    assert (dry.changes, dry.snapshot) == (1, None)
    merged = await desk.merge("idea")

    assert await desk.texts() == ["tea", "there", "here"]
    newest, *_ = (await desk.history()).items
    assert (newest.id, newest.reason, len(newest.parents)) == (merged.snapshot, "merge", 2)
    assert (await desk.verify()).problems == []
    assert (await desk.merge("idea")).changes == 0


async def test_a_second_merge_brings_only_what_is_new(desk: Any) -> None:
    await forked(desk, "here", "there")
    await desk.merge("idea")
    await desk.remember("more", branch="idea")

    assert (await desk.merge("idea")).changes == 1
    assert await desk.texts() == ["tea", "there", "here", "more"]


HOME = {"base": Item(text="Paris", key="home")}
ROME, OSLO = Item(text="Rome", key="home"), Item(text="Oslo", key="home")


async def test_a_conflict_is_data_and_writes_nothing(desk: Any) -> None:
    await forked(desk, ROME, OSLO, **HOME)
    with pytest.raises(Conflict) as refused:
        await desk.merge("idea")
    (conflict,) = refused.value.details["conflicts"]

    assert (conflict["base"], conflict["ours"], conflict["theirs"]) == ("Paris", "Rome", "Oslo")
    assert (conflict["why"], conflict["key"]) == ("changed on both sides", "home")
    assert await desk.texts() == ["Rome"]
    assert len((await desk.history()).items) == 1


@pytest.mark.parametrize(
    ("decision", "left"),
    [
        ({"strategy": "ours"}, ["Rome"]),
        ({"strategy": "theirs"}, ["Oslo"]),
        ({"strategy": "both"}, ["Rome", "Oslo"]),
        ({"strategy": "newest"}, ["Rome"]),
        ("theirs", ["Oslo"]),
        ("both", ["Rome", "Oslo"]),
    ],
)
async def test_a_conflict_is_decided_by_strategy_or_one_by_one(desk: Any, decision: Any, left: list[str]) -> None:
    await forked(desk, ROME, OSLO, **HOME)
    if isinstance(decision, str):
        (conflict,) = (await desk.memory.preview_merge("idea", desk.call())).conflicts
        decision = {"resolutions": [Resolution(id=conflict.id, take=decision)]}
    merged = await desk.merge("idea", **decision)

    assert merged.conflicts == []
    assert await desk.texts() == left
    assert (await desk.verify()).problems == []


async def test_two_items_of_one_key_are_a_conflict_too(desk: Any) -> None:
    await forked(desk, ROME, OSLO)
    with pytest.raises(Conflict):
        await desk.merge("idea")
    await desk.merge("idea", strategy="theirs")

    assert await desk.texts() == ["tea", "Oslo"]
    assert len([entry for entry in (await desk.history(key="home")).items if entry.current]) == 1


async def test_all_that_merges_left_under_one_key_is_superseded_at_once(desk: Any) -> None:
    for name in ("left", "right"):
        await desk.branch("create", name)
    await desk.remember(Item(text="the quay is north", key="quay"), branch="left")
    await desk.remember(Item(text="the quay is south", key="quay"), branch="right")
    await desk.branch("switch", "right")
    await desk.merge("left", strategy="both")
    await desk.remember(Item(text="the quay is south", key="quay"), branch="left")
    await desk.merge("left", strategy="both")
    texts = await desk.texts()
    assert texts.count("the quay is south") == 2

    await desk.remember(Item(text="the quay is closed", key="quay"))
    assert sorted(await desk.texts()) == ["the quay is closed", "the quay is north"]


async def test_the_same_said_on_both_sides_is_no_conflict_and_no_double(desk: Any) -> None:
    await forked(desk, "coffee", "coffee")
    assert (await desk.merge("idea")).changes == 0
    await desk.remember(Item(text="Rome", key="home"), branch="idea")
    await desk.remember(Item(text="Rome", key="home"))
    await desk.merge("idea")

    assert await desk.texts() == ["tea", "coffee", "Rome"]


async def test_a_removal_never_wins_in_silence(desk: Any) -> None:
    await desk.snapshot("base", Item(text="Paris", key="home"))
    await desk.branch("create", "idea")
    await desk.remember(OSLO, branch="idea")
    await desk.forget((await desk.history(key="home")).items[0].item_id)
    with pytest.raises(Conflict, match="both sides"):
        await desk.merge("idea")
    await desk.merge("idea", strategy="theirs")

    assert await desk.texts() == ["Oslo"]


async def test_records_of_what_happened_are_kept_of_both_sides(desk: Any) -> None:
    seen = {"base": Item(text="seen", kind="observation", key="door")}
    await forked(
        desk,
        Item(text="open", kind="observation", key="door"),
        Item(text="shut", kind="observation", key="door"),
        **seen,
    )
    await desk.merge("idea")

    assert await desk.texts() == ["open", "shut"]


async def test_a_decision_about_nothing_is_refused(desk: Any) -> None:
    await forked(desk, "here", "there")
    with pytest.raises(InvalidInput, match="no conflict"):
        await desk.merge("idea", resolutions=[Resolution(id="deadbeef", take="ours")])
    with pytest.raises(InvalidInput, match="into itself"):
        await desk.merge("main")


async def test_a_rollback_takes_up_the_old_state_and_keeps_what_was_left(desk: Any) -> None:
    then = await desk.snapshot("then", Item(text="Paris", key="home"))
    await desk.remember(Item(text="Rome", key="home"), "coffee")
    dry = await desk.memory.preview_rollback(then.id, desk.call())
    assert (dry.changes, dry.snapshot, await desk.texts()) == (2, None, ["Rome", "coffee"])
    done = await desk.rollback(then.id, reason="a mistake")

    assert await desk.texts() == ["Paris"]
    assert await desk.recalled("Paris") == ["Paris"]
    assert await desk.texts(done.rescue) == ["Rome", "coffee"]
    newest = (await desk.history()).items[0]
    assert (newest.id, newest.text, newest.reason) == (done.snapshot, "a mistake", "rollback")
    await desk.rollback(done.rescue)
    assert await desk.texts() == ["Rome", "coffee"]
    assert (await desk.verify()).problems == []


async def test_one_item_can_be_rolled_back_alone(desk: Any) -> None:
    then = await desk.snapshot("then", Item(text="Paris", key="home"))
    await desk.remember(Item(text="Rome", key="home"), "coffee")
    await desk.rollback(then.id, key="home")

    assert await desk.texts() == ["Paris", "coffee"]
    with pytest.raises(NotFound):
        await desk.rollback(then.id, key="unheard of")


async def test_a_rollback_that_changes_nothing_writes_nothing(desk: Any) -> None:
    then = await desk.snapshot("then", "tea")

    assert (await desk.rollback(then.id)).snapshot is None
    assert len((await desk.history()).items) == 1
