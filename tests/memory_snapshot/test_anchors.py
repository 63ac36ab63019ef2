from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlmodel import Session, select

from memory_snapshot import journal
from memory_snapshot.anchors import Anchors
from memory_snapshot.tables import Event, Space
from usrland import Conflict, Principal

ANN = Principal(subject="ann")


@pytest.mark.parametrize(
    "attack",
    [
        "tamper",
        "truncate",
        "delete_middle",
        "reorder",
        "forge",
        "cross_replay",
        "rollback_replay",
        "metadata_tamper",
        "snapshot_rollback",
    ],
)
def test_every_attack_of_the_integrity_suite_is_reported(attack: str) -> None:
    """T1 to T9 of `agent-memory-integrity`, by an attacker who re-chains what they add."""
    at_rest = pytest.importorskip("agmi.attacks.at_rest")
    from tampering import MemoryAdapter

    (kind,) = [each for each in at_rest.AT_REST_ATTACKS_WITH_SNAPSHOT if each.name == attack]
    result = kind().run(MemoryAdapter())

    assert (result.error, result.guard, result.detected) == (None, None, True), result


async def forged(desk: Any) -> None:
    """An event that the chain agrees with, by somebody who can write the database and has no key."""

    def work(session: Session) -> None:
        space = session.exec(select(Space)).one()
        last = journal.last_event(session, space.id or 0)
        facts = {"op": "retract", "branch": "main", "actor": "eve", "at": "2999-01-01T00:00:00.000000Z"}
        journal.append(session, space, last, payload={}, **facts)

    await desk.database.write(work)


async def cut_off(desk: Any) -> None:
    await desk.unguard()
    for table in ("body", "item_version", "event"):
        await desk.sql(f"DELETE FROM memory_{table} WHERE seq = 2")


@pytest.mark.parametrize(("attack", "said"), [(forged, "added to"), (cut_off, "cut off or put back")])
async def test_a_journal_that_is_not_where_its_head_says_is_reported_and_not_written_to(
    sit: Callable[..., Any], tmp_path: Path, attack: Callable[[Any], Awaitable[None]], said: str
) -> None:
    desk = sit(anchor=str(tmp_path / "elsewhere"))
    await desk.remember("tea")
    await desk.remember("coffee")
    assert (await desk.status()).problems is None
    await attack(desk)

    assert said in (await desk.status()).problems[0]
    assert any(said in problem for problem in (await desk.verify()).problems)
    with pytest.raises(Conflict, match=said):
        await desk.remember("milk")


async def test_a_server_that_was_killed_between_promise_and_commit_goes_on(
    sit: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "elsewhere"
    desk = sit(anchor=str(folder))
    await desk.remember("tea")
    space, last = await (await desk.memory.store()).head(ANN)
    never = Event(**{**last.model_dump(), "seq": last.seq + 1, "hash": "ab" * 32})
    anchors = Anchors(folder, desk.settings.key("audit"))
    anchors.promise(space, last, never)

    assert (await desk.verify()).problems == []
    await desk.remember("coffee")
    assert (await desk.verify()).problems == []
    assert "coffee" in await desk.texts()


async def test_only_the_key_of_the_home_makes_a_head(sit: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    desk = sit(anchor=str(folder))
    await desk.remember("tea")
    space, last = await (await desk.memory.store()).head(ANN)
    Anchors(folder, b"\1" * 32).promise(space, None, last)

    assert "cannot be read" in (await desk.verify()).problems[0]


async def test_two_servers_on_one_database_share_its_heads(sit: Callable[..., Any], tmp_path: Path) -> None:
    desks = [sit(anchor=str(tmp_path / "elsewhere")) for _ in range(2)]
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(desks[number % 2].remember, f"item {number}")

    assert (await desks[0].verify()).problems == []
    assert len(await desks[0].texts()) == 20
