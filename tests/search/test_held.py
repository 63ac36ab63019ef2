"""Rows are found by their words while their tables are still being made, as they are found afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from filelock import FileLock

from usrland.search import HybridIndex, IndexRow
from usrland.search.index import OPENING

TEXTS = {
    "refund": "Customers are reimbursed within five working days of a cancellation.",
    "parser": "def parseHttpRequest(stream): read the header, then the body",
    "rain": "Rain is expected in the north, with strong winds along the coast.",
    "reading": "Readers of headers, and of nothing else.",
}


def rows(scope: str = "main", group: str = "") -> list[IndexRow]:
    return [
        IndexRow(id=f"{scope}/{group}/{key}", scope=scope, group=group, text=text, extra=key)
        for key, text in TEXTS.items()
    ]


@asynccontextmanager
async def opening(index: HybridIndex, place: Path, given: Sequence[IndexRow]) -> AsyncIterator[None]:
    """The rows were given, and another process keeps the tables from being made until the block ends."""
    held = anyio.Event()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            with FileLock(place / "write.lock"):

                async def give() -> None:
                    await index.upsert(given, held=held.set)

                tasks.start_soon(give)
                await held.wait()
                yield


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "index"
    place.mkdir()
    return place


@pytest.fixture
def index(place: Path) -> HybridIndex:
    return HybridIndex(place, None)


async def test_what_is_found_while_the_tables_are_being_made_is_found_in_them(
    index: HybridIndex, place: Path
) -> None:
    async with opening(index, place, rows()):
        before = await index.search("reading the http header", scopes=["main"])
        nothing = await index.search("walrus", scopes=["main"])
        assert not index.is_open
    after = await index.search("reading the http header", scopes=["main"], mode="lexical")

    assert [hit.extra for hit in before.hits] == ["parser", "reading"]
    assert [hit.extra for hit in after.hits] == ["parser", "reading"]
    assert (before.degraded, nothing.degraded, after.degraded) == (OPENING, OPENING, None)
    assert (before.hits[0].lexical, nothing.hits) == (12.0, [])
    assert before.hits[0].confidence > before.hits[1].confidence


async def test_once_the_tables_have_the_rows_only_they_are_asked(index: HybridIndex, place: Path) -> None:
    async with opening(index, place, rows()):
        pass
    await index.delete(["main//parser"])

    answer = await index.search("http", scopes=["main"], mode="lexical")

    assert (answer.hits, answer.degraded) == ([], None)


@pytest.mark.parametrize(
    "where",
    [
        {"scopes": ["acme"]},
        {"scopes": ["acme", "other"]},
        {"scopes": ["acme"], "groups": ["old"]},
        {"scopes": ["acme"], "groups": ["old", "new"]},
        {"scopes": ["acme", "other"], "groups": ["new"]},
        {"scopes": ["acm"]},
        {"scopes": ["acme"], "groups": ["o"]},
        {"scopes": []},
        {"scopes": ["acme"], "groups": []},
    ],
)
async def test_scopes_and_groups_hold_as_in_the_tables(
    index: HybridIndex, place: Path, where: dict[str, Any]
) -> None:
    given = [row for scope in ("acme", "other") for group in ("old", "new") for row in rows(scope, group)]
    async with opening(index, place, given):
        before = await index.search("wind and rain", mode="lexical", **where)
    after = await index.search("wind and rain", mode="lexical", **where)

    assert {hit.id for hit in before.hits} == {hit.id for hit in after.hits}
    assert len(before.hits) == len(where["scopes"] if where["scopes"] != ["acm"] else []) * len(
        [group for group in where.get("groups", ("old", "new")) if group != "o"]
    )


async def test_a_row_that_is_given_again_is_found_by_its_new_text(index: HybridIndex, place: Path) -> None:
    async with opening(index, place, [*rows(), IndexRow(id="main//rain", scope="main", text="Sunshine.")]):
        assert [hit.id for hit in (await index.search("sunshine", scopes=["main"])).hits] == ["main//rain"]
        assert (await index.search("rain", scopes=["main"])).hits == []


async def test_what_a_cancelled_write_gave_is_found_until_another_write_came_through(
    index: HybridIndex, place: Path
) -> None:
    with anyio.CancelScope() as scope:
        await index.upsert(rows(), held=scope.cancel)
    assert [hit.extra for hit in (await index.search("http", scopes=["main"])).hits] == ["parser"]

    await index.upsert(rows()[:1])

    assert (await index.search("http", scopes=["main"], mode="lexical")).hits == []
    assert await index.count() == 1


async def test_meaning_alone_waits_for_the_tables(index: HybridIndex, place: Path) -> None:
    async with opening(index, place, rows()):
        with anyio.move_on_after(0.2) as waiting:
            await index.search("http", scopes=["main"], mode="semantic")

    assert waiting.cancelled_caught


async def test_an_index_with_tables_is_waited_for(place: Path) -> None:
    await HybridIndex(place, None).upsert(rows())
    index, held = HybridIndex(place, None), anyio.Event()
    new = IndexRow(id="new", scope="main", text="A walrus reads the header.")
    with FileLock(place / "write.lock"), anyio.move_on_after(0.2) as waiting:
        await index.upsert([new], held=held.set)
    assert waiting.cancelled_caught
    assert not held.is_set()

    answer = await index.search("header", scopes=["main"], mode="lexical")

    assert {hit.extra for hit in answer.hits} == {"parser", "reading"}


async def test_more_rows_than_the_first_files_have_wait_for_the_tables(
    index: HybridIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usrland.search.held.MOST", len(TEXTS) - 1)
    held = anyio.Event()

    await index.upsert(rows(), held=held.set)

    assert not held.is_set()
    assert await index.count() == len(TEXTS)


async def test_rows_for_which_nobody_asked_are_found_once_they_are_written(
    index: HybridIndex, place: Path
) -> None:
    with FileLock(place / "write.lock"), anyio.move_on_after(0.2):
        await index.upsert(rows())

    assert (await index.search("http", scopes=["main"], mode="lexical")).hits == []
