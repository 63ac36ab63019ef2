"""The hybrid index over real tables and the real model."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import anyio
import lancedb
import numpy
import pytest
from counting import Counting
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from usrland.embedding import Embedder, Vectors
from usrland.errors import Unavailable
from usrland.search import HybridIndex, IndexRow


class Model(Embedder, Protocol):
    embedded: list[str]


TEXTS = {
    "refund": "Customers are reimbursed within five working days of a cancellation.",
    "parser": "def parseHttpRequest(stream): read the header, then the body",
    "rain": "Rain is expected in the north, with strong winds along the coast.",
}


def rows(scope: str = "main") -> list[IndexRow]:
    return [IndexRow(id=f"{scope}/{key}", scope=scope, text=text, extra=key) for key, text in TEXTS.items()]


class Late:
    """A model that takes until `come` to load."""

    generation = "late"
    dimensions = 384
    ready = False

    def __init__(self, minilm: Embedder) -> None:
        self.come = threading.Event()
        self.documents = minilm.documents
        self.query = minilm.query

    def load(self) -> None:
        self.come.wait(60)


async def test_words_find_what_they_name_while_the_model_is_loading(tmp_path: Path, minilm: Embedder) -> None:
    before = HybridIndex(tmp_path, minilm)
    await before.upsert(rows())
    await before.embed_pending()
    late = Late(minilm)

    answer = await HybridIndex(tmp_path, late, model_seconds=0.01).search("http request", scopes=["main"])
    late.come.set()

    assert [hit.extra for hit in answer.hits] == ["parser"]
    assert answer.degraded == "the embedding model is still loading: these are matches by words alone."


async def test_where_nothing_has_a_vector_yet_no_search_waits_for_the_model(
    tmp_path: Path, minilm: Embedder
) -> None:
    late = Late(minilm)
    index = HybridIndex(tmp_path, late, model_seconds=50)
    assert (await index.search("http request", scopes=["main"])).degraded is None
    await index.upsert(rows())

    with anyio.fail_after(30):
        answer = await index.search("http request", scopes=["main"])
    late.come.set()

    assert [hit.extra for hit in answer.hits] == ["parser"]
    assert answer.degraded == "3 of 3 passages wait for their vectors and are found by words alone."


async def test_the_first_search_of_a_process_waits_for_the_model(
    index: HybridIndex, model: Model, tmp_path: Path
) -> None:
    await index.upsert(rows())
    await index.embed_pending()
    anew = HybridIndex(tmp_path / "index", Counting(model))

    answer = await anew.search("How do I get my money back?", scopes=["main"])

    assert (answer.hits[0].extra, answer.degraded) == ("refund", None)


async def test_meaning_finds_a_paraphrase_that_words_miss(index: HybridIndex) -> None:
    await index.warm()
    await index.upsert(rows())
    question = "How do I get my money back?"

    by_words = await index.search(question, scopes=["main"], mode="lexical")
    together = await index.search(question, scopes=["main"])

    assert by_words.hits == []
    assert together.hits[0].extra == "refund"
    assert together.hits[0].lexical is None
    assert together.degraded is None


async def test_nothing_relevant_is_an_answer(index: HybridIndex) -> None:
    await index.warm()
    await index.upsert(rows())

    for query in ("photosynthesis of deep sea algae", "", '((( * " AND', "\0"):
        assert (await index.search(query, scopes=["main"])).hits == [], query


async def test_rows_written_before_the_model_came_are_embedded_later(index: HybridIndex, model: Model) -> None:
    await index.upsert(rows())
    await index.warm()

    partly = await index.search("get money back", scopes=["main"])
    embedded = await index.embed_pending()
    wholly = await index.search("get money back", scopes=["main"])

    assert partly.degraded is not None
    assert partly.degraded.startswith("3 of 3")
    assert embedded == 3
    assert (wholly.hits[0].extra, wholly.degraded) == ("refund", None)
    assert await index.embed_pending() == 0
    assert len(model.embedded) == 3


async def test_the_same_text_is_embedded_once_whatever_row_it_is_in(index: HybridIndex, model: Model) -> None:
    await index.warm()
    await index.upsert(rows("one"))
    await index.upsert(rows("two"))

    answer = await index.search("reimbursed after cancelling", scopes=["two"])

    assert [hit.id for hit in answer.hits] == ["two/refund"]
    assert len(model.embedded) == 3


async def test_a_changed_text_takes_the_place_of_the_old_one(index: HybridIndex) -> None:
    await index.warm()
    await index.upsert(rows())
    await index.upsert([IndexRow(id="main/refund", scope="main", text="Penguins live on ice.", extra="penguin")])

    assert (await index.search("money back after a cancellation", scopes=["main"])).hits == []
    assert (await index.search("antarctic birds", scopes=["main"])).hits[0].extra == "penguin"
    assert await index.count() == 3


async def test_a_changed_text_is_never_found_by_the_meaning_of_the_old_one(index: HybridIndex) -> None:
    await index.warm()
    await index.upsert(rows())
    await index.upsert([IndexRow(id="main/refund", scope="main", text="Penguins live on ice.")], embed=False)

    answer = await index.search("money back after a cancellation", scopes=["main"])

    assert answer.hits == []
    assert answer.degraded is not None
    assert answer.degraded.startswith("1 of 3")


async def test_a_deleted_row_is_gone_from_both_sides(index: HybridIndex) -> None:
    await index.warm()
    await index.upsert(rows())

    await index.delete(["main/refund", "never there"])

    assert (await index.search("reimbursed cancellation", scopes=["main"])).hits == []
    assert (await index.sizes()).rows == (await index.sizes()).vectors == 2


async def test_rows_are_searched_and_removed_by_group(index: HybridIndex) -> None:
    await index.warm()
    await index.upsert(
        [IndexRow(id=f"{number}", scope="s", group=f"file {number}", text=TEXTS["rain"]) for number in range(4)]
    )

    within = await index.search("windy weather", scopes=["s"], groups=["file 1", "file 3"])
    await index.delete_groups(["file 1"])
    after = await index.search("windy weather", scopes=["s"])

    assert [hit.group for hit in within.hits] == ["file 1", "file 3"]
    assert [hit.id for hit in after.hits] == ["0", "2", "3"]
    assert (await index.search("windy weather", scopes=["s"], groups=[])).hits == []


@pytest.mark.parametrize("hostile", ["x' OR scope = 'globex", "' OR 1=1 --", "globex\0", "%", "glob*", ""])
async def test_a_scope_is_compared_and_never_interpreted(index: HybridIndex, hostile: str) -> None:
    await index.warm()
    await index.upsert(rows("globex"))
    await index.upsert([IndexRow(id=hostile, scope="mine", text=TEXTS["rain"])])

    assert (await index.search("rain and wind", scopes=[hostile])).hits == []
    assert [hit.id for hit in (await index.search("rain and wind", scopes=["mine"])).hits] == [hostile]
    await index.delete([hostile])
    assert await index.count() == 3


async def test_any_id_comes_back_as_it_went_in(index: HybridIndex) -> None:
    ids = _some_ids()
    await index.upsert([IndexRow(id=key, scope="s", text="walrus") for key in ids])

    found = [
        hit.id for key in ids for hit in (await index.search("walrus", scopes=["s"], groups=None, k=500)).hits[:1]
    ]

    assert set(found) <= set(ids)
    assert await index.count() == len(ids)
    await index.delete(ids)
    assert await index.count() == 0


def _some_ids() -> list[str]:
    seen: set[str] = set()

    @settings(max_examples=60, database=None, derandomize=True)
    @given(st.text(min_size=1, max_size=30))
    def collect(text: str) -> None:
        if text.isprintable():
            seen.add(text)

    collect()
    return sorted(seen)


async def test_a_model_that_cannot_be_loaded_leaves_search_by_words(tmp_path: Path, minilm: Embedder) -> None:
    class Broken:
        generation = "broken"
        dimensions = 3
        ready = False
        documents = minilm.documents
        query = minilm.query

        def load(self) -> None:
            raise Unavailable("the model's file is not the one we know.")

    index = HybridIndex(tmp_path, Broken())
    await index.warm()
    await index.upsert(rows())

    answer = await index.search("strong winds", scopes=["main"], mode="semantic")

    assert [hit.extra for hit in answer.hits] == ["rain"]
    assert answer.degraded == "the model's file is not the one we know: these are matches by words alone."
    assert await index.embed_pending() == 0


async def test_a_new_generation_starts_empty_and_never_mixes(
    tmp_path: Path, model: Model, minilm: Embedder
) -> None:
    first = HybridIndex(tmp_path, model)
    await first.warm()
    await first.upsert(rows())
    model.generation = "another"  # type: ignore[misc]  # the fixture's own class allows it
    second = HybridIndex(tmp_path, model)

    assert (await second.sizes()).vectors == 0
    assert await second.embed_pending() == 3
    assert len(model.embedded) == 6


def generations(folder: Path) -> set[str]:
    return {path.name.split(".")[0] for path in folder.glob("vectors16-*")}


async def test_the_model_before_answers_until_the_new_one_has_read_everything(
    tmp_path: Path, minilm: Embedder
) -> None:
    class Other:
        generation = "other"
        dimensions = 384
        ready = True
        documents = minilm.documents

        def load(self) -> None: ...

        def query(self, text: str) -> Vectors:
            return minilm.query(text)

    question = "how do I get my money back"
    old = HybridIndex(tmp_path, minilm)
    await old.upsert(rows(), embed=False)
    await old.embed_pending()
    index = HybridIndex(tmp_path, Other())

    before = await index.search(question, scopes=["main"], mode="semantic")
    await index.embed_pending()
    after = await index.search(question, scopes=["main"], mode="semantic")
    kept = await old.search(question, scopes=["main"], mode="semantic")
    await index.embed_pending()

    assert [hit.extra for hit in before.hits] == [hit.extra for hit in after.hits] == ["refund"]
    assert before.degraded is not None
    assert before.degraded.startswith("a new embedding model has read 0 of 3 passages")
    assert after.degraded is None
    assert [hit.extra for hit in kept.hits] == ["refund"]
    assert generations(tmp_path) == {"vectors16-other"}


class Random:
    """The vector of "number 7" is the seventh of all."""

    generation = "random"
    dimensions = 32
    ready = True

    def load(self) -> None: ...

    def documents(self, texts: Sequence[str]) -> Vectors:
        return numpy.stack([self.query(text) for text in texts])

    def query(self, text: str) -> Vectors:
        vector = numpy.random.default_rng(int(text.split()[1])).normal(size=32).astype(numpy.float32)
        return vector / numpy.linalg.norm(vector)


def numbered(numbers: Iterable[int]) -> list[IndexRow]:
    return [IndexRow(id=text, scope="main", group=text, text=text) for text in map("number {}".format, numbers)]


async def test_a_search_where_nothing_was_ever_written_opens_nothing(tmp_path: Path, minilm: Embedder) -> None:
    index = HybridIndex(tmp_path / "index", minilm)

    before = await index.search("money back", scopes=["main"])
    opened = index.is_open
    await index.upsert(rows())
    after = await index.search("money back", scopes=["main"])

    assert (before.hits, before.degraded, opened) == ([], None, False)
    assert [hit.extra for hit in after.hits][:1] == ["refund"]


async def test_many_vectors_are_found_through_an_index_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usrland.search.lance.MIN_FOR_INDEX", 500)
    numbers = [f"number {number}" for number in range(600)]
    index = HybridIndex(tmp_path, Random())
    await index.upsert(numbered(range(600)), embed=False)
    await index.embed_pending()
    kinds = [each.index_type for each in await (await index._open())._vectors["random"].list_indices()]
    found = [await index.search(text, scopes=["main"], mode="semantic", k=1) for text in numbers[::60]]
    narrowed = await index.search("number 7", scopes=["main"], groups=["number 8"], mode="semantic", floor=0.0)

    assert sorted(kinds) == ["Bitmap", "IvfSq"]
    assert [answer.hits[0].id for answer in found] == numbers[::60]
    assert [hit.id for hit in narrowed.hits] == ["number 8"]


async def test_what_is_new_is_joined_with_the_index_of_many_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usrland.search.lance.MIN_FOR_INDEX", 500)
    monkeypatch.setattr("usrland.search.lance.MOST_INDICES", 3)
    index = HybridIndex(tmp_path, Random())
    await index.upsert(numbered(range(600)), embed=False)
    await index.embed_pending()
    tables = await index._open()
    kept = []
    for number in range(600, 607):
        await index.upsert(numbered([number]), embed=number % 2 == 0)
        await index.embed_pending()
        await index.optimise()
        table = await tables._vector_table("random", 32)
        statistics = await table.index_stats("vector_idx")
        assert statistics is not None
        kept.append((statistics.num_indices, statistics.num_unindexed_rows))
    found = [await index.search(f"number {number}", scopes=["main"], mode="semantic", k=1) for number in (0, 606)]

    assert max(count or 0 for count, _ in kept) <= 3, kept
    assert {waiting for _, waiting in kept} == {0}
    assert [answer.hits[0].id for answer in found] == ["number 0", "number 606"]


async def test_what_takes_long_to_tidy_up_is_tidied_up_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usrland.search.index.KEEP_VERSIONS", timedelta(milliseconds=1))
    index = HybridIndex(tmp_path, None)
    tables = await index._open()
    kept = []
    for rest in (1e9, 0.0):
        monkeypatch.setattr("usrland.search.index.SETTLE_REST", rest)
        for number in range(2):
            await index.upsert(numbered([number]))
            written = await tables.versions()
            await index.settle()
            kept.append(await tables.versions() < written)
        index._settled_until = 0.0

    assert kept == [True, False, True, True]


async def test_rows_that_go_while_vectors_are_made_keep_no_other_from_having_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usrland.search.index.READ_ROWS", 4)
    monkeypatch.setattr("usrland.search.index.EMBED_BATCH", 2)
    monkeypatch.setattr("usrland.search.index.COMMIT_ROWS", 2)
    index = HybridIndex(tmp_path, Random())
    await index.upsert(numbered(range(10)), embed=False)
    told = []

    async def progress(done: int, total: int) -> None:
        told.append((done, total))
        if done == 2:
            await index.delete(["number 4"])

    await index.embed_pending(progress)
    sizes = await index.sizes()

    assert told == [(2, 10), (4, 10), (6, 10), (8, 10), (10, 10)]
    assert (sizes.rows, sizes.vectors) == (9, 9)


async def test_workers_make_the_same_vectors(tmp_path: Path, minilm: Embedder) -> None:
    alone, spread = HybridIndex(tmp_path / "alone", minilm), HybridIndex(tmp_path / "spread", minilm)
    for index in (alone, spread):
        await index.upsert(rows(), embed=False)

    made = await alone.embed_pending(), await spread.embed_pending(workers=2)

    found = [await index.search("money back", scopes=["main"], mode="semantic") for index in (alone, spread)]
    assert made == (3, 3)
    assert found[0].degraded is None
    assert found[0] == found[1]


async def test_a_killed_embedding_goes_on_where_it_was(
    tmp_path: Path, model: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usrland.search.index.EMBED_BATCH", 1)
    monkeypatch.setattr("usrland.search.index.COMMIT_ROWS", 1)
    index = HybridIndex(tmp_path, model)
    await index.upsert(rows(), embed=False)

    async def stop(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        await index.embed_pending(stop)
    left = await index.embed_pending()

    assert left == 2
    assert sorted(model.embedded) == sorted(TEXTS.values())


async def test_dropping_empties_it_for_a_rebuild(index: HybridIndex) -> None:
    await index.warm()
    await index.upsert(rows())

    await index.drop()

    assert (await index.sizes()).rows == (await index.sizes()).vectors == 0
    await index.upsert(rows())
    assert (await index.search("reimbursed", scopes=["main"])).hits[0].extra == "refund"


@pytest.mark.parametrize("part", ["_versions", "data", "_indices"])
async def test_tables_that_cannot_be_read_are_made_anew(
    index: HybridIndex, tmp_path: Path, model: Model, part: str
) -> None:
    await index.warm()
    await index.upsert(rows())
    damaged = [file for file in (tmp_path / "index").rglob("*") if part in file.parts and file.is_file()]
    for file in damaged:
        file.write_bytes(bytes(file.stat().st_size))
    other = HybridIndex(tmp_path / "index", model)

    async def found() -> list[str]:
        return [hit.extra for hit in (await other.search("reimbursed", scopes=["main"])).hits]

    assert damaged
    with suppress(Unavailable):  # the first to meet it may be told so
        await found()
    await other.upsert(rows())
    assert await found() == ["refund"]
    assert (await index.sizes()).rows == len(TEXTS)


async def test_what_was_written_is_on_the_disk(
    index: HybridIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.add(str(Path(f"/proc/self/fd/{fd}").readlink())), real(fd))
    )
    await index.upsert(rows())

    tables = [path for path in (tmp_path / "index").iterdir() if path.is_dir()]
    written = {str(path) for table in tables for path in table.rglob("*") if path.is_file()}
    assert written
    assert written <= synced
    assert {str(Path(path).parent) for path in written} <= synced


async def test_another_handle_sees_every_write_at_once(index: HybridIndex, tmp_path: Path, model: Model) -> None:
    reader = HybridIndex(tmp_path / "index", model)
    await index.warm()
    assert (await reader.search("reimbursed", scopes=["main"])).hits == []

    await index.upsert(rows())
    found = await reader.search("reimbursed", scopes=["main"])
    await index.delete(["main/refund"])
    gone = await reader.search("reimbursed", scopes=["main"])

    assert [hit.extra for hit in found.hits] == ["refund"]
    assert gone.hits == []


async def test_many_small_writes_leave_few_files(
    tmp_path: Path, index: HybridIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usrland.search.lance.WRITES_BETWEEN", 5)
    for number in range(13):
        await index.upsert([IndexRow(id=str(number), scope="main", text=f"The ferry left pier {number}.")])
    database = await lancedb.connect_async(tmp_path / "index")
    for name in (await database.list_tables()).tables:
        statistics = await (await database.open_table(name)).stats()
        assert statistics["fragment_stats"]["num_fragments"] <= 6, name


@pytest.mark.parametrize("by_words", [False, True])
async def test_what_lance_keeps_of_every_version_goes_with_the_connection(
    tmp_path: Path, index: HybridIndex, model: Model, monkeypatch: pytest.MonkeyPatch, *, by_words: bool
) -> None:
    monkeypatch.setattr("usrland.search.lance.VERSIONS_PER_CONNECTION", 3)
    made, real = [], lancedb.connect_async

    async def connect(*arguments: Any, **options: Any) -> Any:
        made.append(await real(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(lancedb, "connect_async", connect)
    reader = HybridIndex(tmp_path / "index", None if by_words else model)
    groups, read = [""] if by_words else None, 0
    for number in range(8):
        await index.upsert([IndexRow(id=str(number), scope="main", text=f"The ferry left pier {number}.")])
        for each in (index, reader):
            before = len(made)
            answer = await each.search(f"ferry pier {number}", scopes=["main"], groups=groups, k=20)
            read += len(made) - before if each is reader else 0
            assert len(answer.hits) == number + 1
            assert answer.hits[0].id == str(number)
    assert len(made) > 4
    assert read > 2


@pytest.mark.parametrize("kept", [0, 599])
async def test_deleted_text_can_be_taken_off_the_disk(tmp_path: Path, index: HybridIndex, kept: int) -> None:
    def on_disk(word: bytes) -> bool:
        return any(word in path.read_bytes() for path in (tmp_path / "index").rglob("*") if path.is_file())

    ids = [f"{number}" for number in range(600)]
    await index.upsert([IndexRow(id=key, scope="s", text=f"marker of quetzal{key}") for key in ids])
    await index.delete(ids[kept:])
    assert on_disk(b"quetzal599")

    await index.optimise(forget=True)

    assert not on_disk(b"quetzal599")
    assert await index.count() == kept
    assert [hit.id for hit in (await index.search("quetzal5", scopes=["s"], k=1)).hits] == ["5"][:kept]


async def test_a_writer_waits_for_its_turn_and_says_when_it_never_came(
    tmp_path: Path, index: HybridIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    await index.upsert(rows())
    monkeypatch.setattr("usrland.search.index.LOCK_SECONDS", 0.05)

    with FileLock(tmp_path / "index" / "write.lock"), pytest.raises(Unavailable, match="another process"):
        await index.delete(["main/rain"])

    await index.delete(["main/rain"])
    assert await index.count() == 2


WRITER = """
import anyio, sys
from pathlib import Path
from usrland.search import HybridIndex, IndexRow

async def main():
    index = HybridIndex(Path(sys.argv[1]), None)
    for start in range(0, 60, 5):
        await index.upsert([IndexRow(id=f"{n}", scope="s", text=f"walrus {n}") for n in range(start, start + 5)])
        print(start, flush=True)

anyio.run(main)
"""


async def test_two_processes_that_write_the_same_rows_leave_each_once(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    command = [sys.executable, "-c", WRITER, str(folder)]
    writers = [await anyio.open_process(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [await writer.wait() for writer in writers] == [0, 0]

    assert await HybridIndex(folder, None).count() == 60


async def test_a_writer_killed_half_way_leaves_whole_batches_and_no_lock(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    async with await anyio.open_process([sys.executable, "-c", WRITER, str(folder)]) as writer:
        assert writer.stdout is not None
        told = b""
        while told.count(b"\n") < 3:
            told += await writer.stdout.receive()
        writer.kill()

    index = HybridIndex(folder, None)
    count = await index.count()
    await index.upsert([IndexRow(id=f"{n}", scope="s", text=f"walrus {n}") for n in range(60)])

    assert count >= 15
    assert count % 5 == 0
    assert await index.count() == 60
