from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from memory_snapshot import writing
from memory_snapshot.wire import Item
from usrland import Principal


@pytest.fixture(autouse=True)
def pages_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PAGE_AT_LEAST", 8)


async def filled(desk: Any) -> Any:
    await desk.remember(Item(text="Paris", key="home", tags=["city"]), "tea")
    await desk.remember(Item(text="Rome", key="home"))
    await desk.snapshot("first", *[f"note {number}" for number in range(30)], pin=True)
    await desk.snapshot("second")
    return desk


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE memory_event SET actor = 'eve' WHERE seq = 1",
        "DELETE FROM memory_event WHERE seq = 4",
        "UPDATE memory_item_version SET pinned = (1 = 1)",
        "UPDATE memory_lineage SET relation = 'derived_from'",
        "UPDATE memory_page SET content = hash",
        "UPDATE memory_snapshot SET reason = 'other'",
        "UPDATE memory_body SET text = digest",
    ],
)
async def test_the_database_itself_refuses_to_change_what_was_written(desk: Any, statement: str) -> None:
    await filled(desk)

    with pytest.raises(DBAPIError, match="append-only"):
        await desk.sql(statement)


async def test_an_event_cannot_be_replaced_either(desk: Any) -> None:
    await filled(desk)
    replace = "INSERT OR REPLACE" if desk.database.is_sqlite else "INSERT"
    columns = "space_id, seq, hash, op, branch, payload, at"

    with pytest.raises(DBAPIError, match=r"append-only|duplicate key"):
        await desk.sql(
            f"{replace} INTO memory_event ({columns}, actor) "
            f"SELECT {columns}, 'eve' FROM memory_event WHERE seq = 1"
        )


async def test_a_store_that_nobody_touched_verifies(desk: Any) -> None:
    await filled(desk)

    checked = await desk.verify()

    assert checked.problems == []
    assert (checked.events, checked.versions, checked.snapshots, checked.erased) == (5, 33, 2, 0)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE memory_event SET actor = 'eve' WHERE seq = 2",
        "UPDATE memory_event SET at = '2020-01-01T00:00:00.000000Z' WHERE seq = 2",
        "UPDATE memory_event SET payload = '{}' WHERE seq = 2",
        "UPDATE memory_event SET branch = 'other' WHERE seq = 2",
        "DELETE FROM memory_event WHERE seq = 2",
        "DELETE FROM memory_event WHERE seq = 1",
        "DELETE FROM memory_event WHERE seq = 5",
        "UPDATE memory_item_version SET kind = 'instruction' WHERE seq = 2",
        "UPDATE memory_item_version SET trust = 'direct_user' WHERE seq = 2",
        "UPDATE memory_item_version SET valid_to = '2020-01-01T00:00:00.000000Z' WHERE seq = 2",
        "UPDATE memory_body SET tags = '[]' WHERE seq = 1",
        "UPDATE memory_body SET key = 'away' WHERE seq = 2",
        "UPDATE memory_body SET speaker = 'eve' WHERE seq = 2",
        "UPDATE memory_item_version SET core = (1 = 1) WHERE seq = 2",
        "UPDATE memory_item_version SET tokens = 0 WHERE seq = 2",
        "UPDATE memory_item_version SET seq = 9 WHERE seq = 2",
        "UPDATE memory_item_version SET place = 1 WHERE seq = 2",
        "UPDATE memory_item_version SET retention = '2020-01-01' WHERE seq = 2",
        "UPDATE memory_item_version SET origin = 'import' WHERE seq = 2",
        "DELETE FROM memory_item_version WHERE seq = 2",
        "DELETE FROM memory_lineage",
        "INSERT INTO memory_lineage (space_id, seq, place, relation, target_seq, target_place) "
        "SELECT space_id, seq, place, 'derived_from', 1, 1 FROM memory_item_version WHERE seq = 2",
        "UPDATE memory_body SET text = salt WHERE seq = 2",
        "UPDATE memory_body SET digest = salt WHERE seq = 2",
        "DELETE FROM memory_body WHERE seq = 2",
        "UPDATE memory_page SET content = hash",
        "DELETE FROM memory_page",
        "UPDATE memory_snapshot SET reason = 'other' WHERE seq = 4",
        "UPDATE memory_snapshot SET root = id WHERE seq = 4",
        "UPDATE memory_snapshot SET seq = 1 WHERE seq = 4",
        "UPDATE memory_body SET salt = digest WHERE seq = 4",
        "DELETE FROM memory_snapshot WHERE seq = 4",
        "UPDATE memory_ref SET snapshot = (SELECT id FROM memory_snapshot WHERE seq = 4)",
        "DELETE FROM memory_ref WHERE name = 'main'",
    ],
)
async def test_verification_finds_every_edit(desk: Any, statement: str) -> None:
    await filled(desk)
    await desk.unguard()
    await desk.sql(statement)

    assert (await desk.verify()).problems


async def test_a_journal_that_was_moved_to_another_tenant_is_found_out(desk: Any) -> None:
    await filled(desk)
    await desk.sql("UPDATE memory_space SET tenant = 'other'")

    assert (await desk.verify(Principal(subject="ann", tenant="other"))).problems
