from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from memory_snapshot.tables import Snapshot
from memory_snapshot.wire import Item
from memory_snapshot.writing import snapshot_id
from usrland import Conflict, InvalidInput, NotFound, Principal


def snapshot(**changes: Any) -> Snapshot:
    fields = {
        "space_id": 1,
        "id": "",
        "seq": 1,
        "branch": "main",
        "paged": False,
        "root": "ab" * 32,
        "parents": "[]",
        "author": '{"subject":"ann"}',
        "commitment": "cd" * 32,
        "reason": "manual",
        "items": 1,
        "tokens": 2,
        "taken_at": "2026-01-01T00:00:00.000000Z",
    }
    return Snapshot(**{**fields, **changes})


def test_the_same_content_has_the_same_id_in_any_space_and_journal() -> None:
    elsewhere = snapshot(space_id=7, seq=90, branch="other", paged=True)

    assert snapshot_id(snapshot()) == snapshot_id(elsewhere)


@pytest.mark.parametrize(
    "field", ["root", "parents", "author", "commitment", "reason", "items", "tokens", "taken_at"]
)
def test_every_part_of_a_snapshot_is_in_its_id(field: str) -> None:
    other = 7 if field in ("items", "tokens") else "other"

    assert snapshot_id(snapshot(**{field: other})) != snapshot_id(snapshot())


async def test_items_are_remembered_and_committed_in_one_call(desk: Any) -> None:
    await desk.remember("tea")
    taken = await desk.snapshot("both", "tea", "coffee")

    assert (taken.items, taken.duplicates, taken.tokens) == (2, 1, 2)
    assert (await desk.restore(ref=taken.id)).items == 2


async def test_snapshots_follow_each_other(desk: Any) -> None:
    first = await desk.snapshot("first", "tea")
    second = await desk.snapshot("second")

    assert first.parent is None
    assert second.parent == first.id


async def test_a_manifest_is_stored_once_enough_has_changed_and_is_read_back(sit: Callable[..., Any]) -> None:
    desk = sit()
    for batch in range(8):
        notes = [f"note {batch}/{number}" for number in range(80)]
        taken = await desk.snapshot(f"batch {batch}", *notes)

    assert await desk.ask("SELECT count(*) FROM memory_snapshot WHERE paged") == [1]
    assert 0 < (await desk.ask("SELECT count(*) FROM memory_page"))[0] < 300
    cold = await sit().restore(ref=taken.id)
    assert cold.items + cold.left_out.items == 640
    assert (await desk.verify()).problems == []


async def test_a_stale_expected_head_conflicts_and_names_the_new_one(desk: Any) -> None:
    first = await desk.snapshot("first", "tea")
    second = await desk.snapshot("second", "coffee", expected_head=first.id)

    with pytest.raises(Conflict, match=second.id):
        await desk.snapshot("third", "milk", expected_head=first.id)
    assert (await desk.restore()).items == 2
    assert (await desk.verify()).problems == []


async def test_two_processes_that_expect_the_same_head_cannot_both_win(sit: Callable[..., Any]) -> None:
    head = (await sit().snapshot("first")).id
    won: list[str] = []

    async def race(name: str) -> None:
        try:
            await sit().snapshot(name, name, expected_head=head)
        except Conflict:
            return
        won.append(name)

    async with anyio.create_task_group() as tasks:
        for name in ("a", "b", "c"):
            tasks.start_soon(race, name)

    assert len(won) == 1
    assert [entry.text for entry in (await sit().history()).items] == [won[0], "first"]


async def test_the_head_moves_only_from_where_it_was_seen(desk: Any) -> None:
    await desk.snapshot("first")
    store = await desk.memory.store()

    def move_behind_its_back(session: Any) -> None:
        from memory_snapshot import drafts, writing

        found = writing.begin(session, store._states, Principal(subject="ann"))
        session.expunge(found.ref)
        found.ref.generation += 1
        found.commit(drafts.message("second"), "manual")

    with pytest.raises(Conflict, match="no longer"):
        await desk.database.write(move_behind_its_back)
    assert await desk.ask("SELECT generation FROM memory_ref") == [1]


async def test_every_move_of_the_head_counts_its_generation(desk: Any) -> None:
    for message in ("one", "two", "three"):
        await desk.snapshot(message)

    assert await desk.ask("SELECT generation FROM memory_ref") == [3]


async def test_a_pin_is_a_name_that_stays_with_its_snapshot(desk: Any) -> None:
    pinned = await desk.snapshot("keep", pin=True)
    await desk.snapshot("next")

    assert await desk.ask("SELECT name FROM memory_ref WHERE name LIKE 'pin/%'") == [f"pin/{pinned.id[:8]}"]
    assert (await desk.restore(ref=f"pin/{pinned.id[:8]}")).snapshot == pinned.id


async def test_restoring_a_snapshot_brings_what_it_held_and_nothing_newer(desk: Any) -> None:
    taken = await desk.snapshot("then", Item(text="Paris", key="home"))
    await desk.remember(Item(text="Rome", key="home"), "coffee")

    old, new = await desk.restore(ref=taken.id), await desk.restore()

    assert "Paris" in old.text and "Rome" not in old.text and old.newer == 0
    assert "Rome" in new.text and "Paris" not in new.text and new.newer == 2
    assert new.snapshot == taken.id


async def test_a_snapshot_is_found_by_the_beginning_of_its_id(desk: Any) -> None:
    taken = await desk.snapshot("first", "tea")

    assert (await desk.restore(ref=taken.id[:8].upper())).snapshot == taken.id
    with pytest.raises(NotFound):
        await desk.restore(ref=taken.id[:7])
    with pytest.raises(NotFound):
        await desk.restore(ref="0" * 64)


async def test_a_time_brings_what_stood_then(desk: Any) -> None:
    await desk.remember(Item(text="Paris", key="home"))
    then = (await desk.history(key="home")).items[0].at
    await desk.snapshot("in between", Item(text="Rome", key="home"))
    await desk.snapshot("later")

    assert "Paris" in (await desk.restore(ref=then)).text
    assert (await desk.restore(ref="2020-01-01")).items == 0
    assert "Rome" in (await desk.restore(ref="20991231")).text


@pytest.mark.parametrize("message", ["", "  ", "x" * 2_001])
async def test_a_message_has_to_say_something_and_not_too_much(desk: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match="message"):
        await desk.snapshot(message, "tea")
    assert (await desk.restore()).items == 0


async def test_a_clock_that_was_set_back_does_not_turn_the_journal_around(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memory_snapshot import journal

    await desk.remember("tea")
    monkeypatch.setattr(journal, "moment", lambda _: "2001-01-01T00:00:00.000000Z")
    await desk.remember("coffee")

    times = await desk.ask("SELECT at FROM memory_event ORDER BY seq")
    assert times == sorted(times)
    assert (await desk.restore()).items == 2
