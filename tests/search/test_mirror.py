"""Tables held in memory: the same answers as from the disk, and never those of an earlier state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pyarrow as pa
import pytest
from counting import Counting

from usrland.embedding import Embedder
from usrland.search import HybridIndex, IndexRow, SearchAnswer, lance
from usrland.search.lance import Tables
from usrland.search.mirror import Mirror
from usrland.search.record import Filter, Match

QUERY = "which parser reads http headers in the north"


def rows(scope: str, count: int) -> list[IndexRow]:
    kinds = ("a parser reads the headers of http", "rain falls in the north", "refunds are paid at once")
    return [
        IndexRow(
            id=f"{scope}/{number}",
            scope=scope,
            text=f"{kinds[number % 3]} number {number}",
            extra=str(number),
            group=f"{scope}:{number % 2}",
        )
        for number in range(count)
    ]


def scores(found: list[tuple[Match, float]]) -> list[float]:
    return [score for _, score in found]


def seen(answer: SearchAnswer) -> list[tuple[str, str, float]]:
    return [(hit.id, hit.group, round(hit.score, 4)) for hit in answer.hits]


@pytest.fixture
async def filled(index: HybridIndex) -> HybridIndex:
    await index.warm()
    await index.upsert(rows("one", 24))
    await index.upsert(rows("two", 24))
    await (
        index.optimise()
    )  # rows that are not folded in yet are counted apart, and only as far as they are asked for
    return index


@pytest.mark.parametrize("scopes", [["one", "two"], ["two"]])
@pytest.mark.parametrize("groups", [None, ["one:1", "two:0"]])
@pytest.mark.parametrize("limit", [4, 100])
async def test_what_is_found_in_memory_is_what_is_found_on_the_disk(
    filled: HybridIndex, minilm: Embedder, tmp_path: Path, scopes: list[str], groups: list[str] | None, limit: int
) -> None:
    tables = await Tables.open(str(tmp_path / "index"))
    where = Filter(scopes=scopes, groups=groups)
    vector = minilm.query(QUERY)

    words = [await tables.match(QUERY, where, limit) for _ in range(3)]
    near = await tables.nearest(minilm.generation, vector, where, limit)
    assert await tables.mirror(minilm.generation, minilm.dimensions) is None
    mirror = await tables.mirror(minilm.generation, minilm.dimensions)

    assert mirror is not None
    nearest = mirror.nearest(vector, where, limit)
    assert scores(nearest) == pytest.approx(scores(near), abs=1e-4)
    assert scores(words[2]) == pytest.approx(scores(words[0]), abs=1e-5)
    assert len(nearest) == min(limit, 12 * len(scopes) if groups else 24 * len(scopes))
    for match, _ in nearest:
        assert match.id.split("/")[0] in scopes
        assert groups is None or match.group in groups
    assert {match.id.split("/")[0] for match, _ in words[2]} <= set(scopes)


async def test_where_the_best_are_in_other_scopes_the_rest_is_read_from_the_disk(filled: HybridIndex) -> None:
    await filled.upsert([IndexRow(id=f"three/{n}", scope="three", text="parser " * 9) for n in range(20)])
    narrowed = {"scopes": ["one"], "mode": "lexical", "candidates": 3, "floor": 0.0}

    first = await filled.search("parser", **narrowed)  # type: ignore[arg-type]
    second = await filled.search("parser", **narrowed)  # type: ignore[arg-type]

    assert seen(second) == seen(first)
    assert len(second.hits) == 3


async def test_what_another_process_writes_is_found_at_once(
    filled: HybridIndex, tmp_path: Path, minilm: Embedder
) -> None:
    for _ in range(3):
        await filled.search(QUERY, scopes=["one"])
    other = HybridIndex(tmp_path / "index", Counting(minilm))
    await other.warm()
    await other.upsert([IndexRow(id="one/new", scope="one", text="Penguins live on ice.")])
    await other.delete(["one/0"])

    penguins = await filled.search("penguins on ice", scopes=["one"])
    parsers = await filled.search(QUERY, scopes=["one"], k=50, floor=0.0)

    assert penguins.hits[0].id == "one/new"
    assert "one/0" not in {hit.id for hit in parsers.hits}


async def test_an_index_that_was_dropped_and_filled_anew_shows_nothing_of_before(
    filled: HybridIndex, tmp_path: Path, minilm: Embedder
) -> None:
    for _ in range(3):
        await filled.search(QUERY, scopes=["one"])
    await filled.drop()
    await filled.upsert([IndexRow(id="one/new", scope="one", text="a parser reads the headers of http")])

    for _ in range(3):
        assert [hit.id for hit in (await filled.search(QUERY, scopes=["one"])).hits] == ["one/new"]


async def test_a_table_that_changes_while_it_is_read_is_not_answered_from_memory(
    filled: HybridIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await filled.search(QUERY, scopes=["one"], mode="lexical")
    changes = iter(range(100))
    monkeypatch.setattr(Tables, "_state", lambda *_: (next(changes), 0, frozenset()))
    monkeypatch.setattr(Mirror, "at", lambda *_: pytest.fail("an old state was looked into"))

    assert (await filled.search(QUERY, scopes=["one"], mode="lexical")).hits


async def test_a_large_table_is_read_once_it_has_stayed_the_same_for_a_while(
    filled: HybridIndex, minilm: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(lance, "SOON_READ_ROWS", 10)
    monkeypatch.setattr(lance, "monotonic", lambda: now)
    tables = await Tables.open(str(tmp_path / "index"))

    async def is_held() -> bool:
        return await tables.mirror(minilm.generation, minilm.dimensions) is not None

    assert [await is_held() for _ in range(3)] == [False, False, False]
    now += 4.0
    await filled.upsert([IndexRow(id="one/new", scope="one", text="Penguins live on ice.")])
    assert not await is_held()
    now += 4.0
    assert not await is_held()
    now += 2.0
    assert await is_held()


def many(count: int) -> tuple[pa.Table, Any]:
    """Rows of two scopes, in no order, with vectors that lie near each other in heaps, as those of texts do."""
    chance = numpy.random.default_rng(7)
    heaps = chance.standard_normal((200, 64))
    vectors = heaps[chance.integers(0, 200, count)] + 0.7 * chance.standard_normal((count, 64))
    vectors = (vectors / numpy.linalg.norm(vectors, axis=1, keepdims=True)).astype(numpy.float32)
    names = [str(number) for number in range(count)]
    rows = pa.table(
        {
            "id": names,
            "group": [str(number % 1_000) for number in range(count)],
            "extra": names,
            "scope": ["two" if number % 10 else "one" for number in range(count)],
            "_rowid": pa.array(chance.permutation(count) * 3, pa.uint64()),
        }
    )
    return rows, vectors


@pytest.mark.parametrize("where", [{"scopes": ["one", "two"]}, {"scopes": ["two"]}, {"scopes": ["one"]}])
def test_of_many_vectors_the_nearest_are_found_without_comparing_all(where: dict[str, list[str]]) -> None:
    rows, vectors = many(60_000)
    mirror = Mirror.of(rows, vectors, {})
    right = found = 0
    for number in range(0, 60_000, 3_000):
        cosines = vectors @ vectors[number]
        allowed = [place for place in range(60_000) if ("two" if place % 10 else "one") in where["scopes"]]
        best = sorted(allowed, key=lambda place: -cosines[place])[:50]
        nearest = mirror.nearest(vectors[number], Filter(**where), 50)
        assert scores(nearest) == sorted(scores(nearest), reverse=True)
        for match, score in nearest:
            assert score == pytest.approx(float(cosines[int(match.id)]), abs=1e-5)
        right += len({match.id for match, _ in nearest} & {str(place) for place in best})
        found += len(nearest)
        if number % 10 and "two" in where["scopes"]:
            assert nearest[0][0].id == str(number)
    assert found == 20 * 50
    assert right >= 0.95 * found


def test_rows_of_two_mirrors_are_held_once() -> None:
    rows, vectors = many(100)
    first = Mirror.of(rows, None, {})
    changed = rows.set_column(1, "group", pa.array(["other"] + ["0"] * 99))

    second = Mirror.of(rows, vectors, {match.id: match for match in first.matches})
    third = Mirror.of(changed, vectors, {match.id: match for match in first.matches})

    assert all(one is other for one, other in zip(first.matches, second.matches, strict=True))
    assert {match.group for match in third.matches} == {"other", "0"}
